"""The steps table: one row a step, with the source's own observations and actions.

Frames go in as the bytes they are in the record; nothing is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ilv_dataset.formats.example import BytesValues, Example, Values
from ilv_dataset.formats.features import Feature
from ilv_dataset.formats.parquet import IMAGE, describe_schema
from ilv_dataset.formats.ragged import cell_width, flat_path, slice_rows
from ilv_dataset.formats.tables import EpisodeRow

_FLAGS = (("is_first", pa.bool_()), ("is_last", pa.bool_()), ("is_terminal", pa.bool_()))
_REWARDS = (("reward", pa.float32()), ("discount", pa.float32()))
_FIXED_COLUMNS = frozenset(("episode_id", "span", "step", "language_instruction")) | {
    name for name, _ in (*_FLAGS, *_REWARDS)
}
CHUNK_BYTES = 16 << 20  # of one record that are copied at a time, so 130 MB episodes stay small


# Flat numbers, a fixed number of them a step, or whatever else as Arrow has it.
Column: TypeAlias = np.ndarray | pa.Array


@dataclass(frozen=True, eq=False, slots=True)
class StepsPiece:
    """Some steps of one span, copied out of their record."""

    episode_id: str
    span: int
    instruction: str
    start: int  # in the episode
    end: int
    columns: tuple[Column, ...]  # those of the record, in the order of the schema

    @property
    def num_rows(self) -> int:
        """How many steps it holds."""
        return self.end - self.start

    @property
    def num_bytes(self) -> int:
        """How much memory its columns take."""
        return sum(column.nbytes for column in self.columns)


def own_features(features: Sequence[Feature]) -> tuple[Feature, ...]:
    """The features of a step that get a column under their own name, in its order.

    These are all but those with a column of that name already, and what features.json does not
    tell how to read.
    """
    return tuple(
        feature
        for feature in features
        if feature.in_steps and feature.kind != "opaque" and feature.key not in _FIXED_COLUMNS
    )


def steps_schema(features: Sequence[Feature]) -> pa.Schema:
    """Columns of the steps table of a source with these features."""
    columns = [
        ("episode_id", pa.string()),
        ("span", pa.int32()),
        ("step", pa.int32()),
        *_FLAGS,
        *_REWARDS,
        ("language_instruction", pa.string()),
        *((feature.key, _column_type(feature)) for feature in own_features(features)),
    ]
    return describe_schema(pa.schema(columns))


def cut_steps(
    row: EpisodeRow, example: Example, features: Sequence[Feature], *, num_steps: int
) -> Iterator[StepsPiece]:
    """The steps of one span, in pieces of about CHUNK_BYTES.

    A part of an episode is an episode of its own: is_first and is_last are set at its ends.

    Args:
        example: the record of the episode, which fits `features`.
        num_steps: of the whole episode.
    """
    step_bytes = sum(map(_num_bytes, example.values())) / num_steps
    size = max(1, int(CHUNK_BYTES // max(1, step_bytes)))
    for start in range(row.step_start, row.step_end, size):
        end = min(start + size, row.step_end)
        columns = _columns(row, example, features, start, end, num_steps)
        yield StepsPiece(row.episode_id, row.span, row.instruction, start, end, tuple(columns))


def join_steps(pieces: Sequence[StepsPiece], schema: pa.Schema) -> pa.Table:
    """The rows of some pieces, in their order; frames stay where they are."""
    piece_of_row = np.repeat(np.arange(len(pieces)), [piece.num_rows for piece in pieces])
    of_pieces = {
        "episode_id": pa.array([piece.episode_id for piece in pieces]),
        "span": pa.array([piece.span for piece in pieces], pa.int32()),
        "language_instruction": pa.array([piece.instruction for piece in pieces]),
    }
    steps = [np.arange(piece.start, piece.end, dtype=np.int32) for piece in pieces]
    made = {name: values.take(pa.array(piece_of_row)) for name, values in of_pieces.items()}
    made["step"] = pa.array(np.concatenate(steps))
    found = zip(*(piece.columns for piece in pieces), strict=True)
    columns = [
        made[field.name] if field.name in made else _join(next(found), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _num_bytes(values: Values) -> int:
    if isinstance(values, BytesValues):
        return values.ranges[-1][1] - values.ranges[0][0] if values.ranges else 0
    return values.nbytes


def _columns(
    row: EpisodeRow,
    example: Example,
    features: Sequence[Feature],
    start: int,
    end: int,
    num_steps: int,
) -> Iterator[Column]:
    is_part = row.step_end - row.step_start < num_steps
    ends = {"is_first": row.step_start, "is_last": row.step_end - 1} if is_part else {}
    for name, kind in (*_FLAGS, *_REWARDS):
        column = _optional_scalar(example, name, kind, num_steps)[start:end]
        if name in ends:
            column = pc.or_kleene(pa.array(column), pa.array(np.arange(start, end) == ends[name]))
        yield column
    for feature in own_features(features):
        yield _column(example, feature, start, end, num_steps)


def _optional_scalar(example: Example, name: str, kind: pa.DataType, num_steps: int) -> Column:
    """The number of every step; nulls where the source has none, or something else."""
    values = example.get(f"steps/{name}")
    if values is None or isinstance(values, BytesValues) or len(values) != num_steps:
        return pa.nulls(num_steps, kind)
    return values.astype(kind.to_pandas_dtype())


def _join(parts: Sequence[Column], kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """One column of all pieces; to Arrow, few large arrays are far cheaper than many small ones."""
    if all(isinstance(part, np.ndarray) for part in parts):
        return _fold(pa.array(np.concatenate(parts)), kind)
    arrays = [_fold(pa.array(p), kind) if isinstance(p, np.ndarray) else p for p in parts]
    return pa.chunked_array(arrays, kind)


def _fold(numbers: pa.Array, kind: pa.DataType) -> pa.Array:
    """Flat numbers as `kind`, which is that of a number or of fixed-size lists."""
    if not pa.types.is_fixed_size_list(kind):
        return numbers
    return pa.FixedSizeListArray.from_arrays(_fold(numbers, kind.value_type), kind.list_size)


def _column_type(feature: Feature) -> pa.DataType:
    kind = _value_type(feature)
    if feature.kind == "tensor":
        for size in reversed(feature.shape):
            kind = pa.list_(kind, size) if size else pa.list_(kind)
    for _ in range(feature.sequence_rank):
        kind = pa.list_(kind)
    return kind


def _value_type(feature: Feature) -> pa.DataType:
    if feature.kind == "image":
        return IMAGE
    if feature.kind == "bytes":
        return pa.binary()
    if feature.dtype == "string":
        return pa.string()
    if feature.dtype in ("bfloat16", "float16"):
        return pa.float32()
    return pa.bool_() if feature.dtype == "bool" else pa.from_numpy_dtype(np.dtype(feature.dtype))


def _column(example: Example, feature: Feature, start: int, end: int, num_steps: int) -> Column:
    """Values of steps start..end of one feature, of one number a step and ragged alike."""
    path = flat_path(feature) if feature.ragged_rank else feature.path
    values = example.get(path)
    if values is None:  # an optional one
        return pa.nulls(end - start, _column_type(feature))
    if not feature.ragged_rank:
        width = feature.num_stored if feature.kind == "tensor" else None
        if width and isinstance(values, np.ndarray):
            return _numbers(values[start * width : end * width], feature)
        return _cells(values, feature, start, end, num_steps)
    rows = slice_rows(example, feature, start, end)
    column = _cells(values, feature, rows.start, rows.end, rows.num_cells)
    for lengths in reversed(rows.lengths):
        bounds = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        column = pa.ListArray.from_arrays(pa.array(bounds), column)
    return column


def _cells(values: Values, feature: Feature, start: int, end: int, num_cells: int) -> pa.Array:
    """Cells start..end of the `num_cells` of a record, each of the feature's shape."""
    width = cell_width(feature, len(values), num_cells)
    kind = _value_type(feature)
    if isinstance(values, BytesValues):
        column = _bytes_column(values, kind, start * width, end * width)
    else:
        column = pa.array(_numbers(values[start * width : end * width], feature))
    if feature.kind != "tensor":
        return column
    return _shape_cells(column, feature.shape, end - start, width)


