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

    `inputs` are the sizes or checksums of what it was made from: when one changes, because a
    missing shard arrived or a cut one was fetched again, the shard is done again.
    """

    inputs: Mapping[str, str]
    files: tuple[FileSummary, ...]
    counts: Mapping[str, int]  # summed over shards by their names


def write_marker(layout: Layout, stage: str, shard: ShardKey | None, marker: Marker) -> None:
    """Commits a shard, or all of the dataset; call it after the files are in place."""
    atomic.write_json(layout.marker(stage, shard), asdict(marker), out=layout.out)


def read_marker(layout: Layout, stage: str, shard: ShardKey | None) -> Marker | None:
    """The marker of a shard, or of the whole dataset, whose files are still there; else None.

    Raises: StorageError where the file is not a marker.
    """
    path = layout.marker(stage, shard)
    if not files.exists(path):
        return None
    marker = decode_marker(path, files.read_bytes(path))
    whole = all(
        files.file_size(files.join_path(layout.root, file.path)) == file.num_bytes
        for file in marker.files
    )
    return marker if whole else None


def upstream_checksum(layout: Layout, stage: str, shard: ShardKey) -> str:
    """CRC32C of what an earlier stage wrote for a shard, taken from its marker.

    Raises: StorageError where that stage has not committed the shard.
    """
    path = layout.marker(stage, shard)
    marker = decode_marker(path, files.read_bytes(path))
    return ",".join(file.crc32c for file in marker.files)


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
        raise StorageError(f"{path}: not a marker: {error}; delete it to redo the shard") from error


def sum_counts(markers: Sequence[Marker]) -> dict[str, int]:
    """Counts of several shards added up, in the order of their names."""
    names = sorted({name for marker in markers for name in marker.counts})
    return {name: sum(marker.counts.get(name, 0) for marker in markers) for name in names}
