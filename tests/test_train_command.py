"""`ilv train` as a user types it, on a dataset that the real pipeline has converted."""

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import DATASET
from converted import converted_once, copy_converted, only_error, run_ilv
from killing import Killed, hearing_ctrl_c, killed
from PIL import Image

from ilv_dataset.errors import ConfigError
from ilv_dataset.formats import atomic
from ilv_dataset.train import loop
from ilv_dataset.train.checkpoints import RESUME, WEIGHTS, Settings, has_training, load_policy
from ilv_dataset.train_command import CURVE, LOG, TrainingLog, draw_curve, stopping

SMALL = ("--batch", 4, "--chunk", 2)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Losses are equal bit by bit with as many threads only."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(out: Path, *options: object) -> Any:
    return run_ilv("train", converted_once(), "--out", out, *SMALL, *options)


def losses(out: Path) -> list[tuple[int, float]]:
    with (out / LOG).open(newline="") as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def four_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that was trained for four steps in one go."""
    out = tmp_path_factory.mktemp("policy")
    assert train(out, "--steps", 4).exit_code == 0
    return out


def test_train_prints_the_folder_and_leaves_a_policy(tmp_path: Path):
    result = train(tmp_path / "policy", "--steps", 1)
    assert result.stdout == f"{tmp_path / 'policy'}\n"
    assert "train: 1 of 1 step" in result.stderr
    assert "at the end, step 1\n" in result.stderr
    names = {path.name for path in (tmp_path / "policy").iterdir() if path.name[0] != "."}
    assert names == {"policy.safetensors", "policy.json", "resume.pt", LOG, CURVE}


def test_trained_policy_acts(four_steps: Path):
    policy = load_policy(four_steps)
    frames = np.zeros((1, 1, 96, 96, 3), np.uint8)
    states = np.zeros((1, 1, len(policy.statistics.state_mean)), np.float32)
    found = policy.act(frames, states, [("lift <image>", [frames[0, 0]])])
    assert found.shape == (1, 2, len(policy.statistics.action_mean))


def test_log_has_every_step(four_steps: Path):
    assert [step for step, _ in losses(four_steps)] == [1, 2, 3, 4]
    assert Image.open(four_steps / CURVE).size == (720, 360)


def test_interrupted_training_saves_and_goes_on_with_the_same_losses(
    four_steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = loop.train

    def interrupted(*args: Any) -> Iterator[tuple[int, float]]:
        for step, loss in whole(*args):
            if step == 2:
                os.kill(os.getpid(), signal.SIGINT)
            yield step, loss

    monkeypatch.setattr(loop, "train", interrupted)
    result = train(tmp_path, "--steps", 4)
    assert result.exit_code == 130
    assert result.stderr.endswith("interrupted; the same command goes on where it was\n")
    assert losses(tmp_path) == losses(four_steps)[:2]

    monkeypatch.setattr(loop, "train", whole)
    assert train(tmp_path, "--steps", 4).exit_code == 0
    assert losses(tmp_path) == losses(four_steps)


def test_killed_training_goes_on_with_the_same_losses(four_steps: Path, tmp_path: Path):
    # A process that dies in its fourth step, without a chance to save, behind the save of step 2.
    program = """
import os
import torch
from ilv_dataset.cli import main
from ilv_dataset.train import loop
whole = loop.train
def killed(*args):
    for step, loss in whole(*args):
        if step == 4:
            os.kill(os.getpid(), 9)
        yield step, loss
