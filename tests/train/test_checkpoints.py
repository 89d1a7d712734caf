"""Checkpoints: a policy that is used as it was saved, and what a training may go on from."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from killing import Killed, killed

from ilv_dataset.errors import ConfigError
from ilv_dataset.step_statistics import StepStatistics
from ilv_dataset.train import checkpoints
from ilv_dataset.train.checkpoints import (
    CONFIG,
    RESUME,
    WEIGHTS,
    Settings,
    discard,
    has_training,
    load_policy,
    resume,
    save,
    settings_of,
)
from ilv_dataset.train.data import DataConfig
from ilv_dataset.train.loop import TrainConfig, Trainee, make_trainee

DATA = DataConfig(image_px=24, crop_px=24, chunk=2, max_tokens=6, window=2)
TRAIN = TrainConfig(steps=4, warmup=1)
STATISTICS = StepStatistics(9, (1.0, 2.0, 3.0), (1.0, 1.0, 2.0), (10.0, -5.0), (2.0, 0.5))


class MadeBatches:
    """Stands in for the reader's place in the data."""

    def __init__(self, *names: str) -> None:
        self.statistics = dict.fromkeys(names or ("robot",), STATISTICS)
        self.place: Any = None

    def restore(self, state: Any) -> None:
        self.place = state


def begin(*names: str, **changes: Any) -> tuple[Trainee, Settings]:
    train = dataclasses.replace(TRAIN, **changes)
    settings = settings_of(MadeBatches(*names), train, DATA, width=32, layers=1, heads=2)
    return make_trainee(settings.policy, train), settings


def begin_again(**changes: Any) -> tuple[Trainee, Any, Settings]:
    trainee, settings = begin(**changes)
    return trainee, MadeBatches(), settings


def test_settings_take_their_sizes_from_the_data():
    _, settings = begin()
    policy = settings.policy
    assert (policy.state_dim, policy.action_dim, policy.width) == (3, 2, 32)
    assert (policy.frame_px, policy.crop_px, policy.chunk, policy.window) == (24, 24, 2, 2)


def test_settings_come_back_as_they_were_saved(tmp_path: Path):
    trainee, settings = begin()
    save(tmp_path, trainee, settings, None)
    assert Settings.read(tmp_path) == settings
    assert json.loads((tmp_path / CONFIG).read_text())["step"] == 0


def act(folder: Path, **named: Any) -> np.ndarray:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 2, 24, 24, 3), dtype=np.uint8)
    picture = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    states = np.ones((2, 2, 3), np.float32)
    asked = [("lift <image>", [picture]), ("open the drawer", [])]
    return load_policy(folder, **named).act(frames, states, asked)


def test_policy_acts_in_the_units_of_the_data(tmp_path: Path):
    trainee, settings = begin()
    last = trainee.average.head[-1]
    last.weight.zero_()
    last.bias.copy_(torch.tensor([0.0, 0.0, 1.0, -2.0]))
    save(tmp_path, trainee, settings, None)
    expected = [[10.0, -5.0], [12.0, -6.0]]  # the mean; one spread above, and two below
    np.testing.assert_allclose(act(tmp_path), [expected, expected])


def test_policy_acts_as_the_one_that_was_saved(tmp_path: Path):
    trainee, settings = begin(seed=3)
    save(tmp_path, trainee, settings, None)
    found = act(tmp_path)
    assert found.shape == (2, 2, 2)
    assert np.abs(found[0] - found[1]).max() > 1e-4
    np.testing.assert_array_equal(act(tmp_path), found)
    other, _ = begin(seed=4)
    save(tmp_path, other, settings, None)
    assert np.abs(act(tmp_path) - found).max() > 1e-4


def test_policy_of_several_datasets_needs_a_name(tmp_path: Path):
    trainee, settings = begin("robot", "arm")
    save(tmp_path, trainee, settings, None)
    with pytest.raises(ConfigError, match="one of its datasets, arm, robot; got None"):
        load_policy(tmp_path)
    with pytest.raises(ConfigError, match="got 'car'"):
        load_policy(tmp_path, dataset="car")
    assert act(tmp_path, dataset="arm").shape == (2, 2, 2)


