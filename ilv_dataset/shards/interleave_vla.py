"""Writes one shard's RLDS records as the trainers of Interleave-VLA read them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image

from ilv_dataset.crops import CROP_SIZE_PX, decode_image, encode_jpeg
from ilv_dataset.dataset_specs import DatasetSpec
from ilv_dataset.episodes import IndexedSpan
from ilv_dataset.errors import RecordError
from ilv_dataset.formats.example import BytesValues, Example, Values, parse_example
from ilv_dataset.formats.interleave_vla import (
    Features,
    MappedSteps,
    Provenance,
    encode_record,
    picture_instruction,
)
from ilv_dataset.formats.tables import EpisodeRow
from ilv_dataset.robot_actions import fit_length, kept_steps, map_parts


def convert_span(
    indexed: IndexedSpan,
    row: EpisodeRow,
    payload: bytes,
    *,
    text: str,
    spec: DatasetSpec,
    max_images: int,
) -> Features:
    """The features of one span's record; its frames are the only pixels in memory, one at a time.

    Args:
        payload: the record of the whole episode.
        text: what the phrases of `row` index.

    Raises: RecordError undecodable-image; features-mismatch where an optional feature is missing.
    """
    example = parse_example(payload)
    pictured = picture_instruction(row, text, max_images=max_images)
    steps = _map_steps(indexed, row, example, spec)
    provenance = Provenance(
        file_path=_file_path(example) or row.episode_id,
        camera=spec.cameras[0].key,
        state_kind=spec.state_kind,
        rotation=spec.rotation,
    )
    return encode_record(row, pictured, steps, provenance)


def resize_frame(data: bytes, *, channel_order: str = "rgb") -> bytes:
    """Decodes a frame and encodes it as a JPEG of 224 x 224 RGB, quality 95.

    The sides change independently of each other, by bicubic interpolation, as in the published
    converter: `Image.resize` with its defaults.

    Raises: RecordError undecodable-image.
    """
    picture = Image.fromarray(decode_image(data, channel_order=channel_order))
    resized = picture.resize((CROP_SIZE_PX, CROP_SIZE_PX), Image.Resampling.BICUBIC)
    return encode_jpeg(np.asarray(resized))


def _map_steps(
    indexed: IndexedSpan, row: EpisodeRow, example: Example, spec: DatasetSpec
) -> MappedSteps:
    """The steps of a span; what adds up over steps does so from the episode's first."""
    num_steps = indexed.num_steps
    kept = kept_steps(row.step_start, row.step_end, drop_first_step=spec.drop_first_step)
    span = slice(kept.start, kept.stop)
    keys = {part.key for part in (*spec.action, *spec.state) if part.key}
    values = {key: _numbers(example, f"steps/{key}").reshape(num_steps, -1) for key in keys}
    actions = map_parts(spec.action, values, num_steps=num_steps)
    states = map_parts(spec.state, values, num_steps=num_steps)
    is_end = np.arange(num_steps) == num_steps - 1
    return MappedSteps(
        steps=kept,
        frames=tuple(_resize_frames(example, kept, spec)),
        actions=actions[span],
        states=fit_length(states)[span],
        # Where a source says nothing of these, what holds for demonstrations.
        is_terminal=_scalars(example, "is_terminal", is_end)[span] != 0,
        rewards=_scalars(example, "reward", is_end)[span],
        discounts=_scalars(example, "discount", np.ones(num_steps))[span],
    )


def _resize_frames(example: Example, steps: Iterable[int], spec: DatasetSpec) -> Iterable[bytes]:
    camera = spec.cameras[0]
    frames = _values(example, f"steps/{camera.key}")
    assert isinstance(frames, BytesValues)  # check_features saw to it
    for step in steps:
        try:
            yield resize_frame(frames[step], channel_order=camera.channel_order)
        except RecordError as error:
            message = f"{camera.key} of step {step}: {error}"
            raise RecordError(error.reason, message) from error


def _numbers(example: Example, path: str) -> np.ndarray:
    values = _values(example, path)
    assert isinstance(values, np.ndarray)  # check_spec and check_features saw to it
    return values


def _values(example: Example, path: str) -> Values:
    """Raises: RecordError features-mismatch: a record may lack an optional feature."""
    values = example.get(path)
    if values is None:
        raise RecordError("features-mismatch", f"the record has no {path}")
    return values


def _scalars(example: Example, name: str, default: np.ndarray) -> np.ndarray:
    """(T,) of a feature of the steps; `default` where the record has no one number a step."""
    values = example.get(f"steps/{name}")
    if isinstance(values, np.ndarray) and len(values) == len(default):
        return values
    return default


def _file_path(example: Example) -> str:
    """Where the source says that the episode was recorded; empty where it does not."""
    values = example.get("episode_metadata/file_path")
    if isinstance(values, BytesValues) and len(values) == 1:
        return values[0].decode("utf-8", "surrogateescape")
    return ""
