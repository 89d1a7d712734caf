"""The RLDS layout that the trainers of Interleave-VLA read: 224 x 224, 7-D, an instruction a step.

    steps/observation/{image, state}                  JPEG of 224 x 224, float32[7]
    steps/action                                      float32[7]
    steps/interleaved_instruction/{language_instruction, original_instruction, image_instruction,
                                   image_mask}        on every step, and nothing else beside them
    steps/{is_first, is_last, is_terminal, reward, discount}
    episode_metadata/...                              where it is from; one value each, for their
                                                      loader repeats it for every step

Their batches want equally many pictures in every step: what is missing is black, with a mask of
False. Source: Interleave-VLA/Interleave-VLA@5167583, tfds_dataset_builder/openx_interleave and
open-pi-zero/src/data/interleaved_dataset.py.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ilv_dataset.crops import CROP_SIZE_PX, encode_jpeg
from ilv_dataset.dataset_specs import VECTOR_LENGTH
from ilv_dataset.formats.example import Values
from ilv_dataset.formats.feature_json import (
    dataset_json,
    dict_json,
    jpeg_json,
    sequence_json,
    tensor_json,
)
from ilv_dataset.formats.tables import EpisodeRow, GroundedObject
from ilv_dataset.interleave import choose_pictured, interleave_instruction
from ilv_dataset.records import Phrase

GROUP = "steps/interleaved_instruction"
METADATA = "episode_metadata"
NO_STATE = "none"  # the state_kind where the states are zeros
_METADATA_DTYPES = {
    "camera": "string",
    "dataset": "string",
    "episode_id": "string",
    "file_path": "string",
    "objects": "string",
    "rotation": "string",
    "span": "int32",
    "state_kind": "string",
    "step_end": "int32",
    "step_start": "int32",
}

Features = dict[str, Sequence[bytes] | Values]


@dataclass(frozen=True, slots=True)
class PicturedInstruction:
    """What a span is told, with room for a fixed number of pictures."""

    language: str  # with a placeholder for each picture that is shown
    original: str
    images: tuple[bytes, ...]  # JPEG of 224 x 224, in the order of the placeholders; then black
    mask: tuple[bool, ...]  # False where black
    objects: tuple[GroundedObject, ...]  # what the pictures show


@dataclass(frozen=True, eq=False, slots=True)
class MappedSteps:
    """T steps as trainers want them, and which of the source's episode they are."""

    steps: range
    frames: tuple[bytes, ...]  # T JPEGs of 224 x 224
    actions: np.ndarray  # (T, 7) float32: x, y, z, roll, pitch, yaw, gripper 1 open
    states: np.ndarray  # (T, 7) float32
    is_terminal: np.ndarray  # (T,) bool
    rewards: np.ndarray  # (T,) float32
    discounts: np.ndarray  # (T,) float32

    def __post_init__(self) -> None:
        num = len(self.steps)
        for vectors in (self.actions, self.states):
            if vectors.shape != (num, VECTOR_LENGTH):
                raise ValueError(f"expected {(num, VECTOR_LENGTH)} numbers, got {vectors.shape}")
        for values in (self.frames, self.is_terminal, self.rewards, self.discounts):
            if len(values) != num:
                raise ValueError(f"expected {num} steps, got {len(values)}")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an episode is from and what its numbers are, beyond what its row says."""

    file_path: str  # the source's own, or else the episode_id
    camera: str  # whose frames the images are
    state_kind: str  # one of dataset_specs.STATE_KINDS
    rotation: str  # one of dataset_specs.ROTATIONS


def picture_instruction(row: EpisodeRow, text: str, *, max_images: int) -> PicturedInstruction:
    """The instruction of a span with at most `max_images` of its pictures; the others stay text.

    Args:
        text: what the phrases index: the instruction, or its summary.

    Raises: ValueError where the phrases are not those of `text`.
    """
    grounded = [found for found in row.objects if found.grounded]
    chosen = choose_pictured(row.span_id, len(grounded), max_images=max_images)
    phrases = [
        Phrase(found.phrase, found.start, found.end, found.query, found.kind)
        for found in (grounded[position] for position in chosen)
    ]
    num_black = max_images - len(chosen)
    return PicturedInstruction(
        language=interleave_instruction(text, phrases) if phrases else row.instruction,
        original=row.instruction,
        images=(*(row.images[position] for position in chosen), *[black_image()] * num_black),
        mask=(True,) * len(chosen) + (False,) * num_black,
        objects=tuple(grounded[position] for position in chosen),
    )


@functools.cache
def black_image() -> bytes:
    """The JPEG of a picture that is not there."""
    return encode_jpeg(np.zeros((CROP_SIZE_PX, CROP_SIZE_PX, 3), np.uint8))


def encode_record(
    row: EpisodeRow, pictured: PicturedInstruction, steps: MappedSteps, provenance: Provenance
) -> Features:
    """All features of one record, for `stream_example`; the pictures are not copied."""
    num_steps = len(steps.steps)
    positions = np.arange(num_steps)
    return {
        "steps/action": steps.actions,
        "steps/discount": steps.discounts.astype(np.float32),
        "steps/is_first": positions == 0,
        "steps/is_last": positions == num_steps - 1,
        "steps/is_terminal": steps.is_terminal,
        "steps/observation/image": steps.frames,
        "steps/observation/state": steps.states,
        "steps/reward": steps.rewards.astype(np.float32),
        **encode_pictured(pictured, num_steps=num_steps),
        **encode_row(row, pictured),
        f"{METADATA}/camera": [provenance.camera.encode()],
        f"{METADATA}/file_path": [provenance.file_path.encode("utf-8", "surrogateescape")],
        f"{METADATA}/rotation": [provenance.rotation.encode()],
        f"{METADATA}/state_kind": [(provenance.state_kind or NO_STATE).encode()],
        f"{METADATA}/step_end": np.array([steps.steps.stop]),
        f"{METADATA}/step_start": np.array([steps.steps.start]),
    }


def encode_pictured(pictured: PicturedInstruction, *, num_steps: int) -> Features:
    """The instruction, once a step."""
    lengths = np.full(num_steps, len(pictured.images))
    return {
        f"{GROUP}/language_instruction": [pictured.language.encode()] * num_steps,
        f"{GROUP}/original_instruction": [pictured.original.encode()] * num_steps,
        f"{GROUP}/image_instruction/ragged_flat_values": list(pictured.images) * num_steps,
        f"{GROUP}/image_instruction/ragged_row_lengths_0": lengths,
        f"{GROUP}/image_mask/ragged_flat_values": np.tile(pictured.mask, num_steps),
        f"{GROUP}/image_mask/ragged_row_lengths_0": lengths,
    }


def encode_row(row: EpisodeRow, pictured: PicturedInstruction) -> Features:
    """The metadata that follow from a row of the episodes table; its masks stay there."""
    objects = [_describe_object(found) for found in pictured.objects]
    return {
        f"{METADATA}/dataset": [row.dataset.encode()],
        f"{METADATA}/episode_id": [row.episode_id.encode()],
        f"{METADATA}/objects": [json.dumps(objects, ensure_ascii=False).encode()],
        f"{METADATA}/span": np.array([row.span]),
    }


def features_json() -> str:
    """features.json of the layout, the same for every dataset."""
    picture = jpeg_json(CROP_SIZE_PX, CROP_SIZE_PX)
    instruction = {
        "language_instruction": tensor_json("string"),
        "original_instruction": tensor_json("string"),
        "image_instruction": sequence_json(picture),
        "image_mask": sequence_json(tensor_json("bool")),
    }
    vector = tensor_json("float32", (VECTOR_LENGTH,))
    step = {
        "action": vector,
        "interleaved_instruction": dict_json(instruction),
        "observation": dict_json({"image": picture, "state": vector}),
        **{name: tensor_json("bool") for name in ("is_first", "is_last", "is_terminal")},
        **{name: tensor_json("float32") for name in ("reward", "discount")},
    }
    metadata = {name: tensor_json(dtype) for name, dtype in _METADATA_DTYPES.items()}
    content = dict_json({"steps": dataset_json(dict_json(step)), METADATA: dict_json(metadata)})
    return json.dumps(content, indent=4, sort_keys=True) + "\n"


def _describe_object(found: GroundedObject) -> Mapping[str, object]:
    """Where a picture was cut out; boxes and scores as they were rounded."""
    box, score = found.box_xyxy, found.box_score
    return {
        "phrase": found.phrase,
        "kind": found.kind,
        "camera": found.camera,
        "frame_index": found.frame_index,
        "box_xyxy": None if box is None else [round(edge, 1) for edge in box],
        "box_score": None if score is None else round(score, 3),
        "method": found.method,
        "verdict": found.verdict,
        "verifier": found.verifier,
        "source": found.source,
    }