def test_folder_without_a_policy_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=f"{tmp_path} is not a folder of `ilv train`"):
        load_policy(tmp_path)


def test_weights_of_another_size_are_refused(tmp_path: Path):
    trainee, settings = begin()
    save(tmp_path, trainee, settings, None)
    content = json.loads((tmp_path / CONFIG).read_text())
    content["policy"]["width"] = 64
    (tmp_path / CONFIG).write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=WEIGHTS):
        load_policy(tmp_path)


@pytest.mark.parametrize("device", ["cuda:99", "quantum"])
def test_device_that_is_not_there_is_named(tmp_path: Path, device: str):
    save(tmp_path, *begin(), None)
    with pytest.raises(ConfigError, match=f"--device {device}: "):
        load_policy(tmp_path, device=device)


def test_weights_that_a_cut_save_has_not_written_are_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trainee, settings = begin(seed=3)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_save_weights", killed)
        with pytest.raises(Killed):
            save(tmp_path, trainee, settings, None)
    assert has_training(tmp_path)
    assert not (tmp_path / WEIGHTS).exists()
    resume(tmp_path, *begin_again(seed=3))
    save(tmp_path / "whole", trainee, settings, None)
    assert (tmp_path / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_weights_alone_are_no_training_to_go_on_from(tmp_path: Path):
    save(tmp_path, *begin(), None)
    (tmp_path / RESUME).unlink()
    message = f"{tmp_path} holds {WEIGHTS}, and no {RESUME} to go on from; .* or --overwrite it"
    with pytest.raises(ConfigError, match=message):
        has_training(tmp_path)


def test_discarded_training_is_gone_and_nothing_else(tmp_path: Path):
    save(tmp_path, *begin(), None)
    (tmp_path / "notes.txt").write_text("mine")
    discard(tmp_path)
    assert not has_training(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["notes.txt"]
    discard(tmp_path)  # where nothing is


def test_resume_brings_back_the_place_in_the_data(tmp_path: Path):
    trainee, settings = begin()
    trainee.step = 3
    save(tmp_path, trainee, settings, {"turn": 1, "positions": [{"epoch": 2}]})
    batches, (other, same) = MadeBatches(), begin(steps=9)
    resume(tmp_path, other, batches, same)
    assert other.step == 3
    assert batches.place == {"turn": 1, "positions": [{"epoch": 2}]}


def test_resume_refuses_another_training(tmp_path: Path):
    save(tmp_path, *begin(), None)
    other, settings = begin(lr=0.5)
    with pytest.raises(ConfigError, match=r"lr 0\.0\d+, not 0\.5; name another --out"):
        resume(tmp_path, other, MadeBatches(), settings)
    text = dataclasses.replace(DATA, instruction="text")
    changed = dataclasses.replace(begin()[1], data=text)
    with pytest.raises(ConfigError, match="instruction 'interleaved', not 'text'"):
        resume(tmp_path, other, MadeBatches(), changed)


def test_resume_refuses_fewer_steps_than_are_done(tmp_path: Path):
    trainee, settings = begin()
    trainee.step = 4
    save(tmp_path, trainee, settings, None)
    resume(tmp_path, *begin_again(steps=4))
    with pytest.raises(ConfigError, match=r"is at step 4, beyond --steps 3; name another --out"):
        resume(tmp_path, *begin_again(steps=3))


@pytest.mark.parametrize("damage", [lambda b: b[:-500], lambda b: b"not a zip file", lambda b: b""])
def test_resume_refuses_a_damaged_file(tmp_path: Path, damage: Any):
    trainee, settings = begin()
    save(tmp_path, trainee, settings, None)
    (tmp_path / RESUME).write_bytes(damage((tmp_path / RESUME).read_bytes()))
    with pytest.raises(ConfigError, match=f"{RESUME} is damaged"):
        resume(tmp_path, trainee, MadeBatches(), settings)


def test_resume_runs_nothing_that_a_file_asks_for(tmp_path: Path):
    trainee, settings = begin()
    save(tmp_path, trainee, settings, None)
    torch.save({"model": SimpleNamespace(a=1)}, tmp_path / RESUME)
    with pytest.raises(ConfigError, match=f"{RESUME} is damaged"):
        resume(tmp_path, trainee, MadeBatches(), settings)
