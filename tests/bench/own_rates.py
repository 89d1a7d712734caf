"""Measures the shard functions on one core, in a process of its own, as peer_tfds.py does TFDS.

    python tests/bench/own_rates.py DATA_DIR OUT

OUT holds the episodes table. Prints one JSON object: episodes a second of reading and writing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import sources
import stages
import timing

from ilv_dataset.formats.example import parse_example
from ilv_dataset.formats.tfrecord import RawRecord, read_records
from ilv_dataset.jobs import Job
from ilv_dataset.selection import ShardPlan
from ilv_dataset.shards.scan import index_shard, scan_shard
from ilv_dataset.shards.write import write_rlds_shard, write_steps_shard


def read_all(job: Job) -> None:
    """Frames and parses every record, as TFDS does when it skips decoding."""
    for shard in job.shards:
        path = Path(job.source_path(shard))
        with path.open("rb") as file:
            for record in read_records(file, size=path.stat().st_size):
                assert isinstance(record, RawRecord)
                parse_example(record.payload)


def index_all(job: Job) -> None:
    """Reads and checks every record, as `parse` does."""
    for shard in job.shards:
        for _ in index_shard(shard, job=job):
            pass


def write_shard(shard: ShardPlan, job: Job, stage: str) -> None:
    """Does one stage of a shard: "parse", "steps" (Parquet) or "rlds"."""
    if stage == "parse":
        for _ in scan_shard(shard, job=job):
            pass
    else:
        {"steps": write_steps_shard, "rlds": write_rlds_shard}[stage](shard, job=job)


def writing(job: Job, stage: str) -> timing.Action:
    """Does one stage of every shard afresh."""

    def write() -> None:
        for shard in job.shards:
            write_shard(shard, job, stage)

    def forget() -> None:
        stages.forget_stage(job, stage, job.shards)

    return timing.Action(write, forget)


def main(data_dir: str, out: str) -> dict[str, float]:
    """Measures the four in turn."""
    job = stages.make_job(sources.Source(Path(data_dir), 0, 0), Path(out))
    num_episodes = sum(shard.num_selected for shard in job.shards)
    reading: dict[str, Callable[[Job], None]] = {"read": read_all, "index": index_all}
    actions = {
        name: timing.Action(lambda read=read: read(job)) for name, read in reading.items()
    } | {stage: writing(job, stage) for stage in ("steps", "rlds")}
    seconds = timing.time_in_turn(actions, num_rounds=3)
    return {name: num_episodes / timing.median(taken) for name, taken in seconds.items()}


if __name__ == "__main__":
    timing.stay_on_one_core()
    print(json.dumps(main(*sys.argv[1:])))