def _numbers(values: np.ndarray, feature: Feature) -> np.ndarray:
    """A copy in the column's own type, for the record is not to be kept."""
    return values.astype(_value_type(feature).to_pandas_dtype())


def _shape_cells(
    column: pa.Array, shape: tuple[int | None, ...], num_cells: int, width: int
) -> pa.Array:
    """Folds flat values into `num_cells` nested lists of `shape`, `width` values each."""
    known = math.prod(size for size in shape if size is not None)
    sizes = [width // known if size is None and known else size or 0 for size in shape]
    for level in range(len(shape) - 1, -1, -1):
        if shape[level]:
            column = pa.FixedSizeListArray.from_arrays(column, shape[level])
        else:
            num_lists = num_cells * math.prod(sizes[:level])
            bounds = np.arange(num_lists + 1, dtype=np.int32) * sizes[level]
            column = pa.ListArray.from_arrays(pa.array(bounds), column)
    return column


def _bytes_column(values: BytesValues, kind: pa.DataType, first: int, last: int) -> pa.Array:
    payload, ranges = values.payload, values.ranges[first:last]
    if kind == IMAGE:
        paths = pa.nulls(len(ranges), pa.string())
        parts = [_binary_column(payload, ranges), paths]
        return pa.StructArray.from_arrays(parts, fields=list(IMAGE))
    if kind == pa.string():  # Parquet texts are UTF-8; the RLDS output keeps the raw bytes
        chunks = [payload[start:end].decode("utf-8", "replace") for start, end in ranges]
        return pa.array(chunks, kind)
    if kind == pa.binary():
        return _binary_column(payload, ranges)
    return pa.array([], kind)  # an empty list has no type in a record


def _binary_column(payload: bytes, ranges: Sequence[tuple[int, int]]) -> pa.Array:
    """The values at `ranges`, copied once; as Python objects they would be copied twice."""
    view = memoryview(payload)
    joined = b"".join([view[start:end] for start, end in ranges])
    offsets = np.cumsum([0, *(end - start for start, end in ranges)], dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(joined)]
    return pa.BinaryArray.from_buffers(pa.binary(), len(ranges), buffers)
