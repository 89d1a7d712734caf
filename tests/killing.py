"""Processes and functions that are killed in a test."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Never

import pytest


class Killed(BaseException):
    """As SIGKILL: no `except Exception` catches it."""


def killed(*_: Any) -> Never:
    """Stands for a function in which the process is killed."""
    raise Killed


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
