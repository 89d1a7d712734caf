"""Teams: members exchange gradients, and end with the process that started them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from killing import assert_ends

from ilv_dataset.training.teams import ALONE, run_team

WAITING = """
import pathlib, sys
import team_members
from ilv_dataset.training.teams import run_team

if __name__ == "__main__":
    run_team(team_members.wait_long, (pathlib.Path(sys.argv[1]),), size=2, num_values=1)
"""


@pytest.fixture
def members(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import team_members

    return team_members


def test_all_members_get_the_mean_of_the_gradients(members, tmp_path):
    run_team(members.average_twice, (tmp_path,), size=2, num_values=3)
    expected = str([1.5] * 3 + [15.0] * 3)
    assert [(tmp_path / rank).read_text() for rank in "01"] == [expected, expected]


def test_one_alone_keeps_its_gradients():
    import torch

    model = torch.nn.Linear(2, 1)
    for parameter in model.parameters():
        parameter.grad = parameter.detach().clone()
    ALONE.average_gradients(model, 0)
    assert bool((model.weight.grad == model.weight).all())


def test_nobody_waits_for_a_member_that_failed(members, capfd):
    with pytest.raises(threading.BrokenBarrierError):
        run_team(members.fail_as_the_second, (), size=2, num_values=3)
    assert "ValueError: lost" in capfd.readouterr().err


def test_members_end_when_the_first_is_killed(tmp_path):
    script = tmp_path / "waiting.py"
    script.write_text(WAITING)
    first = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    notes = [tmp_path / rank for rank in "01"]
    while not all(note.exists() for note in notes):
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = int(notes[1].read_text())
    assert_ends(second)
