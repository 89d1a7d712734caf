"""What one episode consists of: its spans, its probe frames, and what is wrong with it.

Works on the parsed Example of a record and on features.json; decodes no image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ilv_dataset.dataset_specs import DatasetSpec
from ilv_dataset.errors import RecordError
from ilv_dataset.formats.example import BytesValues, Example, Values
from ilv_dataset.formats.features import OPAQUE, Feature
from ilv_dataset.formats.ragged import check_rows, flat_path, slice_rows
from ilv_dataset.image_files import JPEG_END, JPEG_START, PNG_END, PNG_START
from ilv_dataset.records import Span

MAX_PROBE_FRAMES = 10  # a span; Source: the paper's scripts look at every max(5, T/10)-th frame
MIN_PROBE_STRIDE = 5  # steps; Source: likewise


@dataclass(frozen=True, slots=True)
class Probe:
    """One frame to look for objects in, as a byte range of its shard."""

    camera: str
    step: int  # in the episode
    offset: int  # in the shard file, bytes
    length: int  # bytes


@dataclass(frozen=True, slots=True)
class IndexedSpan:
    """One row of a shard's index; a record that cannot be read is one with a reason."""

    record_index: int
    offset: int  # of the record's payload in the shard file, bytes
    length: int  # of the payload, bytes
    num_steps: int  # of the whole episode
    span: Span
    reason: str = ""  # "" or one of fields.FAILED_REASONS
    message: str = ""
    probes: tuple[Probe, ...] = ()

    @property
    def is_whole_episode(self) -> bool:
        """Whether the span is all of its episode."""
        return self.span.step_start == 0 and self.span.step_end == self.num_steps


def broken_span(
    record_index: int, reason: str, message: str, *, offset: int = 0, length: int = 0
) -> IndexedSpan:
    """The row of a record of which nothing more is known."""
    span = Span(0, 0, 0, b"")
    return IndexedSpan(record_index, offset, length, 0, span, reason, message)


def index_episode(
    example: Example,
    features: Sequence[Feature],
    spec: DatasetSpec,
    *,
    record_index: int,
    offset: int,
    length: int,
) -> list[IndexedSpan]:
    """The spans of one episode, in order, with their probe frames.

    Args:
        offset, length: where the record's payload lies in its shard, bytes.

    Raises: RecordError where the whole record cannot be used.
    """
    num_steps = check_features(example, features)
    if num_steps == 0:
        raise RecordError("no-steps", "the episode has no steps")
    faults = _frame_faults(example, features, num_steps)
    rows = []
    for span in split_spans(decode_instructions(example, spec, num_steps)):
        row = IndexedSpan(record_index, offset, length, num_steps, span)
        fault = _span_fault(span, faults)
        if fault:
            rows.append(replace(row, reason=fault.reason, message=str(fault)))
        else:
            rows.append(replace(row, probes=_probes(example, spec, span, offset)))
    return rows


def split_spans(instructions: Sequence[bytes]) -> list[Span]:
    """Maximal runs of equal instructions, compared as raw bytes.

    >>> [(s.step_start, s.step_end) for s in split_spans([b"a", b"a", b"b"])]
    [(0, 2), (2, 3)]
    """
    starts = [i for i, text in enumerate(instructions) if i == 0 or text != instructions[i - 1]]
    ends = [*starts[1:], len(instructions)]
    return [
        Span(number, start, end, instructions[start])
        for number, (start, end) in enumerate(zip(starts, ends, strict=False))
    ]


