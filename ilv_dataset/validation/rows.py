"""The instructions and episodes tables: every row on its own, and against the index."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from ilv_dataset.attempts import Attempt, decode_attempts, decode_looks
from ilv_dataset.crops import CROP_SIZE_PX, decode_image
from ilv_dataset.episodes import IndexedSpan
from ilv_dataset.errors import RecordError
from ilv_dataset.fields import (
    FAILED_REASONS,
    IMAGE_PLACEHOLDER,
    KINDS,
    METHODS,
    OBJECT_REASONS,
    REJECTED_REASONS,
    STATUSES,
    TEXT_ONLY_REASONS,
    UNVERIFIED,
)
from ilv_dataset.formats.tables import EpisodeRow, GroundedObject
from ilv_dataset.interleave import interleave_instruction
from ilv_dataset.outputs import read_dicts, read_schema
from ilv_dataset.records import ParsedInstruction, Phrase
from ilv_dataset.validation.faults import Report

REASONS = {
    "interleaved": frozenset(("",)),
    "text_only": frozenset(TEXT_ONLY_REASONS),
    "rejected": frozenset(REJECTED_REASONS),
    "failed": frozenset(FAILED_REASONS),
}
# Only these may be null: an object without a crop has neither box nor camera.
_NULLABLE = frozenset(
    (
        "camera", "frame_index", "box_xyxy", "box_score", "mask_rle", "mask_score", "scale",
        "method", "verdict", "verifier", "verdicts", "frames_tried", "source",
    )
)  # fmt: skip


def check_schema(path: str, expected: pa.Schema, report: Report) -> bool:
    """Whether a table has the columns that it should have; a fault where it has not."""
    with report.reading(path):
        found = read_schema(path)
        if is_same_schema(found, expected):
            return True
        report.fault(path, _schema_fault(found, expected))
    return False


def is_same_schema(found: pa.Schema, expected: pa.Schema) -> bool:
    """Whether columns and metadata are equal; a list's element has another name in Parquet."""
    return found.equals(expected) and found.metadata == expected.metadata


def read_checked(path: str, report: Report) -> Iterator[tuple[int, dict[str, Any]]]:
    """Streams (row number, row) without rows that lack a value, each of which is a fault."""
    with report.reading(path):
        for number, row in enumerate(read_dicts(path)):
            missing = next(_missing_values("", row), None)
            if missing is None:
                yield number, row
            else:
                report.fault(path, f"{missing} is null", place=f"row {number}")


def instruction_faults(parsed: ParsedInstruction) -> Iterator[str]:
    """What is wrong with a row of the instructions table."""
    if parsed.status not in ("parsed", "rejected"):
        yield f"the status is {parsed.status!r}"
    if parsed.reason not in (REASONS["rejected"] if parsed.status == "rejected" else ("",)):
        yield f"the reason is {parsed.reason!r} and the status {parsed.status!r}"
    if (parsed.status == "parsed") != bool(parsed.objects):
        yield f"the status is {parsed.status!r} with {len(parsed.objects)} phrases"
    yield from _phrase_faults(parsed.objects, parsed.text)


def row_faults(row: EpisodeRow) -> Iterator[str]:
    """What is wrong with a row of the episodes table in itself, all but its pictures."""
    if row.episode_id != f"{row.source_shard}__{row.record_index}":
        yield f"the episode_id is not record {row.record_index} of {row.source_shard}"
    if row.status not in STATUSES or row.reason not in REASONS[row.status]:
        yield f"the reason is {row.reason!r} and the status {row.status!r}"
        return
    if row.status != "failed" and not 0 <= row.step_start < row.step_end:
        yield f"the span has the steps {row.step_start} to {row.step_end}"
    num_grounded = sum(found.grounded for found in row.objects)
    num_placeholders = row.interleaved.count(IMAGE_PLACEHOLDER)
    if not num_placeholders == len(row.images) == num_grounded:
        yield (
            f"{num_placeholders} placeholders, {len(row.images)} images and "
            f"{num_grounded} grounded objects"
        )
    if (row.status == "interleaved") != bool(row.images):
        yield f"the status is {row.status!r} with {len(row.images)} images"
    if row.status != "interleaved" and row.interleaved:
        yield f"the status is {row.status!r} with an interleaved instruction"
    if row.status in ("rejected", "failed") and row.objects:
        yield f"the status is {row.status!r} with {len(row.objects)} objects"
    for found in row.objects:
        yield from _object_faults(found, row)


