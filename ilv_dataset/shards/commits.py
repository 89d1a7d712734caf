"""When a stage is done with a shard: the marker is there, and made from what lies upstream now.

Except for a source shard that was read without damage: what is made of it stays, whatever becomes
of the source. A new release of a dataset shows in dataset_info.json, which the plan holds.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from ilv_dataset.errors import StorageError
from ilv_dataset.formats import files
from ilv_dataset.formats.atomic import FileSummary
from ilv_dataset.formats.markers import Marker, read_marker, upstream_checksum, write_marker
from ilv_dataset.jobs import Job
from ilv_dataset.selection import ShardPlan

_UNREADABLE = "unreadable"
UPSTREAM = {"ground": "parse", "steps": "ground", "rlds": "ground"}


def read_commit(stage: str, shard: ShardPlan, *, job: Job) -> Marker | None:
    """The marker of a shard that need not be done again; None where it is to be done.

    Raises: StorageError.
    """
    found = read_marker(job.layout, stage, shard.key)
    if found is None or (stage not in UPSTREAM and not _is_damaged(found.counts)):
        return found
    return found if found.inputs == _inputs(stage, shard, found.counts, job) else None


def read_commits(stage: str, *, job: Job) -> list[Marker | None]:
    """What `read_commit` says of every shard of the job, in their order."""
    read = functools.partial(read_commit, stage, job=job)
    return files.map_files(read, job.shards, root=job.layout.root)


def commit_shard(
    stage: str, shard: ShardPlan, summary: FileSummary, counts: dict[str, int], *, job: Job
) -> None:
    """Marks a shard as done; call it when its file is in place."""
    inputs = _inputs(stage, shard, counts, job)
    if counts.get("missing") and inputs.get("crc32c"):  # it is back already: read it next time
        inputs["crc32c"] = _UNREADABLE
    marker = Marker(inputs, (summary,), counts)
    write_marker(job.layout, stage, shard.key, marker)


def _is_damaged(counts: Mapping[str, int]) -> bool:
    """Whether a scan met anything that fetching the shard again may mend."""
    return bool(counts.get("damaged") or counts.get("missing"))


def _inputs(stage: str, shard: ShardPlan, counts: Mapping[str, int], job: Job) -> dict[str, str]:
    """What a shard is made from: the source by its size, our own files by their checksum.

    A damaged source is also told by its checksum, for what mends a broken record mostly
    leaves the size as it is.
    """
    upstream = UPSTREAM.get(stage)
    if upstream is not None:
        return {upstream: upstream_checksum(job.layout, upstream, shard.key)}
    path = job.source_path(shard)
    inputs = {"source": str(files.file_size(path))}
    if counts.get("damaged"):
        inputs["crc32c"] = _checksum(path)
    return inputs


def _checksum(path: str) -> str:
    try:
        return files.checksum(path)
    except StorageError:  # which is why the shard failed, and is news once it is mended
        return _UNREADABLE
