"""Steps a second from converted shards into batches, beside TFDS and a plain PyTorch loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import stages
import timing
from rows import Row
from sources import EpisodeSize, generate_source

from ilv_dataset.llm_options import LlmOptions
from ilv_dataset.pipelines.convert import Run

NUM_SHARDS, NUM_STEPS, SIDE_PX = 4, 40, 256


def measure_reading(folder: Path, *, num_episodes: int, num_rounds: int) -> Iterator[Row]:
    """Rows of both formats; all on one core, each in a process of its own, in turn.

    Args:
        num_episodes: of each of the shards; 1.2 MB each.
    """
    size = EpisodeSize(num_steps=NUM_STEPS, side_px=SIDE_PX)
    source = generate_source(folder / "data", [[size] * num_episodes] * NUM_SHARDS)
    job = stages.make_job(source, folder / "out")
    stages.annotate(job)
    Run(job, ("parquet", "rlds"), (), LlmOptions()).write()
    scripts = {
        "own": ("own_batches.py", job.layout.root),
        "peer": ("peer_batches.py", job.layout.rlds_folder),
    }
    rates: dict[str, list[float]] = {}
    for _ in range(num_rounds):
        for script, place in scripts.values():
            for name, rate in timing.run_script(script, place).items():
                rates.setdefault(name, []).append(rate)
    yield from _rows({name: timing.median(found) for name, found in rates.items()})


def _rows(rate: Mapping[str, float]) -> Iterator[Row]:
    octo = "TFDS as Octo reads it", rate["octo"]
    cheapest = "TFDS, cheapest resizing", rate["cheapest"]
    loop = "a PyTorch loop over decoded images", rate["loop"]
    yield _row("batches, frames kept small", rate["kept"], *octo, at_least=3)
    yield _row("batches, frames kept small", rate["kept"], *cheapest, at_least=3)
    yield _row("batches, frames kept small", rate["kept"], *loop)
    for what, name in (("RLDS", "rlds"), ("Parquet", "parquet")):
        yield _row(f"batches from {what}, frames decoded", rate[name], *octo)
        yield _row(f"batches from {what}, frames decoded", rate[name], *cheapest)
    buffered = f"{rate['memory_mb']:.0f} MB for 512 steps of 30 kB"
    yield Row("batches: growth of memory behind the first", buffered)


def _row(what: str, own: float, peer: str, rate: float, *, at_least: float | None = None) -> Row:
    beside = f"{peer} {rate:,.0f} steps/s"
    return Row(what, f"{own:,.0f} steps/s", beside, own / rate, at_least=at_least)
