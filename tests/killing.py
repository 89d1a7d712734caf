"""Processes and functions that are killed in a test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Never

import pytest


class Killed(BaseException):
    """As SIGKILL: no `except Exception` catches it."""


def killed(*_: Any) -> Never:
    """Stands for a function in which the process is killed."""
    raise Killed


def held(stage: str, num_max: int) -> dict[str, str]:
    """The environment of a run that commits so many shards of a stage, and then never ends.

    Each worker beyond the first may commit one more.
    """
    folders = [str(Path(__file__).parent / "held"), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, folders))
    return {**os.environ, "PYTHONPATH": path, "HELD": f"{stage} {num_max}"}


@contextlib.contextmanager
def hearing_ctrl_c() -> Iterator[None]:
    """As on a terminal: a shell starts what runs in the background with SIGINT ignored."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


@contextlib.contextmanager
def killed_at_end(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Starts a process, and kills it where the block ends or fails, if it is not over by then."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(process: subprocess.Popen[Any], is_reached: Callable[[], bool]) -> None:
    """Waits until something is reached, or the process is over; looks every 2 ms."""
    while process.poll() is None and not is_reached():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.002)


def assert_ends(pid: int) -> None:
    """Fails if the process is still there after 20 s."""
    for _ in range(400):
        if _is_gone(pid):
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still there")


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"
