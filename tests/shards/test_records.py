import pytest
from builders import make_job, make_span, shard_path, write_tfds_folder

from ilv_dataset.episodes import IndexedSpan
from ilv_dataset.errors import StorageError
from ilv_dataset.formats.markers import Marker, write_marker
from ilv_dataset.records import Span
from ilv_dataset.shards.records import SourceRecords


def at(offset, length):
    return IndexedSpan(0, offset, length, 2, Span(0, 0, 2, b""))


@pytest.fixture
def data(tmp_path):
    return write_tfds_folder(tmp_path / "data", {"train": [[b"one", b"three"]]})


@pytest.fixture
def job(data, tmp_path):
    return make_job(data, tmp_path / "out")


@pytest.fixture
def path(data):
    return shard_path(data, index=0, count=1)


def test_records_are_read_at_their_places(job):
    with SourceRecords(job.shards[0], job=job) as records:
        assert records.read(at(12, 3))[0] == b"one"
        assert records.read(at(31, 5))[0] == b"three"
        assert records.read(at(12, 3))[0] == b"one"


def test_spans_of_one_record_share_its_bytes(job, path):
    with SourceRecords(job.shards[0], job=job) as records:
        payload, crc = records.read(at(12, 3))
        path.unlink()
        assert records.read(at(12, 3))[0] is payload
    assert crc > 0


def test_a_shard_of_which_nothing_is_read_need_not_be_there(job, path):
    path.unlink()
    with SourceRecords(job.shards[0], job=job):
        pass


def test_a_missing_shard_is_one_line(job, path):
    path.unlink()
    with (
        SourceRecords(job.shards[0], job=job) as records,
        pytest.raises(StorageError, match=f"{path.name}: No such file"),
    ):
        records.read(make_span())


@pytest.mark.parametrize("offset", [12, 31, 500])
def test_a_shard_that_changed_says_what_to_do(job, path, offset):
    marker = job.layout.marker("parse", job.shards[0].key)
    with (
        SourceRecords(job.shards[0], job=job) as records,
        pytest.raises(
            StorageError,
            match=f"{path} has changed since it was scanned: .*; delete {marker} and run again",
        ),
    ):
        records.read(at(offset, 4))


def test_a_shard_of_another_size_than_the_scan_saw_is_not_read(job):
    write_marker(job.layout, "parse", job.shards[0].key, Marker({"source": "41"}, (), {}))
    # Two records of 3 and 5 bytes, each with 16 bytes of frame.
    with (
        SourceRecords(job.shards[0], job=job) as records,
        pytest.raises(StorageError, match="scanned: expected 41 bytes, got 40; delete "),
    ):
        records.read(at(12, 3))
