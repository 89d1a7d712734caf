"""Times actions in turn, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Action:
    """What is timed, and what is done before each time, untimed."""

    run: Callable[[], object]
    reset: Callable[[], object] = lambda: None


def time_in_turn(
    actions: Mapping[str, Action],
    *,
    num_rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each action in each round, after a round that only warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(1 + num_rounds):
        for name, action in actions.items():
            action.reset()
            os.sync()  # or the disk pays within the time for what was deleted before it
            begun = clock()
            action.run()
            seconds[name].append(clock() - begun)
            action.reset()
    return {name: taken[1:] for name, taken in seconds.items()}


def median(seconds: Sequence[float]) -> float:
    """The median of some times."""
    return statistics.median(seconds)


def spread(seconds: Sequence[float]) -> float:
    """How many times the shortest the longest is."""
    return max(seconds) / min(seconds)


def run_script(name: str, *arguments: object) -> Any:
    """Runs a script of this folder in a process of its own; returns the JSON it prints last."""
    command = [sys.executable, str(HERE / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} exited with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def stay_on_one_core() -> None:
    """Keeps this process on one core, always the same one, where the system can do that."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def peak_memory_mb() -> float:
    """The most memory that this process has held since it began, MB (1e6 bytes).

    Not getrusage where there is a better place: it knows the peak of the parent as well.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def sync_file(path: Path) -> None:
    """Waits until a file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