def probe_steps(span: Span) -> list[int]:
    """Steps of the episode at which a span is looked at, the first first."""
    num_steps = span.step_end - span.step_start
    stride = max(MIN_PROBE_STRIDE, -(-num_steps // MAX_PROBE_FRAMES))
    return list(range(span.step_start, span.step_end, stride))


def check_features(example: Example, features: Sequence[Feature]) -> int:
    """Checks a record against features.json and returns the number of its steps.

    How an opaque feature is stored is not known, so it is not looked at.

    Raises: RecordError features-mismatch, naming the feature.
    """
    num_steps = _count_steps(example, features)
    for feature in features:
        if feature.kind == OPAQUE:
            continue
        path = flat_path(feature) if feature.ragged_rank else feature.path
        values = example.get(path)
        if values is None:
            if feature.optional:
                continue
            raise RecordError("features-mismatch", f"the record has no {path}")
        rows = num_steps if feature.in_steps else None if feature.sequence_rank else 1
        if feature.ragged_rank:
            rows = check_rows(example, feature, rows)
        _check_type(feature, path, values)
        _check_number(feature, path, len(values), rows)
    return num_steps


def decode_instructions(example: Example, spec: DatasetSpec, num_steps: int) -> list[bytes]:
    """The instruction of every step, as raw bytes; one of the whole episode is that of each.

    Raises: RecordError features-mismatch where the record holds no such instruction.
    """
    path = f"steps/{spec.instruction_key}"
    num_rows, repeats = num_steps, 1
    if path not in example and spec.instruction_key in example:
        path, num_rows, repeats = spec.instruction_key, 1, num_steps
    values = example.get(path)
    if values is None:
        raise RecordError("features-mismatch", f"the record has no {path}")
    if isinstance(values, BytesValues):
        return list(values) * repeats
    codes = values.reshape(num_rows, -1)
    if codes.size and not (codes.min() >= 0 and codes.max() <= 255):
        raise RecordError("features-mismatch", "an instruction code is not a byte")
    return [row.astype(np.uint8).tobytes().rstrip(b"\0") for row in codes] * repeats


def is_whole_image(payload: bytes, start: int, end: int) -> bool:
    """Whether payload[start:end] begins and ends as a JPEG or PNG file does.

    Zero bytes behind the end marker are padding and do no harm.
    """
    head = payload[start : start + 8]
    if head.startswith(JPEG_START):
        tail = JPEG_END
    elif head == PNG_START:
        tail = PNG_END
    else:
        return False
    if payload[end - len(tail) : end] == tail:
        return True
    return payload[start:end].rstrip(b"\0").endswith(tail)


def _count_steps(example: Example, features: Sequence[Feature]) -> int:
    """The number of steps, from the first feature that tells it; 0 where none is there."""
    for feature in features:
        if feature.in_steps and not feature.ragged_rank and feature.num_stored:
            values = example.get(feature.path)
            if values is not None:
                return len(values) // feature.num_stored
    return 0


def _check_number(feature: Feature, path: str, found: int, rows: int | None) -> None:
    """Checks how many values there are; `rows` None is any number of rows."""
    if rows is None:
        fits = found % feature.num_stored == 0 if feature.num_stored else True
    elif feature.num_stored is None:
        fits = found % rows == 0 if rows else found == 0
    else:
        fits = found == rows * feature.num_stored
    if not fits:
        width = "any number" if feature.num_stored is None else feature.num_stored
        expected = f"expected {'rows' if rows is None else rows} of {width}"
        raise RecordError("features-mismatch", f"{path} has {found} values, {expected}")


def _check_type(feature: Feature, path: str, values: Values) -> None:
    if len(values) == 0:  # an empty list has no type in a record
        return
    is_bytes = feature.kind != "tensor" or feature.dtype == "string"
    is_float = "float" in feature.dtype
    expected = "bytes" if is_bytes else "float" if is_float else "integer"
    if isinstance(values, BytesValues):
        found = "bytes"
    else:
        found = "float" if np.issubdtype(values.dtype, np.floating) else "integer"
    if found != expected:
        message = f"{path} holds {found} values, expected {expected}"
        raise RecordError("features-mismatch", message)


def _frame_faults(example: Example, features: Sequence[Feature], num_steps: int) -> dict[int, str]:
    """Step -> what is wrong with one of its frames, seen from header and end marker alone."""
    faults: dict[int, str] = {}
    for feature in features:
        if feature.kind != "image" or not feature.in_steps:
            continue
        values = example.get(flat_path(feature) if feature.ragged_rank else feature.path)
        if not isinstance(values, BytesValues):
            continue
        steps = np.arange(num_steps)
        for lengths in slice_rows(example, feature, 0, num_steps).lengths:
            steps = np.repeat(steps, lengths)
        for step, (start, end) in zip(steps.tolist(), values.ranges, strict=True):
            if not is_whole_image(values.payload, start, end):
                faults.setdefault(step, f"{feature.path} of step {step} is cut or no image")
    return faults


def _span_fault(span: Span, frame_faults: dict[int, str]) -> RecordError | None:
    for step in range(span.step_start, span.step_end) if frame_faults else ():
        if step in frame_faults:
            return RecordError("undecodable-image", frame_faults[step])
    try:
        span.instruction.decode("utf-8")
    except UnicodeDecodeError as error:
        return RecordError("invalid-utf8", f"the instruction is not UTF-8: {error}")
    return None


def _probes(example: Example, spec: DatasetSpec, span: Span, offset: int) -> tuple[Probe, ...]:
    """Frames in the order in which they are looked at: camera by camera, step by step."""
    probes = []
    for camera in spec.probe_cameras:
        values = example[f"steps/{camera.key}"]
        assert isinstance(values, BytesValues)  # check_features saw to it
        for step in probe_steps(span):
            start, end = values.ranges[step]
            probes.append(Probe(camera.key, step, offset + start, end - start))
    return tuple(probes)
