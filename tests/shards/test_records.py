import pytest
from builders import frame, make_span

from ilv_dataset.episodes import IndexedSpan
from ilv_dataset.errors import StorageError
from ilv_dataset.records import Span
from ilv_dataset.shards.records import SourceRecords


def at(offset, length):
    return IndexedSpan(0, offset, length, 2, Span(0, 0, 2, b""))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "shard"
    path.write_bytes(frame(b"one") + frame(b"three"))
    return path


def test_records_are_read_at_their_places(path):
    with SourceRecords(str(path), marker="m") as records:
        assert records.read(at(12, 3))[0] == b"one"
        assert records.read(at(31, 5))[0] == b"three"
        assert records.read(at(12, 3))[0] == b"one"


def test_spans_of_one_record_share_its_bytes(path):
    with SourceRecords(str(path), marker="m") as records:
        payload, crc = records.read(at(12, 3))
        path.unlink()
        assert records.read(at(12, 3))[0] is payload
    assert crc > 0


def test_a_shard_of_which_nothing_is_read_need_not_be_there():
    with SourceRecords("nowhere", marker="m"):
        pass


def test_a_missing_shard_is_one_line(tmp_path):
    with (
        SourceRecords(str(tmp_path / "x"), marker="m") as records,
        pytest.raises(StorageError, match="x: No such file"),
    ):
        records.read(make_span())


@pytest.mark.parametrize("offset", [12, 31, 500])
def test_a_shard_that_changed_says_what_to_do(path, offset):
    with (
        SourceRecords(str(path), marker="the/marker") as records,
        pytest.raises(
            StorageError,
            match=r"shard has changed since it was scanned: .*; delete the/marker and run again",
        ),
    ):
        records.read(at(offset, 4))
