"""Runs the shard functions on a generated dataset, with a detector that costs nothing."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import sources

from ilv_dataset.formats import files
from ilv_dataset.grammar import parse_instruction
from ilv_dataset.jobs import Job
from ilv_dataset.masks import FrameMasks
from ilv_dataset.planning import ConvertOptions, plan_job
from ilv_dataset.records import Detections, Frame, Phrase
from ilv_dataset.selection import ShardPlan
from ilv_dataset.shards import ground
from ilv_dataset.shards.instructions import write_instructions
from ilv_dataset.shards.scan import scan_shard


class FixedDetector:
    """Sees each phrase in a corner of its own, at once; so every span is interleaved."""

    spec = fingerprint = "fixed"
    has_masks = True
    needs_source_objects = False

    def __call__(
        self, frames: Sequence[Frame], queries: Sequence[Sequence[Phrase]]
    ) -> list[Detections]:
        return [
            fixed_detections(frame, len(wanted))
            for frame, wanted in zip(frames, queries, strict=True)
        ]


def fixed_detections(frame: Frame, num_queries: int) -> Detections:
    """A box and a mask of 48x48 pixels a query, side by side."""
    starts = 8 + 60 * np.arange(num_queries)
    boxes = np.stack([starts, starts, starts + 48, starts + 48], axis=1).astype(np.float32)
    masks = np.zeros((num_queries, *frame.image.shape[:2]), np.bool_)
    for mask, start in zip(masks, starts, strict=True):
        mask[start : start + 48, start : start + 48] = True
    return Detections(
        boxes, np.ones(num_queries, np.float32), np.arange(num_queries), FrameMasks.of(masks)
    )


def make_job(source: sources.Source, out: Path) -> Job:
    """The job of converting a generated dataset into `out`."""
    options = ConvertOptions(
        dataset=sources.NAME, data_dir=str(source.data_dir), out=str(out), detector="fixed"
    )
    return plan_job(options)


def use_detector(detector: object) -> None:
    """Lets `ground` take this detector for any that a job names, and its own masks."""
    ground.detector_of_process = lambda _: detector
    ground.segmenter_of_process = lambda *_: None


def annotate(job: Job) -> None:
    """Runs all that comes before `write`: scans, parses and grounds every shard."""
    use_detector(FixedDetector())
    scan_shards(job, job.shards)
    for shard in job.shards:
        ground.ground_shard(shard, job=job)


def scan_shards(job: Job, shards: Iterable[ShardPlan]) -> None:
    """Indexes the shards and writes the instructions table."""
    found = {text for shard in shards for text in scan_shard(shard, job=job)}
    parse = functools.cache(parse_instruction)
    write_instructions([parse(text) for text in sorted(found)], job=job)


def forget_stage(job: Job, stage: str, shards: Iterable[ShardPlan]) -> None:
    """Deletes what a stage made of the shards, so that it can be made again."""
    layout = job.layout
    path = {"parse": layout.index, "steps": layout.steps, "rlds": layout.rlds_shard}[stage]
    for shard in shards:
        files.remove_tree(path(shard.key))
        files.remove_tree(job.layout.marker(stage, shard.key))
