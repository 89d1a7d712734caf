"""Peak memory of a worker that parses or writes, over a few shards and over many.

    python tests/bench/memory.py STAGES NUM_SHARDS DATA_DIR OUT

As a script it is that worker: it does the stages ("parse", or "steps,rlds" where OUT holds the
episodes table) of the first shards and prints its peak in MB.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import stages
import timing
from rows import Row
from sources import EpisodeSize, Source, generate_source

NUM_FEW = 2
LIMIT_MB = 600
GROWTH_MAX = 1.1  # where nothing grows; an allocator is not exact
SMALL = EpisodeSize(num_steps=40, side_px=256)
LARGE = EpisodeSize(num_steps=1100, side_px=512)  # 130 MB


def measure_memory(folder: Path, *, num_many: int) -> Iterator[Row]:
    """Rows of `parse` and of `write`, of shards that each hold an episode of 130 MB."""
    shard = [*[SMALL] * 20, LARGE, *[SMALL] * 20]
    source = generate_source(folder / "data", [shard] * NUM_FEW, num_repeats=num_many // NUM_FEW)
    stages.annotate(stages.make_job(source, folder / "write"))
    for what, names in (("parse", "parse"), ("write", "steps,rlds")):
        few_mb, many_mb = (
            timing.run_script("memory.py", names, number, source.data_dir, folder / what)
            for number in (NUM_FEW, num_many)
        )
        yield Row(
            f"{what}: peak memory, 130 MB episodes",
            f"{many_mb:,.0f} MB over {num_many} shards",
            value=many_mb,
            unit="MB",
            at_most=LIMIT_MB,
        )
        yield Row(
            f"{what}: growth of it with the shards",
            f"{many_mb:,.0f} MB over {num_many}",
            f"{few_mb:,.0f} MB over {NUM_FEW}",
            many_mb / few_mb,
            at_most=GROWTH_MAX,
        )


def main(names: str, num_shards: str, data_dir: str, out: str) -> float:
    """Does the stages of the first shards, deletes what it wrote, and returns the peak, MB."""
    from own_rates import write_shard

    import ilv_dataset.stages.parse  # what a worker of Beam has in memory
    import ilv_dataset.stages.shards  # noqa: F401

    job = stages.make_job(Source(Path(data_dir), 0, 0), Path(out))
    for shard in job.shards[: int(num_shards)]:
        for name in names.split(","):
            write_shard(shard, job, name)
            stages.forget_stage(job, name, [shard])
    return timing.peak_memory_mb()


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
