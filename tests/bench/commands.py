"""How soon the commands answer: help, inspect on a dataset of 1,000 shards, and a pipeline."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import stages
import timing
from rows import Row
from sources import EpisodeSize, Source, generate_source

from ilv_dataset.grammar import parse_instruction
from ilv_dataset.jobs import Job
from ilv_dataset.llm_options import LlmOptions
from ilv_dataset.pipelines.convert import Run
from ilv_dataset.records import ShardKey
from ilv_dataset.shards.ground import ground_shard
from ilv_dataset.shards.instructions import write_instructions
from ilv_dataset.shards.scan import scan_shard
from ilv_dataset.shards.write import write_steps_shard

ILV = Path(sys.executable).with_name("ilv")
TINY = EpisodeSize(num_steps=2, side_px=64)


def measure_commands(folder: Path, *, num_shards: int, num_rounds: int) -> Iterator[Row]:
    """Rows of `--help`, `inspect` and of the start-up of a pipeline."""
    seconds = _time_command([ILV, "--help"], num_rounds)
    yield Row("ilv --help", f"{seconds:.2f} s", value=seconds, unit="s", at_most=0.5)
    out = folder / "out"
    _make_output(generate_source(folder / "data", [[TINY]], num_repeats=num_shards), out)
    seconds = _time_command([ILV, "inspect", out], num_rounds)
    what = f"ilv inspect, {num_shards:,} shards: first output"
    yield Row(what, f"{seconds:.2f} s", value=seconds, unit="s", at_most=2)
    seconds = timing.median([_time_parse(folder / f"parse-{i}") for i in range(num_rounds)])
    yield Row("start-up of a pipeline: ilv parse demo", f"{seconds:.2f} s")


def _time_command(command: list[str | Path], num_rounds: int) -> float:
    """Seconds until the first line of output, median."""
    return timing.median([_first_line_s(command) for _ in range(num_rounds)])


def _first_line_s(command: list[str | Path]) -> float:
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - begun
        process.stdout.read()
    if process.returncode or not line:
        raise RuntimeError(f"{command} printed {line!r} and exited with {process.returncode}")
    return seconds


def _time_parse(out: Path) -> float:
    command = [ILV, "parse", "demo", "--out", out]
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun


def _make_output(source: Source, out: Path) -> None:
    """A complete output of many shards: one is converted, the others are copies of its files."""
    job = stages.make_job(source, out)
    shard, layout = job.shards[0], job.layout
    stages.use_detector(stages.FixedDetector())
    texts = set(scan_shard(shard, job=job))
    _copy_stage(job, "parse", layout.index)
    write_instructions([parse_instruction(text) for text in texts], job=job)
    ground_shard(shard, job=job)
    _copy_stage(job, "ground", layout.episodes)
    write_steps_shard(shard, job=job)
    _copy_stage(job, "steps", layout.steps)
    Run(job, ("parquet",), (), LlmOptions()).finish({})


def _copy_stage(job: Job, stage: str, path: Callable[[ShardKey], str]) -> None:
    """Gives all shards what a stage made of the first one."""
    first, *others = (shard.key for shard in job.shards)
    marker = Path(job.layout.marker(stage, first)).read_text()
    for shard in others:
        shutil.copyfile(path(first), path(shard))
        copied = marker.replace(first.name, shard.name)
        Path(job.layout.marker(stage, shard)).write_text(copied)