loop.train = killed
torch.set_num_threads(1)
main()
"""
    options = ["--steps", "4", "--save-every", "2", *map(str, SMALL)]
    command = ["train", str(converted_once()), "--out", str(tmp_path), *options]
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert losses(tmp_path) == losses(four_steps)[:2]
    assert train(tmp_path, "--steps", 4, "--save-every", 2).exit_code == 0
    assert losses(tmp_path) == losses(four_steps)
    assert (tmp_path / WEIGHTS).read_bytes() == (four_steps / WEIGHTS).read_bytes()


def test_finished_training_is_left_as_it_is(four_steps: Path):
    before = (four_steps / RESUME).read_bytes()
    result = train(four_steps, "--steps", 4)
    assert result.exit_code == 0
    assert "at the end, step 4\n" in result.stderr
    assert (four_steps / RESUME).read_bytes() == before


def test_fewer_steps_than_are_done_are_refused(four_steps: Path):
    message = only_error(train(four_steps, "--steps", 3))
    assert "is at step 4, beyond --steps 3; name another --out, or --overwrite it" in message


def test_rows_behind_the_checkpoint_are_done_again(tmp_path: Path):
    (tmp_path / LOG).write_text("step,lr,loss\n1,0.1,3.0\n2,0.1,2.0\n3,0.1,1.0\n")
    log = TrainingLog(tmp_path)
    log.read(up_to=2)
    assert log.rows == [(1, 0.1, 3.0), (2, 0.1, 2.0)]
    assert log.recent_loss() == 2.5


def test_log_that_is_something_else_is_named(tmp_path: Path):
    (tmp_path / LOG).write_text("step,loss\n1,big\n")
    with pytest.raises(ConfigError, match=r"log\.csv is not a log of losses"):
        TrainingLog(tmp_path).read(up_to=1)


def test_other_options_do_not_go_on(four_steps: Path):
    message = only_error(train(four_steps, "--steps", 4, "--lr", 0.5))
    assert "lr 0.002, not 0.5; name another --out, or --overwrite it" in message


def test_overwrite_begins_anew(tmp_path: Path):
    train(tmp_path, "--steps", 2)
    assert train(tmp_path, "--steps", 1, "--lr", 0.5, "--overwrite").exit_code == 0
    assert [step for step, _ in losses(tmp_path)] == [1]


def test_policy_without_its_training_is_kept_unless_told(tmp_path: Path):
    assert train(tmp_path, "--steps", 1).exit_code == 0
    (tmp_path / RESUME).unlink()
    before = (tmp_path / WEIGHTS).read_bytes()
    assert "no resume.pt to go on from" in only_error(train(tmp_path, "--steps", 1, "--seed", 1))
    assert (tmp_path / WEIGHTS).read_bytes() == before
    assert train(tmp_path, "--steps", 1, "--seed", 1, "--overwrite").exit_code == 0
    assert (tmp_path / WEIGHTS).read_bytes() != before


def test_conversion_that_is_not_complete_is_named(tmp_path: Path):
    root = copy_converted(tmp_path)
    for is_complete in (True, False):
        result = run_ilv("train", root, root, "--out", tmp_path / "policy", *SMALL, "--steps", 1)
        assert result.exit_code == 0
        assert (f"not yet complete: {root}\n" in result.stderr) == (not is_complete)
        (root / "run.json").unlink(missing_ok=True)


def test_killed_overwrite_does_not_go_on_with_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert train(tmp_path, "--steps", 2).exit_code == 0
    whole = loop.train
    monkeypatch.setattr(loop, "train", killed)
    with pytest.raises(Killed):
        train(tmp_path, "--steps", 2, "--overwrite")
    monkeypatch.setattr(loop, "train", whole)
    assert not has_training(tmp_path)
    assert train(tmp_path, "--steps", 1, "--lr", 0.5).exit_code == 0
    assert [step for step, _ in losses(tmp_path)] == [1]


def test_overwrite_waits_for_the_run_that_writes(tmp_path: Path):
    (tmp_path / RESUME).write_bytes(b"theirs")
    with atomic.locked_output(str(tmp_path)):
        assert "another run is writing" in only_error(train(tmp_path, "--overwrite"))
    assert (tmp_path / RESUME).read_bytes() == b"theirs"


def test_columns_and_weights_are_named(tmp_path: Path):
    named = ("--action-key", "action,reward", "--state-key", "", "--weights", f"{DATASET}=2")
    assert train(tmp_path, "--steps", 1, *named).exit_code == 0
    settings = Settings.read(tmp_path)
    assert (settings.policy.state_dim, settings.policy.action_dim) == (0, 8)
    assert settings.data.weights == {DATASET: 2.0}
    assert "action_key 'pose'" in only_error(train(tmp_path, "--action-key", "pose"))
    assert "weights are for other" in only_error(train(tmp_path, "--weights", "other=1"))


@pytest.mark.parametrize("weight", ["bridge", "=2", "bridge=big", "bridge=-1", "bridge=nan"])
def test_weight_that_is_none_is_refused(tmp_path: Path, weight: str):
    result = train(tmp_path, "--weights", weight)
    assert result.exit_code == 2
    assert f"{weight!r} is not NAME=W" in result.stderr


def test_errors_are_one_line(tmp_path: Path):
    def error(*arguments: object) -> str:
        return only_error(run_ilv("train", *arguments, "--out", tmp_path / "policy"))

    assert str(tmp_path / "nothing") in error(tmp_path / "nothing")
    assert "--device quantum" in error(converted_once(), "--device", "quantum")
    assert "own" in error(converted_once(), "--mix", "sometimes")
    assert "no actions" in error(converted_once(), "--action-key", "")


def test_curve_falls_where_the_loss_falls():
    rows = [(step, 0.1, 1.0 / step) for step in range(1, 1001)]
    pixels = np.asarray(draw_curve(rows)).astype(int)
    is_line = (abs(pixels - (190, 24, 93)).sum(2) < 30) & (np.arange(360) > 30)[:, None]
    rows_of = [np.flatnonzero(is_line[:, column]).mean() for column in (30, 200, 400, 690)]
    assert rows_of == sorted(rows_of)
    assert rows_of[-1] - rows_of[0] > 200


def test_curve_of_one_step_or_none_is_drawn():
    assert draw_curve([]).size == draw_curve([(1, 0.1, 0.5)]).size == (720, 360)


def test_first_signal_is_noted_and_the_second_interrupts():
    with hearing_ctrl_c():
        with stopping() as is_stopped:
            assert not is_stopped()
            signal.raise_signal(signal.SIGINT)
            assert is_stopped()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
