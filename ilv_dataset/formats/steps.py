"""The steps table: one row a step, with the source's own observations and actions.

Frames go in as the bytes they are in the record; nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ilv_dataset.formats.example import BytesValues, Example, Values
from ilv_dataset.formats.features import Feature
from ilv_dataset.formats.parquet import IMAGE, describe_schema
from ilv_dataset.formats.tables import EpisodeRow

_FLAGS = (("is_first", pa.bool_()), ("is_last", pa.bool_()), ("is_terminal", pa.bool_()))
_REWARDS = (("reward", pa.float32()), ("discount", pa.float32()))
_OWN_PREFIXES = ("observation/", "action")
CHUNK_BYTES = 16 << 20  # of one record that are copied at a time, so 130 MB episodes stay small


def own_features(features: Sequence[Feature]) -> tuple[Feature, ...]:
    """The observation and action features of a step, in the order of their columns."""
    return tuple(f for f in features if f.in_steps and f.key.startswith(_OWN_PREFIXES))


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


def steps_tables(
    row: EpisodeRow,
    example: Example,
    features: Sequence[Feature],
    schema: pa.Schema,
    *,
    is_whole: bool,
) -> Iterator[pa.Table]:
    """The steps of one span, in pieces of about CHUNK_BYTES.

    Args:
        is_whole: whether the span is all of its episode. A part of an episode is an episode of
            its own: is_first and is_last are set at its ends.
    """
    num_bytes = sum(
        values.ranges[-1][1] - values.ranges[0][0]
        for values in example.values()
        if isinstance(values, BytesValues) and values.ranges
    )
    num_pieces = 1 + num_bytes // CHUNK_BYTES
    size = max(1, -(-(row.step_end - row.step_start) // num_pieces))
    for start in range(row.step_start, row.step_end, size):
        end = min(start + size, row.step_end)
        columns = _columns(row, example, features, start, end, is_whole=is_whole)
        yield pa.Table.from_arrays(columns, schema=schema)


def _columns(
    row: EpisodeRow,
    example: Example,
    features: Sequence[Feature],
    start: int,
    end: int,
    *,
    is_whole: bool,
) -> list[pa.Array]:
    num = end - start
    steps = np.arange(start, end, dtype=np.int32)
    columns = [
        pa.repeat(pa.scalar(row.episode_id), num),
        pa.repeat(pa.scalar(row.span, pa.int32()), num),
        pa.array(steps),
    ]
    ends = {"is_first": row.step_start, "is_last": row.step_end - 1}
    for name, kind in (*_FLAGS, *_REWARDS):
        column = _optional_scalar(example, name, kind, start, end)
        if name in ends and not is_whole:
            column = pc.or_kleene(column, pa.array(steps == ends[name]))
        columns.append(column)
    columns.append(pa.repeat(pa.scalar(row.instruction), num))
    columns.extend(_column(example, feature, start, end) for feature in own_features(features))
    return columns


def _optional_scalar(
    example: Example, name: str, kind: pa.DataType, start: int, end: int
) -> pa.Array:
    values = example.get(f"steps/{name}")
    if values is None or isinstance(values, BytesValues):
        return pa.nulls(end - start, kind)
    return pa.array(values[start:end]).cast(kind)


def _column_type(feature: Feature) -> pa.DataType:
    kind = _value_type(feature)
    if feature.kind == "tensor":
        for size in reversed(feature.shape):
            kind = pa.list_(kind) if size is None else pa.list_(kind, size)
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


def _column(example: Example, feature: Feature, start: int, end: int) -> pa.Array:
    """Values of steps start..end of one feature, whole episodes or ragged alike."""
    if not feature.sequence_rank:
        return _plain(example[feature.path], feature, start, end)
    offsets = []
    for level in range(feature.sequence_rank):
        lengths = example[f"{feature.path}/ragged_row_lengths_{level}"]
        ends = np.zeros(1, np.int64)
        if not isinstance(lengths, BytesValues):
            ends = np.concatenate(([0], np.cumsum(lengths)))
        bounds = ends[start : end + 1] if len(ends) > end else np.zeros(end - start + 1, np.int64)
        offsets.append((bounds - bounds[0]).astype(np.int32))
        start, end = int(bounds[0]), int(bounds[-1])
    flat = example[f"{feature.path}/ragged_flat_values"]
    column = _plain(flat, feature, start, end)
    for bounds in reversed(offsets):
        column = pa.ListArray.from_arrays(pa.array(bounds), column)
    return column


def _plain(values: Values, feature: Feature, start: int, end: int) -> pa.Array:
    """Values start..end, each of the feature's shape."""
    width = feature.num_stored
    if width is None:
        width = len(values) // max(1, end - start)
    first, last = start * width, end * width
    kind = _value_type(feature)
    if isinstance(values, BytesValues):
        column = _bytes_column(values, kind, first, last)
    else:
        column = pa.array(values[first:last]).cast(kind)
    if feature.kind == "tensor":
        for size in reversed(feature.shape):
            column = pa.FixedSizeListArray.from_arrays(column, size)
    return column


def _bytes_column(values: BytesValues, kind: pa.DataType, first: int, last: int) -> pa.Array:
    payload = values.payload
    chunks = [payload[start:end] for start, end in values.ranges[first:last]]
    if kind == IMAGE:
        paths = pa.nulls(len(chunks), pa.string())
        return pa.StructArray.from_arrays([pa.array(chunks, pa.binary()), paths], fields=list(IMAGE))
    if kind == pa.string():  # Parquet texts are UTF-8; the RLDS output keeps the raw bytes
        return pa.array([chunk.decode("utf-8", "replace") for chunk in chunks], kind)
    if kind == pa.binary():
        return pa.array(chunks, kind)
    return pa.array([], kind)  # an empty list has no type in a record