def parsed_faults(row: EpisodeRow, parsed: ParsedInstruction | None) -> Iterator[str]:
    """Where a row is not what the instructions table makes of its instruction.

    Args:
        parsed: None where that table does not have the instruction.
    """
    if row.status == "failed":  # its instruction may be lost
        return
    if parsed is None:
        yield f"the instruction {row.instruction!r} is not in the instructions table"
        return
    if (parsed.status == "rejected") != (row.status == "rejected") or (
        row.status == "rejected" and parsed.reason != row.reason
    ):
        yield f"is {row.status}: {row.reason}, its instruction {parsed.status}: {parsed.reason}"
        return
    found = [(o.phrase, o.start, o.end, o.query) for o in row.objects]
    expected = [(p.phrase, p.start, p.end, p.query) for p in parsed.objects]
    if row.status != "rejected" and found != expected:
        yield f"has the phrases {found}, its instruction {expected}"
        return
    if row.status == "interleaved":
        grounded = [p for p, o in zip(parsed.objects, row.objects, strict=True) if o.grounded]
        try:
            interleaved = interleave_instruction(parsed.text, grounded)
        except ValueError:  # a fault of the instructions table
            return
        if interleaved != row.interleaved:
            yield f"reads {row.interleaved!r}, expected {interleaved!r}"


def image_fault(jpeg: bytes) -> str | None:
    """What is wrong with a crop."""
    try:
        height, width, _ = decode_image(jpeg).shape
    except RecordError as error:
        return str(error)
    with Image.open(io.BytesIO(jpeg)) as picture:
        mode, form = picture.mode, picture.format
    if (height, width, mode, form) == (CROP_SIZE_PX, CROP_SIZE_PX, "RGB", "JPEG"):
        return None
    return f"a {form} of {width} x {height} {mode}, expected a JPEG of 224 x 224 RGB"


def index_faults(indexed: IndexedSpan, row: EpisodeRow) -> Iterator[str]:
    """Where a row of the episodes table is not the span that the scan found."""
    span = indexed.span
    found = (row.record_index, row.span, row.step_start, row.step_end, row.instruction)
    expected = (
        indexed.record_index, span.number, span.step_start, span.step_end,
        span.instruction.decode("utf-8", "replace"),
    )  # fmt: skip
    if found != expected:
        yield f"is record, span, steps, instruction {found}, but {expected} in the index"
    if indexed.reason and (row.status, row.reason) != ("failed", indexed.reason):
        yield f"is {row.status}: {row.reason}, but failed: {indexed.reason} in the index"


def coverage_faults(spans: Sequence[IndexedSpan]) -> Iterator[str]:
    """Where the spans of one record do not follow each other from its first step to its last."""
    if len(spans) == 1 and spans[0].reason:
        return
    edges = [0, *(s.span.step_end for s in spans)]
    starts = [s.span.step_start for s in spans]
    if starts != edges[:-1] or edges[-1] != spans[0].num_steps:
        steps = ", ".join(f"{s.span.step_start} to {s.span.step_end}" for s in spans)
        yield f"the spans do not cover the {spans[0].num_steps} steps: {steps}"
    if [s.span.number for s in spans] != list(range(len(spans))):
        yield f"the spans are numbered {[s.span.number for s in spans]}"
    if any(a.span.instruction == b.span.instruction for a, b in itertools.pairwise(spans)):
        yield "two spans in a row have one instruction"


def _schema_fault(found: pa.Schema, expected: pa.Schema) -> str:
    for field in expected:
        if field.name not in found.names:
            return f"has no column {field.name}"
        if found.field(field.name).type != field.type:
            return f"{field.name} is {found.field(field.name).type}, expected {field.type}"
    extra = [name for name in found.names if name not in expected.names]
    return f"has the columns {extra} besides" if extra else "its columns or metadata differ"


