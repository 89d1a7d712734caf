"""The values that flow between the steps: keys, spans, phrases, frames, detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ilv_dataset.fields import VERDICTS
from ilv_dataset.masks import FrameMasks

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels, max edge exclusive


@dataclass(frozen=True, order=True, slots=True)
class ShardKey:
    """Names one shard of a split; stable across runs, groups elements in Beam."""

    split: str
    index: int
    num_shards: int

    @property
    def name(self) -> str:
        """File stem of everything written for this shard, e.g. `train-00012-of-01024`."""
        return f"{self.split}-{self.index:05d}-of-{self.num_shards:05d}"


@dataclass(frozen=True, slots=True)
class Phrase:
    """One object noun phrase of an instruction.

    `start` and `end` are code points of the text, end exclusive: text[start:end] == phrase.
    `query` is what the detector is asked; `kind` is one of `fields.KINDS`.
    """

    phrase: str
    start: int
    end: int
    query: str
    kind: str


@dataclass(frozen=True, slots=True)
class ParsedInstruction:
    """One row of the instructions table; `objects` index into `text`."""

    instruction: str
    text: str
    objects: tuple[Phrase, ...]
    status: str  # "parsed" or "rejected"
    reason: str  # "" or one of fields.REJECTED_REASONS
    extractor: str
    model: str = ""
    prompt_digest: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    fallback: str = ""  # one of fields.REPLY_FAULTS: why the grammar's objects are here


@dataclass(frozen=True, slots=True)
class Span:
    """A maximal run of steps of an episode with one instruction; end exclusive."""

    number: int
    step_start: int
    step_end: int
    instruction: bytes


@dataclass(frozen=True, eq=False)
class SourceObjects:
    """Objects that the dataset itself marks in one frame."""

    names: tuple[str, ...]
    boxes_xyxy: np.ndarray  # (N, 4) float32 pixels, max edge exclusive
    masks: np.ndarray | None  # (N, H, W) bool, or None where the dataset has boxes only

    def __post_init__(self) -> None:
        _check_shape("boxes_xyxy", self.boxes_xyxy, (len(self.names), 4))
        if self.masks is not None:
            _check_shape("masks", self.masks[:, :1, :1], (len(self.names), 1, 1))


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded image of a step, with channels in RGB order."""

    camera: str
    frame_index: int  # step in the episode
    image: np.ndarray  # (H, W, 3) uint8 RGB
    source_objects: SourceObjects | None = None


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector found in one frame: parallel arrays over N boxes.

    Boxes are rounded to 0.1 px and scores to 1e-3 before any threshold, so that equal
    inputs give equal outputs.
    """

    boxes_xyxy: np.ndarray  # (N, 4) float32 pixels inside the frame, max edge exclusive
    scores: np.ndarray  # (N,) float32, 0..1
    query_indices: np.ndarray  # (N,) int64 into the frame's queries
    masks: FrameMasks | None = None  # where the detector gives masks itself
    reasons: dict[int, str] = field(default_factory=dict)  # query index -> why it has no box

    def __post_init__(self) -> None:
        num = len(self.scores)
        _check_shape("boxes_xyxy", self.boxes_xyxy, (num, 4))
        _check_shape("query_indices", self.query_indices, (num,))
        if self.masks is not None and len(self.masks) != num:
            raise ValueError(f"masks must be ({num}, H, W), got {self.masks.shape}")

    def take(self, rows: np.ndarray) -> Detections:
        """Picks some boxes, rows (M,) int64, in their order; all reasons stay."""
        return Detections(
            self.boxes_xyxy[rows],
            self.scores[rows],
            self.query_indices[rows],
            None if self.masks is None else self.masks.take(rows),
            self.reasons,
        )

    @classmethod
    def empty(cls) -> Detections:
        """No boxes."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


@dataclass(frozen=True, eq=False)
class Masks:
    """What a segmenter cut out of one frame, one mask a box, in the order of the boxes."""

    # N of (H, W) bool, all False where nothing was found; see masks.FrameMasks for their memory.
    masks: np.ndarray | Sequence[np.ndarray]
    scores: np.ndarray  # (N,) float32, 0..1, the segmenter's own estimate; 1 where it has none

    def __post_init__(self) -> None:
        if len(self.masks) != len(self.scores):
            raise ValueError(f"{len(self.masks)} masks do not fit scores {self.scores.shape}")


@dataclass(frozen=True, slots=True)
class Sighting:
    """One place in a frame where a phrase may be seen, in figures."""

    camera: str
    frame_index: int  # step in the episode
    size_wh: tuple[int, int]  # of the frame, pixels
    box_xyxy: Box  # the detector's; the mask's where a key point was asked for
    box_score: float | None  # 0..1, the detector's; None where it gave no box
    rival_score: float  # 0..1, the best of another query's boxes at this place; 0 without any
    mask_box_xyxy: Box | None  # bounding box of the mask; None where there is no mask
    mask_area_px: int | None
    mask_score: float | None  # 0..1, the segmenter's own; None where it has none
    color_rgb: tuple[float, float, float]  # 0..255, mean of the mask's pixels, or of the box's


@dataclass(frozen=True, slots=True)
class Candidate:
    """A crop that may become the picture of a phrase: what a verifier is shown."""

    jpeg: bytes  # 224 x 224
    phrase: str  # what it should show; data, whatever it says
    sighting: Sighting
    earlier: tuple[Sighting, ...] = ()  # of the phrase in the span, none of them a match
    is_given: bool = False  # the dataset itself marks the object there


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier says of one candidate."""

    value: str  # one of fields.VERDICTS
    reason: str  # one line

    def __post_init__(self) -> None:
        if self.value not in VERDICTS:
            raise ValueError(f"verdict must be one of {', '.join(VERDICTS)}, got {self.value!r}")


def _check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} must be {shape}, got {array.shape}")
