"""When a stage is done with a shard: the marker is there, and made from what lies upstream now."""

from __future__ import annotations

from ilv_dataset.formats import files
from ilv_dataset.formats.atomic import FileSummary
from ilv_dataset.formats.markers import Marker, read_marker, upstream_checksum, write_marker
from ilv_dataset.jobs import Job
from ilv_dataset.selection import ShardPlan

UPSTREAM = {"ground": "parse", "steps": "ground", "rlds": "ground"}


def read_commit(stage: str, shard: ShardPlan, *, job: Job) -> Marker | None:
    """The marker of a shard that need not be done again; None where it is to be done."""
    upstream = UPSTREAM.get(stage)
    if upstream and not files.exists(job.layout.marker(upstream, shard.key)):
        return None
    return read_marker(job.layout, stage, shard.key, _inputs(stage, shard, job))


def commit_shard(
    stage: str, shard: ShardPlan, summary: FileSummary, counts: dict[str, int], *, job: Job
) -> None:
    """Marks a shard as done; call it when its file is in place."""
    marker = Marker(_inputs(stage, shard, job), (summary,), counts)
    write_marker(job.layout, stage, shard.key, marker)


def _inputs(stage: str, shard: ShardPlan, job: Job) -> dict[str, str]:
    """What a shard is made from: the source by its size, our own files by their checksum."""
    upstream = UPSTREAM.get(stage)
    if upstream is None:
        return {"source": str(files.file_size(job.source_path(shard)))}
    return {upstream: upstream_checksum(job.layout, upstream, shard.key)}
