"""Converted datasets as they lie on disk: where they are, their shards, and what their run says.

Reads only what is asked for; whether it is true is left to `validation`.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ilv_dataset.datasets import list_datasets
from ilv_dataset.errors import ConfigError, StorageError
from ilv_dataset.formats import files
from ilv_dataset.layout import STAGES, Layout
from ilv_dataset.records import ShardKey

_SHARD_NAME = re.compile(r"(.+)-(\d{5,9})-of-(\d{5,9})")
_SUFFIXES = (".index.parquet", ".parquet", ".json")
_STATE = ".state"
_SIGN = b'"ilv_dataset"'  # a key of our plan.json and run.json
_SIGN_WITHIN = 1 << 16  # bytes; it is in the first line or two
# What pyarrow raises on bytes that are not the Parquet file they claim to be.
PARQUET_ERRORS = (pa.ArrowException, OSError, ValueError, MemoryError)


def find_outputs(path: str) -> list[Layout]:
    """The converted datasets at PATH, which is OUT or OUT/<dataset>/<version>; others are ignored.

    Raises: ConfigError where there is none.
    """
    folder = path.rstrip("/") or "/"
    if is_output(folder):
        return [_layout_at(folder)]
    found = [Layout(folder, *names) for names in _dataset_folders(folder)]
    if not found and (versions := _output_folders(folder)):
        found = [_layout_at(files.join_path(folder, version)) for version in versions]
    if not found:
        raise ConfigError(
            f"{path}: {_what_is_there(folder)}; expected OUT or OUT/<dataset>/<version>"
        )
    return found


def is_output(folder: str) -> bool:
    """Whether a conversion was begun in this folder."""
    names = set(_list_names(folder))
    if _STATE in names and set(STAGES) & set(_list_names(files.join_path(folder, _STATE))):
        return True
    return any(
        _SIGN in _read_start(files.join_path(folder, name))
        for name in ("plan.json", "run.json")
        if name in names
    )


def read_json(path: str) -> dict[str, Any]:
    """A small JSON object.

    Raises: StorageError where the file is missing or holds something else.
    """
    try:
        content = json.loads(files.read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise StorageError(f"{path}: not a JSON object but {type(content).__name__}")
    return content


def read_run(layout: Layout) -> dict[str, Any] | None:
    """What run.json says; None where the run is not complete."""
    return read_json(layout.run) if files.exists(layout.run) else None


def list_unfinished(layouts: Iterable[Layout]) -> list[str]:
    """The roots of those whose conversion is not through: they have no run.json."""
    return [layout.root for layout in layouts if read_run(layout) is None]


def read_plan(layout: Layout) -> dict[str, Any]:
    """What plan.json says; empty where it is missing."""
    return read_json(layout.plan) if files.exists(layout.plan) else {}


def list_shards(layout: Layout, stage: str = "ground") -> list[ShardKey]:
    """The shards that a stage has committed, in order.

    Without any marker, as in a copy that left hidden folders out, those with a file.
    """
    names = [name for name in _list_names(layout.markers(stage)) if name.endswith(".json")]
    if not names and not _list_names(files.join_path(layout.root, _STATE)):
        names = _list_names(files.join_path(layout.root, "episodes"))
    keys = (parse_shard_name(name) for name in names)
    return sorted(key for key in keys if key is not None)


def parse_shard_name(name: str) -> ShardKey | None:
    """The shard that a file of ours is of, or None.

    >>> parse_shard_name("train-00012-of-01024.parquet")
    ShardKey(split='train', index=12, num_shards=1024)
    """
    stem = next((name.removesuffix(s) for s in _SUFFIXES if name.endswith(s)), name)
    match = _SHARD_NAME.fullmatch(stem)
    key = ShardKey(match[1], int(match[2]), int(match[3])) if match else None
    return key if key and key.name == stem and key.index < key.num_shards else None


def channel_orders(layout: Layout) -> Mapping[str, str]:
    """Camera -> "rgb" or "bgr", as the registry has it of the dataset; others are "rgb"."""
    for spec in list_datasets():
        if spec.tfds_name == layout.dataset:
            return {camera.key: camera.channel_order for camera in spec.cameras}
    return {}


def read_schema(path: str) -> pa.Schema:
    """Columns of a Parquet file, from its footer alone.

    Raises: StorageError.
    """
    with _opened(path) as file:
        return file.schema_arrow


def count_rows(path: str) -> int:
    """Rows of a Parquet file, from its footer alone.

    Raises: StorageError.
    """
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def read_batches(
    path: str, columns: Sequence[str] | None = None, *, batch_rows: int = 256
) -> Iterator[pa.RecordBatch]:
    """Streams a Parquet file; columns may be leaves, such as `images.list.element.path`.

    Raises: StorageError where the file is missing or is not Parquet.
    """
    with _opened(path) as file:
        yield from file.iter_batches(batch_size=batch_rows, columns=columns)


def read_dicts(path: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Streams the rows of a Parquet file as plain values.

    Raises: StorageError where the file is missing or is not Parquet.
    """
    with _opened(path) as file:
        for batch in file.iter_batches(batch_size=256, columns=columns):
            yield from batch.to_pylist()


@contextlib.contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    with files.open_read(path) as file:
        try:
            yield pq.ParquetFile(file)
        except PARQUET_ERRORS as error:
            raise StorageError(f"{path}: not a readable Parquet file: {error}") from error


def _what_is_there(path: str) -> str:
    if _list_names(path):
        return "no converted dataset there"
    return "a file, not a folder" if files.file_size(path) is not None else "no such folder"


def _layout_at(folder: str) -> Layout:
    """The layout whose root this folder is."""
    if not files.is_remote(folder):
        local = Path(folder)
        if len(local.parts) < 3 or ".." in local.parts:
            local = local.resolve()
        folder = str(local)
    out, dataset, version = folder.rsplit("/", 2)
    return Layout(out or "/", dataset, version)


def _dataset_folders(out: str) -> Iterator[tuple[str, str]]:
    for dataset in _list_names(out):
        for version in _output_folders(files.join_path(out, dataset)):
            yield dataset, version


def _output_folders(folder: str) -> list[str]:
    return [name for name in _list_names(folder) if is_output(files.join_path(folder, name))]


def _list_names(folder: str) -> list[str]:
    with files.naming_path(folder):
        return files.list_names(folder)


def _read_start(path: str) -> bytes:
    if files.file_size(path) is None:
        return b""
    with files.open_read(path) as file, files.naming_path(path):
        return file.read(_SIGN_WITHIN)
