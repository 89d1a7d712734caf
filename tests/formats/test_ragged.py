import numpy as np
import pytest
from builders import ragged

from ilv_dataset.errors import RecordError
from ilv_dataset.formats.example import BytesValues
from ilv_dataset.formats.features import Feature
from ilv_dataset.formats.ragged import cell_width, check_rows, flat_path, lengths_path, slice_rows

BOXES = Feature("steps/boxes", "tensor", "float32", (4,), 1, True, None)
WORDS = Feature("steps/words", "tensor", "int64", (), 2, True, None)


def spans(rows):
    return ([lengths.tolist() for lengths in rows.lengths], rows.start, rows.end, rows.num_cells)


def test_keys_of_a_ragged_feature():
    assert lengths_path(BOXES, 0) == "steps/boxes/ragged_row_lengths_0"
    assert flat_path(BOXES) == "steps/boxes/ragged_flat_values"


def test_slice_rows_of_one_level():
    record = ragged("steps/boxes", [[[1] * 4, [2] * 4], [], [[3] * 4]], np.float32)
    assert spans(slice_rows(record, BOXES, 0, 3)) == ([[2, 0, 1]], 0, 3, 3)
    assert spans(slice_rows(record, BOXES, 1, 2)) == ([[0]], 2, 2, 3)
    assert spans(slice_rows(record, BOXES, 1, 3)) == ([[0, 1]], 2, 3, 3)
    assert spans(slice_rows(record, BOXES, 3, 3)) == ([[]], 3, 3, 3)


def test_slice_rows_of_two_levels():
    record = ragged("steps/words", [[[7], [8, 9]], [], [[]], [[5, 6]]], np.int64, rank=2)
    assert record["steps/words/ragged_row_lengths_0"].tolist() == [2, 0, 1, 1]
    assert record["steps/words/ragged_row_lengths_1"].tolist() == [1, 2, 0, 2]
    assert spans(slice_rows(record, WORDS, 0, 4)) == ([[2, 0, 1, 1], [1, 2, 0, 2]], 0, 5, 5)
    assert spans(slice_rows(record, WORDS, 1, 3)) == ([[0, 1], [0]], 3, 3, 5)
    assert spans(slice_rows(record, WORDS, 2, 4)) == ([[1, 1], [0, 2]], 3, 5, 5)


def test_rows_that_are_all_empty_have_lists_without_a_type_below():
    nothing = BytesValues(b"", ())
    record = {
        "steps/words/ragged_row_lengths_0": np.array([0, 0]),
        "steps/words/ragged_row_lengths_1": nothing,
        "steps/words/ragged_flat_values": nothing,
    }
    assert check_rows(record, WORDS, 2) == 0
    assert spans(slice_rows(record, WORDS, 1, 2)) == ([[0], []], 0, 0, 0)


def test_check_rows_counts_the_cells():
    record = ragged("steps/boxes", [[[1] * 4, [2] * 4], []], np.float32)
    assert check_rows(record, BOXES, 2) == 2
    assert check_rows(record, BOXES, None) == 2


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (np.array([1]), r"steps/boxes/ragged_row_lengths_0 has 1 rows, expected 2"),
        (np.array([-1, 2]), "a row of an absurd length"),
        (np.array([1, 2**62]), "a row of an absurd length"),
        (np.array([1.0, 2.0], np.float32), "row lengths are no integers"),
        (BytesValues(b"ab", ((0, 1), (1, 2))), "row lengths are no numbers"),
        (None, "the record has no steps/boxes/ragged_row_lengths_0"),
    ],
)
def test_check_rows_of_row_lengths_that_cannot_be(lengths, message):
    record = {} if lengths is None else {"steps/boxes/ragged_row_lengths_0": lengths}
    with pytest.raises(RecordError, match=message) as caught:
        check_rows(record, BOXES, 2)
    assert caught.value.reason == "features-mismatch"


def test_cell_width():
    unknown = Feature("steps/x", "tensor", "float32", (None, 3), 0, True, None)
    assert cell_width(BOXES, 99, 7) == 4
    assert cell_width(unknown, 12, 2) == 6
    assert cell_width(unknown, 0, 0) == 0
