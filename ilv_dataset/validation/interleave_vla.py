"""RLDS shards of the layout interleave-vla: each record against its row, its flags and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ilv_dataset.episodes import check_features
from ilv_dataset.errors import RecordError
from ilv_dataset.formats.example import BytesValues, Example, encode_example, parse_example
from ilv_dataset.formats.features import Feature
from ilv_dataset.formats.interleave_vla import (
    METADATA,
    encode_pictured,
    encode_row,
    picture_instruction,
)
from ilv_dataset.formats.tables import EpisodeRow
from ilv_dataset.records import ParsedInstruction, ShardKey
from ilv_dataset.validation.faults import Report
from ilv_dataset.validation.frames import FrameCheck, check_frames
from ilv_dataset.validation.manifests import Manifest
from ilv_dataset.validation.records import are_equal, read_examples
from ilv_dataset.validation.spans import written_rows

_FRAMES = "steps/observation/image"
_VECTORS = ("steps/action", "steps/observation/state")


def check_interleave_vla(
    manifest: Manifest,
    shard: ShardKey,
    features: Sequence[Feature] | None,
    report: Report,
    *,
    parsed: Mapping[str, ParsedInstruction] | None,
    deep: bool,
) -> None:
    """Checks one shard.

    Args:
        features: of features.json; None where that could not be read.
        parsed: the instructions table; None where the rows cannot be compared with.
        deep: decode every frame, not only the first of each record.
    """
    path = manifest.layout.rlds_shard(shard)
    rows = None if parsed is None else _Rows(manifest, shard)
    num_records = 0

    def frames() -> Iterator[FrameCheck]:
        nonlocal num_records
        for number, example in read_examples(path, report):
            num_records += 1
            place = f"record {number}"
            if features is None:
                continue
            try:
                num_steps = check_features(example, features)
            except RecordError as error:
                report.fault(path, str(error), place=place)
                continue
            messages = [*_step_faults(example, num_steps)]
            if parsed is not None and rows is not None:
                row = rows.find(_text(example, "episode_id"), _number(example, "span"))
                messages += _row_faults(example, row, parsed, manifest, num_steps)
            for message in messages:
                report.fault(path, message, place=place)
            yield from _frames(example, features, place, deep=deep)

    with report.reading(path):
        check_frames(path, frames(), report)
    marker = manifest.markers["rlds"].get(shard)
    counts = {} if marker is None else dict(marker.counts)
    expected = {"records": num_records, "undecodable": counts.get("undecodable")}
    if rows is not None and features is not None:
        expected["undecodable"] = rows.num_rows - rows.num_found
    if marker is not None and counts != expected:
        report.fault(path, f"has {expected}, its marker {counts}")
    report.checked["records"] += num_records


class _Rows:
    """The rows of the written spans of a shard, one in memory at a time.

    Some have no record: those with a frame that does not decode.
    """

    def __init__(self, manifest: Manifest, shard: ShardKey) -> None:
        path = manifest.layout.episodes(shard)
        named = written_rows(path, manifest, with_images=False)
        self._places = {(row.episode_id, row.span): at for at, row in enumerate(named)}
        self._rows = enumerate(written_rows(path, manifest, with_images=True))
        self._next = 0
        self.num_rows = len(self._places)
        self.num_found = 0

    def find(self, episode_id: str, span: int) -> EpisodeRow | None:
        """The row of a record; None where there is none behind that of the record before."""
        place = self._places.get((episode_id, span), -1)
        if place < self._next:
            return None
        self._next, self.num_found = place + 1, self.num_found + 1
        return next(row for at, row in self._rows if at == place)


def _row_faults(
    example: Example,
    row: EpisodeRow | None,
    parsed: Mapping[str, ParsedInstruction],
    manifest: Manifest,
    num_steps: int,
) -> Iterator[str]:
    if row is None:
        yield "no row of the episodes table belongs to it, or it is not in their order"
        return
    instruction = parsed.get(row.instruction)
    if instruction is None:  # a fault of the tables
        return
    try:
        pictured = picture_instruction(row, instruction.text, max_images=manifest.max_images)
    except (ValueError, IndexError) as error:
        yield f"{row.span_id} of the episodes table cannot be a record: {error}"
        return
    values = {**encode_pictured(pictured, num_steps=num_steps), **encode_row(row, pictured)}
    for path, expected in parse_example(encode_example(values)).items():
        found = example.get(path)
        if found is None or not are_equal(found, expected):
            yield f"{path} is not that of {row.span_id} in the episodes table"
    start, end = _number(example, "step_start"), _number(example, "step_end")
    # The first step of an episode may be dropped.
    if end != row.step_end or start not in (row.step_start, *([1] if row.step_start == 0 else [])):
        yield f"has the steps {start} to {end}, {row.span_id} {row.step_start} to {row.step_end}"
    elif num_steps != end - start:
        yield f"has {num_steps} steps, expected {end - start}"


def _step_faults(example: Example, num_steps: int) -> Iterator[str]:
    positions = np.arange(num_steps)
    for name, expected in (("is_first", positions == 0), ("is_last", positions == num_steps - 1)):
        if not np.array_equal(np.asarray(example[f"steps/{name}"]), expected):
            yield f"steps/{name} is not set at its end alone"
    for path in _VECTORS:
        if not np.isfinite(np.asarray(example[path])).all():
            yield f"{path} has a number that is not finite"


def _frames(
    example: Example, features: Sequence[Feature], place: str, *, deep: bool
) -> Iterator[FrameCheck]:
    values, (feature,) = example[_FRAMES], [f for f in features if f.path == _FRAMES]
    assert isinstance(values, BytesValues)  # check_features saw to it
    for position in range(len(values) if deep else min(1, len(values))):
        yield FrameCheck(f"{place}, {_FRAMES} {position}", values[position], shape=feature.shape)


def _text(example: Example, name: str) -> str:
    values = example[f"{METADATA}/{name}"]
    return values[0].decode("utf-8", "replace") if isinstance(values, BytesValues) else ""


def _number(example: Example, name: str) -> int:
    return int(np.asarray(example[f"{METADATA}/{name}"])[0])