def _missing_values(path: str, value: object) -> Iterator[str]:
    """Names of values that are null and must not be."""
    if value is None:
        if path.rpartition(".")[2] not in _NULLABLE:
            yield path
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _missing_values(f"{path}.{name}".lstrip("."), inner)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _missing_values(f"{path}[{position}]", inner)


def _phrase_faults(objects: Sequence[Phrase | GroundedObject], text: str) -> Iterator[str]:
    position = 0
    for found in objects:
        if not 0 <= found.start < found.end or text[found.start : found.end] != found.phrase:
            yield f"{found.phrase!r} is not at {found.start} to {found.end} of {text!r}"
        elif found.start < position:
            yield f"{found.phrase!r} overlaps the phrase before it"
        position = max(position, found.end)
        if found.kind not in KINDS:
            yield f"{found.phrase!r} is of the kind {found.kind!r}"


def _trail_faults(found: GroundedObject, row: EpisodeRow) -> Iterator[str]:
    """Where what was tried for an object does not lead to what became of it."""
    what = repr(found.phrase)
    try:
        attempts = () if found.verdicts is None else decode_attempts(found.verdicts)
        looks = () if found.frames_tried is None else decode_looks(found.frames_tried)
    except ValueError as error:
        yield f"{what}: {error}"
        return
    if (found.verdict is None) != (found.verifier is None):
        yield f"{what} has the verdict {found.verdict!r} of the verifier {found.verifier!r}"
    values = {attempt.verdict for attempt in attempts}
    best = next((value for value in ("match", "unsure", "mismatch") if value in values), None)
    if found.verdict not in ((best,) if attempts else (None, UNVERIFIED)):
        yield f"{what} has the verdict {found.verdict!r}, its crops {sorted(values)}"
    if found.grounded and not _is_accepted(found, attempts):
        yield f"{what} has the picture of a {found.method} that no verdict accepts"
    if (found.reason in ("rejected-by-verifier", "unsure")) != (best in ("mismatch", "unsure")):
        yield f"{what} has the reason {found.reason!r}, its crops {sorted(values)}"
    frames = [look.frame_index for look in looks] + [tried.frame_index for tried in attempts]
    outside = [frame for frame in frames if not row.step_start <= frame < row.step_end]
    if outside:
        yield f"{what} was looked for in frame {outside[0]}, outside the span"


def _is_accepted(found: GroundedObject, attempts: Sequence[Attempt]) -> bool:
    """Whether a verdict accepts the very crop that became the picture, where there are verdicts."""
    place = (found.method, found.camera, found.frame_index, "match")
    tried = {(a.method, a.camera, a.frame_index, a.verdict) for a in attempts}
    return found.method in METHODS and (not attempts or place in tried)


def _object_faults(found: GroundedObject, row: EpisodeRow) -> Iterator[str]:
    what = repr(found.phrase)
    yield from _trail_faults(found, row)
    if found.grounded != (found.reason == ""):
        yield f"{what} is grounded {found.grounded} with the reason {found.reason!r}"
    elif not found.grounded and found.reason not in OBJECT_REASONS:
        yield f"{what} has the reason {found.reason!r}"
    placed = (found.camera, found.frame_index, found.box_xyxy, found.scale, found.source)
    if found.grounded != all(value is not None for value in placed):
        yield f"{what} is grounded {found.grounded} with camera, frame, box, scale, source {placed}"
        return
    if not found.grounded or found.frame_index is None or found.box_xyxy is None:
        return
    if not row.step_start <= found.frame_index < row.step_end:
        yield f"{what} is in frame {found.frame_index}, outside the span"
    box = np.array(found.box_xyxy, np.float64)
    is_box = box.shape == (4,) and np.isfinite(box).all() and (box >= 0).all()
    if not is_box or not (box[:2] < box[2:]).all():
        yield f"{what} has the box {found.box_xyxy}"
    for name, score in (("box_score", found.box_score), ("mask_score", found.mask_score)):
        if score is not None and not 0 <= score <= 1:
            yield f"{what} has the {name} {score}"
