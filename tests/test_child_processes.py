"""Processes of a pool end with the process that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WAITING = """
import os, time
from ilv_dataset.child_processes import open_pool

if __name__ == "__main__":
    with open_pool(1) as pool:
        print(pool.apply(os.getpid), flush=True)
        pool.apply(time.sleep, (60,))
"""


def test_a_process_of_a_pool_ends_when_the_first_is_killed(tmp_path):
    script = tmp_path / "waiting.py"
    script.write_text(WAITING)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        second = int(first.stdout.readline())
        first.send_signal(signal.SIGKILL)
    for _ in range(400):
        if is_gone(second):
            return
        time.sleep(0.05)
    pytest.fail(f"process {second} is still there")


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"
