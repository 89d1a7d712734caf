import errno
import gc
import json
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import encode_episode_rows, make_row, scene, scene_jpeg

from ilv_dataset.errors import StorageError
from ilv_dataset.formats import parquet
from ilv_dataset.formats.atomic import replacing_file
from ilv_dataset.formats.parquet import (
    IMAGE,
    ParquetFile,
    describe_schema,
    read_rows,
    relative_path,
    write_rows,
)
from ilv_dataset.formats.tables import EPISODES_SCHEMA

SCHEMA = pa.schema([("name", pa.string()), ("pictures", pa.list_(IMAGE))])
ROWS = [
    {"name": f"row {n}", "pictures": [{"bytes": b"x" * 10, "path": None}] * n} for n in range(3)
]


@pytest.fixture
def write(tmp_path):
    def write(rows, schema=SCHEMA):
        path = tmp_path / "root" / "a" / "b.parquet"
        summary = write_rows(
            str(path), rows, schema, root=str(tmp_path / "root"), out=str(tmp_path)
        )
        return path, summary

    return write


def test_rows_come_back(write):
    path, summary = write(ROWS)
    assert list(read_rows(str(path))) == ROWS
    assert list(read_rows(str(path), columns=["name"])) == [{"name": f"row {n}"} for n in range(3)]
    assert summary.path == "a/b.parquet"
    assert summary.num_bytes == path.stat().st_size


def test_the_same_rows_give_the_same_bytes(write):
    path, first = write(ROWS)
    before = path.read_bytes()
    assert write(iter(ROWS))[1] == first
    assert path.read_bytes() == before


def test_no_rows_give_a_file_with_columns(write):
    path, _ = write([])
    assert list(read_rows(str(path))) == []
    assert pq.read_schema(path).names == ["name", "pictures"]


def test_a_row_group_ends_at_its_bytes_or_its_rows(write, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 100)
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 3)
    large = {"name": "x" * 100, "pictures": []}
    small = {"name": "y", "pictures": [{"bytes": b"z", "path": None}]}
    path, _ = write([large, small, small, small, small])
    groups = pq.ParquetFile(path).metadata
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [1, 3, 1]


def test_pictures_are_stored_as_they_are_and_not_summarised(write):
    path, _ = write(ROWS)
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    picture = columns["pictures.list.element.bytes"]
    assert (picture.compression, picture.statistics) == ("UNCOMPRESSED", None)
    assert "RLE_DICTIONARY" not in picture.encodings
    assert columns["name"].compression == "ZSTD"
    assert columns["name"].statistics.max == "row 2"


def test_a_column_of_plain_bytes_is_compressed(write):
    path, _ = write([{"mask": b"0" * 10_000}], pa.schema([("mask", pa.binary())]))
    assert path.stat().st_size < 1_000


def test_describe_schema_for_hugging_face():
    schema = describe_schema(
        pa.schema(
            [
                ("text", pa.string()),
                ("images", pa.list_(IMAGE)),
                ("action", pa.list_(pa.float32(), 7)),
                ("objects", pa.list_(pa.struct([("box", pa.list_(pa.float64()))]))),
                ("flag", pa.bool_()),
            ]
        )
    )
    assert json.loads(schema.metadata[b"huggingface"])["info"]["features"] == {
        "text": {"dtype": "string", "_type": "Value"},
        "images": {"feature": {"_type": "Image"}, "_type": "List"},
        "action": {"feature": {"dtype": "float32", "_type": "Value"}, "length": 7, "_type": "List"},
        "objects": {
            "feature": {
                "box": {"feature": {"dtype": "float64", "_type": "Value"}, "_type": "List"}
            },
            "_type": "List",
        },
        "flag": {"dtype": "bool", "_type": "Value"},
    }


def test_hugging_face_datasets_decodes_the_pictures_of_episodes(write, tmp_path):
    import datasets

    path, _ = write(
        encode_episode_rows([make_row(), make_row(images=(), objects=())]), EPISODES_SCHEMA
    )
    loaded = datasets.load_dataset(
        "parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    (picture,) = loaded[0]["images"]
    assert picture.size == (64, 48)
    assert np.abs(np.asarray(picture).astype(int) - scene()).mean() < 5
    assert loaded[0]["objects"][0]["box_xyxy"] == [8.0, 8.0, 24.0, 16.0]
    assert loaded[1]["images"] == []


def test_duckdb_reads_episodes(write):
    import duckdb

    path, _ = write(encode_episode_rows([make_row()]), EPISODES_SCHEMA)
    (row,) = duckdb.sql(
        f"select interleaved, images[1].bytes, objects[1].box_xyxy, len(objects) from '{path}'"
    ).fetchall()
    assert row == ("put <image> on the plate", scene_jpeg(), [8.0, 8.0, 24.0, 16.0], 1)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"x" * 100 + b"PAR1", b"x" * 100])
def test_a_file_that_is_not_parquet_is_one_line(tmp_path, content):
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"x\.parquet: not a readable Parquet file: "):
        list(read_rows(str(path)))


def test_a_damaged_page_is_one_line(write):
    path, _ = write([{"name": "x" * 5000, "pictures": []}])
    damaged = bytearray(path.read_bytes())
    damaged[4:40] = b"\xff" * 36
    path.write_bytes(damaged)
    with pytest.raises(StorageError, match="not a readable Parquet file: "):
        list(read_rows(str(path)))


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(StorageError, match=r"x\.parquet: No such file"):
        list(read_rows(str(tmp_path / "x.parquet")))


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    class FullFile:
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self):
            pass

    def write():
        with replacing_file(str(tmp_path / "b.parquet"), out=str(tmp_path)) as sink:
            sink._file = FullFile()
            with ParquetFile(sink, SCHEMA) as file:
                file.write(pa.Table.from_pylist(ROWS, SCHEMA))

    with pytest.raises(StorageError, match=r"b\.parquet: No space left on device$"):
        write()
    assert [entry.name for entry in tmp_path.iterdir()] == [".tmp"]


def test_rows_that_fail_leave_nothing_and_say_nothing_more(tmp_path, capfd):
    def rows():
        yield ROWS[0]
        raise StorageError("the source is gone")

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # also what a destructor raises
        with pytest.raises(StorageError, match=r"^the source is gone$"):
            write_rows(str(tmp_path / "b"), rows(), SCHEMA, root=str(tmp_path), out=str(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == [".tmp"]
    gc.collect()
    assert capfd.readouterr().err == ""


def test_a_row_that_does_not_fit_the_columns_is_a_bug(tmp_path):
    with pytest.raises(pa.ArrowException):
        write_rows(str(tmp_path / "b"), [{"name": 5}], SCHEMA, root="", out=str(tmp_path))


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [("/o/d/1/a/b", "/o/d/1", "a/b"), ("mem://b/d/a", "mem://b/d/", "a")],
)
def test_relative_path(path, root, expected):
    assert relative_path(path, root) == expected
