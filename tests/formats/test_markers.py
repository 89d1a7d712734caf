import json

import pytest

from ilv_dataset.errors import StorageError
from ilv_dataset.formats.atomic import FileSummary
from ilv_dataset.formats.markers import (
    Marker,
    decode_marker,
    read_marker,
    sum_counts,
    upstream_checksum,
    write_marker,
)
from ilv_dataset.layout import Layout
from ilv_dataset.records import ShardKey

KEY = ShardKey("train", 3, 20)
MARKER = Marker({"parse": "0a0b0c0d"}, (FileSummary("a/b", 3, "364b3fb7"),), {"spans": 2})


@pytest.fixture
def layout(tmp_path):
    layout = Layout(str(tmp_path), "toy", "1.0.0")
    folder = tmp_path / "toy" / "1.0.0" / "a"
    folder.mkdir(parents=True)
    (folder / "b").write_bytes(b"abc")
    return layout


def test_a_marker_comes_back_as_it_was_written(layout, tmp_path):
    write_marker(layout, "ground", KEY, MARKER)
    path = tmp_path / "toy" / "1.0.0" / ".state" / "ground" / "train-00003-of-00020.json"
    assert json.loads(path.read_bytes()) == {
        "inputs": {"parse": "0a0b0c0d"},
        "files": [{"path": "a/b", "num_bytes": 3, "crc32c": "364b3fb7"}],
        "counts": {"spans": 2},
    }
    assert read_marker(layout, "ground", KEY) == MARKER


def test_a_marker_of_the_whole_dataset(layout, tmp_path):
    write_marker(layout, "instructions", None, MARKER)
    assert (tmp_path / "toy" / "1.0.0" / ".state" / "instructions" / "all.json").is_file()
    assert read_marker(layout, "instructions", None) == MARKER


def test_no_marker(layout):
    assert read_marker(layout, "ground", KEY) is None


@pytest.mark.parametrize("content", [None, b"ab", b"abcd"])
def test_a_marker_whose_file_is_gone_or_of_another_size_does_not_count(layout, tmp_path, content):
    write_marker(layout, "ground", KEY, MARKER)
    path = tmp_path / "toy" / "1.0.0" / "a" / "b"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert read_marker(layout, "ground", KEY) is None


def test_upstream_checksum(layout):
    write_marker(layout, "parse", KEY, MARKER)
    assert upstream_checksum(layout, "parse", KEY) == "364b3fb7"


def test_upstream_checksum_of_a_stage_that_has_not_run(layout):
    assert upstream_checksum(layout, "parse", KEY) == ""


@pytest.mark.parametrize("content", [b"", b"[]", b'{"inputs": {}, "files": '])
def test_a_damaged_marker_counts_as_none(layout, tmp_path, content):
    write_marker(layout, "ground", KEY, MARKER)
    path = tmp_path / "toy" / "1.0.0" / ".state" / "ground" / "train-00003-of-00020.json"
    path.write_bytes(content)
    assert read_marker(layout, "ground", KEY) is None
    assert upstream_checksum(layout, "ground", KEY) == ""


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"inputs": 1, "files": 2}',
        b'{"inputs": {}, "files": [1], "counts": {}}',
        b'{"inputs": {}, "files": [{}], "counts": {}}',
        b'{"inputs": {}, "files": [], "counts": {"a": "b"}}',
    ],
)
def test_what_is_not_a_marker_says_so(text):
    with pytest.raises(
        StorageError,
        match=r"^x\.json: not a marker: .*; the shard is not complete: run the same command again$",
    ):
        decode_marker("x.json", text)


def test_sum_counts():
    other = Marker({}, (), {"spans": 3, "failed": 1})
    assert sum_counts([MARKER, other]) == {"failed": 1, "spans": 5}
    assert sum_counts([]) == {}
