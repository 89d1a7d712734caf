"""Processes of a pool end with the process that started them."""

import signal
import subprocess
import sys

from killing import assert_ends

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
    assert_ends(second)
