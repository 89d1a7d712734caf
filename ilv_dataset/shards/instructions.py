"""The instructions table of a dataset: written once all shards are scanned."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

from ilv_dataset.formats import files, tables
from ilv_dataset.formats.markers import Marker, read_marker, upstream_checksum, write_marker
from ilv_dataset.formats.parquet import write_rows
from ilv_dataset.jobs import Job
from ilv_dataset.records import ParsedInstruction

STAGE = "instructions"


def write_instructions(parsed: Sequence[ParsedInstruction], *, job: Job) -> None:
    """Writes one row per distinct instruction, sorted, and commits it, where it is not there yet.

    Raises: StorageError.
    """
    if read_instructions_marker(job) is not None:
        return
    rows = [tables.encode_instruction(p) for p in sorted(parsed, key=lambda p: p.instruction)]
    summary = write_rows(
        job.layout.instructions,
        rows,
        tables.INSTRUCTIONS_SCHEMA,
        root=job.layout.root,
        out=job.layout.out,
    )
    counts = {"instructions": len(rows), "rejected": sum(r["status"] == "rejected" for r in rows)}
    write_marker(job.layout, STAGE, None, Marker(_inputs(job), (summary,), counts))


def read_instructions_marker(job: Job) -> Marker | None:
    """The marker of a table that was made from the indexes as they are; else None."""
    marker = read_marker(job.layout, STAGE, None)
    return marker if marker is not None and marker.inputs == _inputs(job) else None


def _inputs(job: Job) -> dict[str, str]:
    keys = [shard.key for shard in job.shards]
    read = functools.partial(upstream_checksum, job.layout, "parse")
    checksums = files.map_files(read, keys, root=job.layout.root)
    return {"indexes": hashlib.sha256("\n".join(checksums).encode()).hexdigest()}
