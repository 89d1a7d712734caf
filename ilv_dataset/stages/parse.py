"""Scanning shards for their distinct instructions, and parsing these."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam

from ilv_dataset.grammar import parse_instruction
from ilv_dataset.jobs import Job
from ilv_dataset.shards.instructions import write_distinct, write_instructions
from ilv_dataset.shards.scan import scan_shard


@dataclass
class ScanShards(beam.PTransform):
    """ShardPlan -> str: the distinct instructions of all shards, in no order.

    Commits the index of each shard on the way. The only shuffle of the project; it carries text.
    """

    job: Job

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """Wires the transform."""
        return (
            shards
            | "SpreadShards" >> beam.Reshuffle()
            | "ScanShard" >> beam.FlatMap(scan_shard, job=self.job)
            | "KeepDistinct" >> beam.Distinct()
        )


@dataclass
class ParseInstructions(beam.PTransform):
    """str -> path: extracts the objects of every instruction and writes the one table."""

    job: Job

    def expand(self, instructions: beam.PCollection) -> beam.PCollection:
        """Wires the transform."""
        return (
            instructions
            | "ParseInstruction" >> beam.Map(parse_instruction)
            # ParsedInstruction -> list of them: text alone, some 100 MB at 150,000
            | "GatherInstructions" >> beam.combiners.ToList()
            | "WriteInstructions" >> beam.Map(write_instructions, job=self.job)
        )


@dataclass
class GatherInstructions(beam.PTransform):
    """str -> None: writes the distinct instructions to one file, for the launcher to ask about."""

    job: Job

    def expand(self, instructions: beam.PCollection) -> beam.PCollection:
        """Wires the transform."""
        return (
            instructions
            # str -> list of them: text alone, some 10 MB at 150,000
            | "GatherInstructions" >> beam.combiners.ToList()
            | "WriteDistinct" >> beam.Map(write_distinct, job=self.job)
        )
