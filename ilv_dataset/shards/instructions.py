"""The instructions table of a dataset: written once all shards are scanned."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence, Set

import pyarrow as pa

from ilv_dataset.formats import files, tables
from ilv_dataset.formats.markers import Marker, read_marker, upstream_checksum, write_marker
from ilv_dataset.formats.parquet import read_rows, write_rows
from ilv_dataset.jobs import Job
from ilv_dataset.records import ParsedInstruction

STAGE = "instructions"
_DISTINCT_SCHEMA = pa.schema([("instruction", pa.string())])


def write_instructions(parsed: Sequence[ParsedInstruction], *, job: Job) -> None:
    """Writes one row per distinct instruction, sorted, and commits it, where it is not there yet.

    Raises: StorageError.
    """
    if read_instructions_marker(job) is None:
        replace_instructions(sorted(parsed, key=lambda p: p.instruction), job=job)


def replace_instructions(parsed: Iterable[ParsedInstruction], *, job: Job) -> None:
    """Writes the table and commits it; `parsed` are distinct and sorted by their instruction.

    Raises: StorageError.
    """
    counts = dict.fromkeys(("instructions", "rejected", "fallback"), 0)
    summary = write_rows(
        job.layout.instructions,
        map(tables.encode_instruction, _counted(parsed, counts)),
        tables.INSTRUCTIONS_SCHEMA,
        root=job.layout.root,
        out=job.layout.out,
    )
    write_marker(job.layout, STAGE, None, Marker(_inputs(job), (summary,), counts))


def read_instructions(job: Job) -> Iterator[ParsedInstruction]:
    """Streams the table, of whatever run it is; nothing where there is none.

    Raises: StorageError.
    """
    if files.exists(job.layout.instructions):
        yield from map(tables.decode_instruction, read_rows(job.layout.instructions))


def write_distinct(instructions: Sequence[str], *, job: Job) -> None:
    """Writes the distinct instructions of all shards, sorted, for `read_distinct`.

    Raises: StorageError.
    """
    rows = ({"instruction": instruction} for instruction in sorted(instructions))
    path, layout = job.layout.distinct_instructions, job.layout
    write_rows(path, rows, _DISTINCT_SCHEMA, root=layout.root, out=layout.out)


def read_distinct(job: Job) -> list[str]:
    """The distinct instructions of the scan, sorted.

    Raises: StorageError.
    """
    return [str(row["instruction"]) for row in read_rows(job.layout.distinct_instructions)]


def forget_groundings(instructions: Set[str], *, job: Job) -> None:
    """Has the shards grounded again that hold any of some instructions, for their rows changed.

    Raises: StorageError.
    """
    wanted = {instruction.encode() for instruction in instructions}
    for shard in job.shards if wanted else ():
        rows = read_rows(job.layout.index(shard.key), columns=["instruction"])
        if any(row["instruction"] in wanted for row in rows):
            files.remove_tree(job.layout.marker("ground", shard.key))


def _counted(
    parsed: Iterable[ParsedInstruction], counts: dict[str, int]
) -> Iterator[ParsedInstruction]:
    for row in parsed:
        counts["instructions"] += 1
        counts["rejected"] += row.status == "rejected"
        counts["fallback"] += bool(row.fallback)
        yield row


def read_instructions_marker(job: Job) -> Marker | None:
    """The marker of a table that was made from the indexes as they are; else None."""
    marker = read_marker(job.layout, STAGE, None)
    return marker if marker is not None and marker.inputs == _inputs(job) else None


def _inputs(job: Job) -> dict[str, str]:
    keys = [shard.key for shard in job.shards]
    read = functools.partial(upstream_checksum, job.layout, "parse")
    checksums = files.map_files(read, keys, root=job.layout.root)
    return {"indexes": hashlib.sha256("\n".join(checksums).encode()).hexdigest()}
