"""The graph that writes the steps table and the RLDS records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import apache_beam as beam

from ilv_dataset.jobs import Job
from ilv_dataset.selection import ShardPlan
from ilv_dataset.stages.shards import WriteRlds, WriteSteps


def build(
    root: beam.Pipeline, job: Job, shards: Mapping[str, Sequence[ShardPlan]]
) -> tuple[beam.PCollection, beam.PCollection]:
    """Adds the graph to `root`; `shards` are those to write, by stage: "steps" and "rlds"."""
    steps = root | "ListStepsShards" >> beam.Create(shards["steps"], reshuffle=False)
    rlds = root | "ListRldsShards" >> beam.Create(shards["rlds"], reshuffle=False)
    return steps | "WriteSteps" >> WriteSteps(job), rlds | "WriteRlds" >> WriteRlds(job)
