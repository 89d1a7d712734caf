"""`make bench` itself runs; what it measures is not judged here."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).with_name("bench")


@pytest.mark.timeout(120)
def test_bench_prints_its_table_when_a_group_is_chosen():
    command = [sys.executable, str(BENCH), "--quick", "--only", "commands"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    rows = [line.split("  ")[0] for line in done.stdout.splitlines()[2:5]]
    assert rows == [
        "ilv --help",
        "ilv inspect, 50 shards: first output",
        "start-up of a pipeline: ilv parse demo",
    ]
    assert "3 rows in" in done.stdout
