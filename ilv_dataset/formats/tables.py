"""Columns of the instructions, episodes and index tables, and their rows as values.

The same columns, for readers in other languages: schemas/instructions.v1.json and
schemas/episodes.v1.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from ilv_dataset.episodes import IndexedSpan, Probe
from ilv_dataset.formats.parquet import IMAGE, describe_schema
from ilv_dataset.records import ParsedInstruction, Phrase, Span

_PHRASE = [
    ("phrase", pa.string()),
    ("start", pa.int32()),
    ("end", pa.int32()),
    ("query", pa.string()),
    ("kind", pa.string()),
]

INSTRUCTIONS_SCHEMA = describe_schema(
    pa.schema(
        [
            ("instruction", pa.string()),
            ("text", pa.string()),
            ("objects", pa.list_(pa.struct(_PHRASE))),
            ("status", pa.string()),
            ("reason", pa.string()),
            ("extractor", pa.string()),
            ("model", pa.string()),
            ("prompt_digest", pa.string()),
            ("tokens_in", pa.int32()),
            ("tokens_out", pa.int32()),
            ("fallback", pa.string()),
        ]
    )
)

_OBJECT = [
    *_PHRASE,
    ("grounded", pa.bool_()),
    ("camera", pa.string()),
    ("frame_index", pa.int32()),
    ("box_xyxy", pa.list_(pa.float32())),
    ("box_score", pa.float32()),
    ("mask_rle", pa.string()),
    ("mask_score", pa.float32()),
    ("scale", pa.float32()),
    ("method", pa.string()),
    ("verdict", pa.string()),
    ("verifier", pa.string()),
    ("verdicts", pa.string()),
    ("frames_tried", pa.string()),
    ("reason", pa.string()),
    ("source", pa.string()),
]

EPISODES_SCHEMA = describe_schema(
    pa.schema(
        [
            ("episode_id", pa.string()),
            ("span", pa.int32()),
            ("dataset", pa.string()),
            ("split", pa.string()),
            ("source_shard", pa.string()),
            ("record_index", pa.int64()),
            ("step_start", pa.int32()),
            ("step_end", pa.int32()),
            ("instruction", pa.string()),
            ("interleaved", pa.string()),
            ("images", pa.list_(IMAGE)),
            ("objects", pa.list_(pa.struct(_OBJECT))),
            ("status", pa.string()),
            ("reason", pa.string()),
            ("message", pa.string()),
        ]
    )
)

INDEX_SCHEMA = pa.schema(
    [
        ("record_index", pa.int64()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("num_steps", pa.int32()),
        ("span", pa.int32()),
        ("step_start", pa.int32()),
        ("step_end", pa.int32()),
        ("instruction", pa.binary()),
        ("reason", pa.string()),
        ("message", pa.string()),
        (
            "probes",
            pa.list_(
                pa.struct(
                    [
                        ("camera", pa.string()),
                        ("step", pa.int32()),
                        ("offset", pa.int64()),
                        ("length", pa.int64()),
                    ]
                )
            ),
        ),
    ]
)


@dataclass(frozen=True, slots=True)
class GroundedObject:
    """What became of one phrase: where it was seen, or why it stays text."""

    phrase: str
    start: int  # code points of the instruction's text, end exclusive
    end: int
    query: str
    kind: str
    grounded: bool
    camera: str | None = None
    frame_index: int | None = None  # step in the episode
    box_xyxy: tuple[float, ...] | None = None  # pixels, max edge exclusive; a repair's: its mask's
    box_score: float | None = None  # 0..1
    mask_rle: str | None = None  # COCO RLE as JSON, see masks.py
    mask_score: float | None = None  # 0..1
    scale: float | None = None  # pixels of the crop a pixel of the frame
    method: str | None = None  # "detect" or "repair"
    verdict: str | None = None  # one of fields.VERDICTS, or fields.UNVERIFIED
    verifier: str | None = None
    verdicts: str | None = None  # JSON of all crops that were tried, see attempts.py
    frames_tried: str | None = None  # JSON of all frames that were looked at, likewise
    reason: str = ""  # "" or one of fields.OBJECT_REASONS
    source: str | None = None  # where the picture is from: "episode"


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """One row of the episodes table: one span, whatever became of it."""

    episode_id: str
    span: int
    dataset: str
    split: str
    source_shard: str
    record_index: int
    step_start: int
    step_end: int
    instruction: str
    interleaved: str
    images: tuple[bytes, ...]  # JPEG, in the order of the placeholders
    objects: tuple[GroundedObject, ...]
    status: str  # one of fields.STATUSES
    reason: str
    message: str = ""

    @property
    def span_id(self) -> str:
        """Unique in the dataset: `<episode_id>#<span>`."""
        return f"{self.episode_id}#{self.span}"


def encode_instruction(parsed: ParsedInstruction) -> dict[str, object]:
    """A row of the instructions table."""
    return asdict(parsed)


def decode_instruction(row: Mapping[str, Any]) -> ParsedInstruction:
    """Inverse of `encode_instruction`."""
    return ParsedInstruction(
        **{**row, "objects": tuple(Phrase(**phrase) for phrase in row["objects"])}
    )


def encode_episode(episode: EpisodeRow) -> dict[str, object]:
    """A row of the episodes table; pictures get the path that Hugging Face shows."""
    images = [
        {"bytes": jpeg, "path": f"{episode.span_id}-{position}.jpg"}
        for position, jpeg in enumerate(episode.images)
    ]
    return {**asdict(episode), "images": images}


def decode_episode(row: Mapping[str, Any]) -> EpisodeRow:
    """Inverse of `encode_episode`; without pictures and objects where the row has none."""
    objects = tuple(
        GroundedObject(**{**found, "box_xyxy": _tuple_or_none(found["box_xyxy"])})
        for found in row.get("objects", ())
    )
    images = tuple(image["bytes"] for image in row.get("images", ()))
    return EpisodeRow(**{**row, "images": images, "objects": objects})


def encode_indexed_span(indexed: IndexedSpan) -> dict[str, object]:
    """A row of a shard's index."""
    row = asdict(indexed)
    span = row.pop("span")
    return {**row, "span": span.pop("number"), **span}


def decode_indexed_span(row: Mapping[str, Any]) -> IndexedSpan:
    """Inverse of `encode_indexed_span`; without probes where the row has none."""
    fields = dict(row)
    span = Span(
        fields.pop("span"),
        fields.pop("step_start"),
        fields.pop("step_end"),
        fields.pop("instruction"),
    )
    probes = tuple(Probe(**probe) for probe in fields.pop("probes", ()))
    return IndexedSpan(**fields, span=span, probes=probes)


def _tuple_or_none(values: list[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)
