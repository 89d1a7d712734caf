"""Running a function over shards, one element a shard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import apache_beam as beam

from ilv_dataset.jobs import Job
from ilv_dataset.shards.ground import ground_shard
from ilv_dataset.shards.write import write_rlds_shard, write_steps_shard


@dataclass
class GroundObjects(beam.PTransform):
    """ShardPlan -> None: commits the shard's rows of the episodes table; at least once."""

    job: Job

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """Wires the transform."""
        return _spread(shards, "GroundShard", ground_shard, self.job)


@dataclass
class WriteSteps(beam.PTransform):
    """ShardPlan -> None: commits the shard's steps table; at least once."""

    job: Job

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """Wires the transform."""
        return _spread(shards, "WriteStepsShard", write_steps_shard, self.job)


@dataclass
class WriteRlds(beam.PTransform):
    """ShardPlan -> None: commits the shard's RLDS records; at least once."""

    job: Job

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """Wires the transform."""
        return _spread(shards, "WriteRldsShard", write_rlds_shard, self.job)


def _spread(
    shards: beam.PCollection, label: str, function: Callable[..., None], job: Job
) -> beam.PCollection:
    return shards | "SpreadShards" >> beam.Reshuffle() | label >> beam.Map(function, job=job)
