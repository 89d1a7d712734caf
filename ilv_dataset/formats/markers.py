"""The commit of a shard: a small JSON file with the sizes and checksums of what was written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from ilv_dataset.errors import StorageError
from ilv_dataset.formats import atomic, files
from ilv_dataset.formats.atomic import FileSummary
from ilv_dataset.layout import Layout
from ilv_dataset.records import ShardKey


@dataclass(frozen=True)
class Marker:
    """What one stage made of one shard.

    `inputs` are the sizes or checksums of what it was made from. When one of our own files
    changes the shard is done again; when the source does, only where it was damaged or missing.
    """

    inputs: Mapping[str, str]
    files: tuple[FileSummary, ...]
    counts: Mapping[str, int]  # summed over shards by their names


def write_marker(layout: Layout, stage: str, shard: ShardKey | None, marker: Marker) -> None:
    """Commits a shard, or all of the dataset; call it after the files are in place."""
    atomic.write_json(layout.marker(stage, shard), asdict(marker), out=layout.out)


def read_marker(layout: Layout, stage: str, shard: ShardKey | None) -> Marker | None:
    """The marker of a shard, or of the whole dataset, whose files are still there; else None."""
    marker = peek_marker(layout, stage, shard)
    is_whole = marker is not None and all(
        files.file_size(files.join_path(layout.root, file.path)) == file.num_bytes
        for file in marker.files
    )
    return marker if is_whole else None


def peek_marker(layout: Layout, stage: str, shard: ShardKey | None) -> Marker | None:
    """The marker as it is, without a look at its files; None where there is none, or a damaged one.

    A damaged marker commits nothing: the shard is done again.
    """
    path = layout.marker(stage, shard)
    if not files.exists(path):
        return None
    text = files.read_bytes(path)
    try:
        return decode_marker(path, text)
    except StorageError:
        return None


def upstream_checksum(layout: Layout, stage: str, shard: ShardKey) -> str:
    """CRC32C of what an earlier stage wrote for a shard, as its marker has it; "" without one."""
    marker = peek_marker(layout, stage, shard)
    return ",".join(file.crc32c for file in marker.files) if marker else ""


def decode_marker(path: str, text: bytes) -> Marker:
    """Raises: StorageError where the file is not a marker."""
    try:
        content = json.loads(text)
        summaries = tuple(
            FileSummary(str(file["path"]), int(file["num_bytes"]), str(file["crc32c"]))
            for file in content["files"]
        )
        counts = {str(name): int(count) for name, count in content["counts"].items()}
        return Marker(dict(content["inputs"]), summaries, counts)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise StorageError(
            f"{path}: not a marker: {error}; the shard is not complete: run the same command again"
        ) from error


def sum_counts(markers: Sequence[Marker]) -> dict[str, int]:
    """Counts of several shards added up, in the order of their names."""
    names = sorted({name for marker in markers for name in marker.counts})
    return {name: sum(marker.counts.get(name, 0) for marker in markers) for name in names}
