"""The graph that scans shards and extracts the objects of their instructions."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam

from ilv_dataset.jobs import Job
from ilv_dataset.llm_options import model_of
from ilv_dataset.selection import ShardPlan
from ilv_dataset.stages.parse import GatherInstructions, ParseInstructions, ScanShards


def build(root: beam.Pipeline, job: Job, shards: Sequence[ShardPlan]) -> beam.PCollection:
    """Adds the graph to `root`; `shards` are all of the job's, for the table spans them.

    A language model is asked by the launcher: the workers then only gather the instructions.
    """
    distinct = (
        root
        | "ListShards" >> beam.Create(shards, reshuffle=False)
        | "ScanShards" >> ScanShards(job)
    )
    if model_of(job.extractor) is None:
        return distinct | "ParseInstructions" >> ParseInstructions(job)
    return distinct | "GatherInstructions" >> GatherInstructions(job)
