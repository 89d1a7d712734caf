"""Parquet files: streamed row group by row group, with pictures that Hugging Face shows.

Knows Arrow types, row groups and the `huggingface` schema metadata; which columns a table has
is in `tables.py` and `steps.py`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ilv_dataset.errors import StorageError
from ilv_dataset.formats import files
from ilv_dataset.formats.atomic import CountingFile, FileSummary, replacing_file

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # Hugging Face's convention
# A row group is what is held in memory while it is written and what a reader fetches at once;
# 16 MB is large enough to stream from disks and buckets; the writer works on one while the next is
# gathered, and with 32 MB it would stand idle for the first third of a shard.
ROW_GROUP_BYTES = 16 << 20
ROW_GROUP_ROWS = 10_000
# A page is copied three times on its way to the file, and a small one stays in the processor's
# cache meanwhile; whether it is full is looked at every PAGE_ROWS rows. Source: ours; frames of
# 30 kB with pages of 1 MB looked at every 1,024 rows, pyarrow's default, took twice as long.
PAGE_BYTES = 256 << 10
PAGE_ROWS = 8
# What Python's file gets at a time. Source: ours; the thread that writes waits for the one that
# reads at each of them, but more than 2 MB is memory fetched anew each time: of 0.13 to 4 MB, 2 MB
# was the fastest (474 MB in 0.75 s, else 0.80 to 1.24 s).
SINK_BYTES = 2 << 20
_NOT_PARQUET = (pa.ArrowException, OSError, UnicodeDecodeError)  # bad Thrift is an OSError
_IMAGE_BYTES_LEAF = "bytes"
_HF_DTYPES = {"float": "float32", "double": "float64", "halffloat": "float16"}


def describe_schema(schema: pa.Schema) -> pa.Schema:
    """Adds the metadata from which `datasets` and the Hub viewer learn which columns are images.

    Source: datasets, `Features.arrow_schema` and `Image.pa_type`.
    """
    features = {field.name: _hf_feature(field.type) for field in schema}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


class ParquetFile:
    """Writes one Parquet file to `sink`, in row groups; frames are stored as they are.

    A thread writes one row group while the next is gathered, so two are in memory. The footer is
    written when a `with` block ends, and not where it ends in an error.

    Columns with image bytes are neither compressed nor summarised: JPEG and PNG do not shrink,
    and their minima mean nothing. All others are compressed with zstd.
    """

    def __init__(self, sink: CountingFile, schema: pa.Schema) -> None:
        image_columns = set(_image_leaves(schema))
        leaves = _leaves(schema)
        self.schema = schema
        self._buffered = pa.BufferedOutputStream(pa.PythonFile(sink, "w"), SINK_BYTES)
        self._writer = pq.ParquetWriter(
            self._buffered,
            schema,
            compression={leaf: "NONE" if leaf in image_columns else "ZSTD" for leaf in leaves},
            use_dictionary=_text_leaves(schema),
            write_statistics=[leaf for leaf in leaves if leaf not in image_columns],
            data_page_size=PAGE_BYTES,
            write_batch_size=PAGE_ROWS,
        )
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="row-groups")
        self._pending: Future[None] | None = None

    def write(self, table: pa.Table) -> None:
        """Begins to write one row group; an error of the one before it is raised here."""
        self._finish_pending()
        size = max(1, table.num_rows)
        self._pending = self._thread.submit(self._writer.write_table, table, row_group_size=size)

    def _finish_pending(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish_pending()
                self._writer.close()
                self._buffered.flush()
        finally:
            self._thread.shutdown()
            self._writer.is_open = False  # else pyarrow would write the footer when it is deleted
            with contextlib.suppress(OSError, StorageError):  # and print why it cannot flush then
                self._buffered.close()


def write_rows(
    path: str, rows: Iterable[Mapping[str, object]], schema: pa.Schema, *, root: str, out: str
) -> FileSummary:
    """Writes rows as one Parquet file, holding one row group in memory at a time.

    Args:
        root: what the path in the summary is relative to.

    Raises: StorageError.
    """
    with replacing_file(path, out=out) as sink, ParquetFile(sink, schema) as file:
        for chunk in _row_groups(rows):
            file.write(pa.Table.from_pylist(chunk, schema=schema))
    return FileSummary(relative_path(path, root), sink.num_bytes, f"{sink.crc32c:08x}")


def read_rows(path: str, *, columns: Sequence[str] | None = None) -> Iterator[dict[str, object]]:
    """Streams the rows of one Parquet file, some hundred in memory at a time.

    Raises: StorageError where the file is missing or is not Parquet.
    """
    with files.open_read(path) as file:
        try:
            reader = pq.ParquetFile(file)
            for batch in reader.iter_batches(batch_size=256, columns=columns):
                yield from batch.to_pylist()
        except _NOT_PARQUET as error:
            raise StorageError(f"{path}: not a readable Parquet file: {error}") from error


def read_rows_where(path: str, column: str, values: Iterable[str]) -> list[dict[str, object]]:
    """The rows whose text in `column` is one of `values`; only these become Python values.

    Raises: StorageError where the file is missing or is not Parquet.
    """
    with files.open_read(path) as file:
        try:
            table = pq.read_table(file)
            wanted = pc.is_in(table[column], pa.array(values, pa.string()))
            return table.filter(wanted).to_pylist()
        except _NOT_PARQUET as error:
            raise StorageError(f"{path}: not a readable Parquet file: {error}") from error


def relative_path(path: str, root: str) -> str:
    """`path` as it is seen from `root`, which is a folder above it."""
    return path.removeprefix(root.rstrip("/") + "/")


def _row_groups(rows: Iterable[Mapping[str, object]]) -> Iterator[list[Mapping[str, object]]]:
    chunk: list[Mapping[str, object]] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += _row_bytes(row)
        if size >= ROW_GROUP_BYTES or len(chunk) >= ROW_GROUP_ROWS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _row_bytes(value: object) -> int:
    """Roughly how much memory a row takes; what is large in it are bytes and texts."""
    if isinstance(value, bytes | str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_row_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_row_bytes, value))
    return 8


def _leaves(schema: pa.Schema) -> list[str]:
    """Paths of the leaf columns, as Parquet names them."""
    return [leaf for field in schema for leaf, _, _ in _field_leaves(field.name, field.type)]


def _image_leaves(schema: pa.Schema) -> list[str]:
    found = [leaf for field in schema for leaf in _field_leaves(field.name, field.type)]
    return [path for path, _, in_image in found if in_image and path.endswith(_IMAGE_BYTES_LEAF)]


def _text_leaves(schema: pa.Schema) -> list[str]:
    """Leaves with values that repeat; numbers of sensors do not, and pictures do not."""
    found = [leaf for field in schema for leaf in _field_leaves(field.name, field.type)]
    return [path for path, kind, _ in found if kind == pa.string()]


def _field_leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType, bool]]:
    """(path, type, whether it belongs to an image) of the leaves below a column."""
    if pa.types.is_struct(kind):
        for child in kind:
            for leaf, leaf_kind, in_image in _field_leaves(f"{path}.{child.name}", child.type):
                yield leaf, leaf_kind, in_image or kind == IMAGE
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _field_leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path, kind, False


def _hf_feature(kind: pa.DataType) -> dict[str, object]:
    if kind == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_struct(kind):
        return {child.name: _hf_feature(child.type) for child in kind}
    if pa.types.is_fixed_size_list(kind):
        feature = _hf_feature(kind.value_type)
        return {"feature": feature, "length": kind.list_size, "_type": "List"}
    if pa.types.is_list(kind):
        return {"feature": _hf_feature(kind.value_type), "_type": "List"}
    return {"dtype": _HF_DTYPES.get(str(kind), str(kind)), "_type": "Value"}
