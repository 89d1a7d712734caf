"""The graph that finds and cuts out the objects of every span."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam

from ilv_dataset.jobs import Job
from ilv_dataset.selection import ShardPlan
from ilv_dataset.stages.shards import GroundObjects


def build(root: beam.Pipeline, job: Job, shards: Sequence[ShardPlan]) -> beam.PCollection:
    """Adds the graph to `root`, over those shards that are not grounded yet."""
    return (
        root
        | "ListShards" >> beam.Create(shards, reshuffle=False)
        | "GroundObjects" >> GroundObjects(job)
    )
