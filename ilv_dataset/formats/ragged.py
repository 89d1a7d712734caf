"""Values of a number of their own a row, as TFDS stores them: flat values and row lengths.

    rows [[1, 2], [], [3]]  ->  <path>/ragged_flat_values   [1, 2, 3]
                                <path>/ragged_row_lengths_0 [2, 0, 1]

Sequences in sequences have a list of lengths a level, from the outside in.

Source: tensorflow_datasets 4.9.10, core/example_serializer.py (`_add_ragged_fields`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ilv_dataset.errors import RecordError
from ilv_dataset.formats.example import BytesValues, Example, Values
from ilv_dataset.formats.features import Feature

_LENGTH_MAX = 2**31  # of a row; a record holds no more values, and sums stay within an int64


@dataclass(frozen=True, eq=False)
class RaggedRows:
    """Some rows of a ragged feature, and which of its values they hold.

    A cell is one value of the feature's own shape, such as the four numbers of a box.
    """

    lengths: tuple[np.ndarray, ...]  # (N,) int64 a level, from the outside in
    start: int  # first cell
    end: int  # exclusive
    num_cells: int  # of all rows of the record


def lengths_path(feature: Feature, level: int) -> str:
    """The record's key of the row lengths of one level."""
    return f"{feature.path}/ragged_row_lengths_{level}"


def flat_path(feature: Feature) -> str:
    """The record's key of the flat values."""
    return f"{feature.path}/ragged_flat_values"


def slice_rows(example: Example, feature: Feature, start: int, end: int) -> RaggedRows:
    """Rows start..end of a ragged feature that `check_rows` has passed."""
    lengths, num_cells = [], end
    for level in range(feature.ragged_rank):
        found = _integers(example[lengths_path(feature, level)])
        lengths.append(found[start:end])
        start, end = int(found[:start].sum()), int(found[:end].sum())
        num_cells = int(found.sum())
    return RaggedRows(tuple(lengths), start, end, num_cells)


def cell_width(feature: Feature, num_values: int, num_cells: int) -> int:
    """How many of a record's `num_values` make one of its `num_cells`.

    Where features.json leaves one size open, it is the same in every cell of the record.
    """
    if feature.num_stored is not None:
        return feature.num_stored
    return num_values // num_cells if num_cells else 0


def check_rows(example: Example, feature: Feature, num_rows: int | None) -> int:
    """Checks the row lengths of a feature and returns how many flat values there must be.

    Args:
        num_rows: how many rows there must be; None where the record itself says.

    Raises: RecordError features-mismatch.
    """
    for level in range(feature.ragged_rank):
        path = lengths_path(feature, level)
        if path not in example:
            raise RecordError("features-mismatch", f"the record has no {path}")
        lengths = _integers(example[path])
        if num_rows is not None and len(lengths) != num_rows:
            message = f"{path} has {len(lengths)} rows, expected {num_rows}"
            raise RecordError("features-mismatch", message)
        if lengths.size and not (lengths.min() >= 0 and lengths.max() <= _LENGTH_MAX):
            raise RecordError("features-mismatch", f"{path} has a row of an absurd length")
        num_rows = int(lengths.sum())
    return num_rows or 0


def _integers(values: Values) -> np.ndarray:
    """Row lengths; an empty list has no type in a record."""
    if isinstance(values, BytesValues):
        if len(values):
            raise RecordError("features-mismatch", "row lengths are no numbers")
        return np.zeros(0, np.int64)
    if not np.issubdtype(values.dtype, np.integer):
        raise RecordError("features-mismatch", "row lengths are no integers")
    return values
