"""Reading and writing the shards of a dataset, beside a plain copy of the files and beside TFDS."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import stages
import timing
from own_rates import writing
from rows import Row
from sources import EpisodeSize, Source, generate_source

NOISY = 2.0  # times the shortest copy that the longest takes; more, and the disk says nothing
MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Case:
    """What is measured: FACTS.md's 474 MB in 400 episodes, in shards as large as bridge's."""

    num_shards: int
    num_episodes: int  # a shard
    num_rounds: int
    num_tfds_episodes: int


FULL = Case(num_shards=4, num_episodes=100, num_rounds=5, num_tfds_episodes=48)
QUICK = Case(num_shards=2, num_episodes=20, num_rounds=3, num_tfds_episodes=16)


def measure_throughput(folder: Path, case: Case) -> Iterator[Row]:
    """Rows of `write` beside cp, of `write` beside TFDS, and of reading beside TFDS."""
    episode = EpisodeSize(num_steps=40, side_px=256)
    source = generate_source(folder / "data", [[episode] * case.num_episodes] * case.num_shards)
    stages.annotate(stages.make_job(source, folder / "out"))
    yield from _beside_cp(folder, source, case)
    yield from _beside_tfds(folder, source, case)


def _beside_cp(folder: Path, source: Source, case: Case) -> Iterator[Row]:
    seconds, place = _time_writing(folder, source, case), ""
    variation = timing.spread(seconds["cp"])
    if variation > NOISY:
        yield Row("the disk is too noisy", f"cp varies {variation:.1f}x")
        if shutil.disk_usage(MEMORY).free < 4 * source.num_bytes if MEMORY.is_dir() else True:
            yield Row("no room on a memory file system", "the rows below are the disk's")
        else:
            with tempfile.TemporaryDirectory(dir=MEMORY) as memory:
                copied = Path(memory, "case")
                shutil.copytree(folder, copied)
                moved = Source(copied / "data", source.num_episodes, source.num_bytes)
                seconds, place = _time_writing(copied, moved, case), ", in memory"
    rate = {name: source.num_bytes / timing.median(taken) for name, taken in seconds.items()}
    for what, stage, at_least in (("RLDS", "rlds", 0.9), ("Parquet", "steps", 0.5)):
        yield Row(
            f"write RLDS -> {what}{place}",
            _mb_a_second(rate[stage]),
            f"cp with fsync {_mb_a_second(rate['cp'])}",
            rate[stage] / rate["cp"],
            at_least=at_least,
        )


def _time_writing(folder: Path, source: Source, case: Case) -> dict[str, list[float]]:
    """Seconds of cp and of both formats, in turn, all from the page cache."""
    job, copies = stages.make_job(source, folder / "out"), folder / "copies"

    def forget_copies() -> None:
        shutil.rmtree(copies, ignore_errors=True)
        copies.mkdir()

    actions = {
        "cp": timing.Action(lambda: _copy(source, copies), forget_copies),
        "rlds": writing(job, "rlds"),
        "steps": writing(job, "steps"),
    }
    return timing.time_in_turn(actions, num_rounds=case.num_rounds)


def _copy(source: Source, folder: Path) -> None:
    """Copies shard by shard with the system's cp, each of them synced, as ours are."""
    for shard in source.shards:
        subprocess.run(["cp", shard, folder], check=True)
        timing.sync_file(folder / shard.name)


def _beside_tfds(folder: Path, source: Source, case: Case) -> Iterator[Row]:
    """Both on one core, each in a process of its own."""
    peer = timing.run_script("peer_tfds.py", source.folder, case.num_tfds_episodes, folder / "peer")
    own = timing.run_script("own_rates.py", source.data_dir, folder / "out")
    for what, name in (("RLDS", "rlds"), ("Parquet", "steps")):
        yield _rates(f"write RLDS -> {what}", own[name], "TFDS copying", peer["copy"], at_least=50)
    yield _rates("read and parse", own["read"], "TFDS decoding", peer["decode"])
    yield _rates("read and parse", own["read"], "TFDS SkipDecoding", peer["skip"])
    yield Row("parse: read, check, index", _episodes_a_second(own["index"]))


def _rates(what: str, own: float, peer: str, rate: float, *, at_least: float | None = None) -> Row:
    beside = f"{peer} {_episodes_a_second(rate)}"
    return Row(what, _episodes_a_second(own), beside, own / rate, at_least=at_least)


def _episodes_a_second(rate: float) -> str:
    return f"{rate:,.0f} episodes/s" if rate >= 100 else f"{rate:.1f} episodes/s"


def _mb_a_second(rate: float) -> str:
    return f"{rate / 1e6:,.0f} MB/s"
