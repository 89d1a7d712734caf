"""The trainer: schedules, a loss that falls, a run that goes on where it was stopped, weights."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ilv_dataset.errors import ConfigError
from ilv_dataset.training.detector import (
    LOG,
    Folders,
    Log,
    make_trainee,
    resume,
    run_training,
    save_checkpoint,
    train,
)
from ilv_dataset.training.detector_batches import (
    DetectorConfig,
    lr_at,
    make_batch,
    scenes_at,
    size_at,
)
from ilv_dataset.training.prompts import PromptSampler, Vocabulary
from ilv_dataset.training.scenes import SceneFolder, TrainingScene, save_scenes
from ilv_dataset.training.teams import ALONE

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
NOUNS = ("block", "bar")
WORDS = Vocabulary(NOUNS, tuple(COLOURS), tuple((c, n) for c in COLOURS for n in NOUNS))
TINY = DetectorConfig(
    num_images=80,
    batch=8,
    workers=1,
    warmup_steps=2,
    num_names=4,
    small_px=64,
    input_px=64,
    ema_decay=0.5,
)


def make_scene(seed: int) -> TrainingScene:
    """A block of 24 x 24 px and a bar of 32 x 12 px in two colours on grey, 64 x 64 px."""
    rng = np.random.default_rng(seed)
    colours = list(COLOURS) if rng.random() < 0.5 else list(COLOURS)[::-1]
    rgb, labels = np.full((64, 64, 3), 128, np.uint8), np.zeros((64, 64), np.uint8)
    boxes = []
    for row, (top, (height, width)) in enumerate(((2, (24, 24)), (40, (12, 32)))):
        y, x = top + int(rng.integers(8)), int(rng.integers(64 - width))
        rgb[y : y + height, x : x + width] = COLOURS[colours[row]]
        labels[y : y + height, x : x + width] = row + 1
        boxes.append((x, y, x + width, y + height))
    return TrainingScene(
        seed=seed,
        rgb=rgb,
        labels=labels,
        names=tuple(f"{c} {n}" for c, n in zip(colours, NOUNS, strict=True)),
        nouns=NOUNS,
        colours=tuple(colours),
        boxes_xyxy=np.array(boxes, np.float32),
        visible_px=np.array([576, 384]),
    )


SCENE = make_scene(0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Folders:
    scenes = tmp_path_factory.mktemp("scenes")
    save_scenes(scenes / "scenes-000000000.npz", [make_scene(seed) for seed in range(32)])
    return Folders(scenes, scenes, tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def scenes(folders) -> SceneFolder:
    return SceneFolder(folders.scenes)


@pytest.fixture(scope="module")
def sampler() -> PromptSampler:
    return PromptSampler(WORDS, num_names=TINY.num_names)


# --- schedules


def test_the_learning_rate_warms_up_and_falls_to_its_end():
    config = DetectorConfig(lr=1.0, warmup_steps=4, lr_end_share=0.1, num_images=24, batch=1)
    assert [lr_at(step, config) for step in (0, 3)] == [0.25, 1.0]
    assert lr_at(14, config) == pytest.approx(0.55)  # half-way down from 1 to 0.1
    assert lr_at(24, config) == lr_at(99, config) == pytest.approx(0.1)


def test_pictures_are_small_at_first():
    config = DetectorConfig(num_images=100, batch=10, small_share=0.6, small_px=192)
    assert [size_at(step, config) for step in (0, 5, 6, 9)] == [192, 192, 256, 256]


def test_each_epoch_shows_every_still_once_in_another_order():
    config = DetectorConfig(batch=4)
    first, second = ([row for step in steps for row in scenes_at(step, 8, config)]
                     for steps in ((0, 1), (2, 3)))  # fmt: skip
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second


def test_a_batch_depends_on_its_step_alone(scenes, sampler):
    one, again = (make_batch(3, 0, scenes, sampler, TINY) for _ in range(2))
    assert one.images.shape == (8, 3, 64, 64)
    assert one.features.shape == (8, 8, 512)
    assert bool((one.images == again.images).all())
    assert bool((one.targets.truth == again.targets.truth).all())
    assert not bool((one.images == make_batch(4, 0, scenes, sampler, TINY).images).all())


def test_workers_share_a_batch(scenes, sampler):
    whole = make_batch(3, 0, scenes, sampler, TINY)
    halves = dataclasses.replace(TINY, workers=2)
    for rank in (0, 1):
        part = make_batch(3, rank, scenes, sampler, halves)
        assert bool((part.images == whole.images[rank::2]).all())
        assert bool((part.features == whole.features[rank::2]).all())


def test_hues_change_only_from_their_step_on_and_then_no_colour_is_asked(scenes, sampler):
    config = dataclasses.replace(TINY, recolour_share=1.0, recolour_after=0.5)
    before, after = (make_batch(step, 0, scenes, sampler, config).targets for step in (4, 5))
    assert bool(before.is_asked.all())
    assert not after.is_asked[:, :, -2:].any()
    assert bool(after.is_asked[:, :, -4:-2].all())
    assert not after.truth[:, :, -2:].any()


def test_stacked_things_are_shown_more_from_their_step_on(scenes, sampler, monkeypatch):
    monkeypatch.setattr(SceneFolder, "stacked", (7,))
    config = dataclasses.replace(TINY, stacked_share=1.0, stacked_after=0.5)
    shown = []
    monkeypatch.setattr(SceneFolder, "__getitem__", lambda _, row: shown.append(row) or SCENE)
    for step in (4, 5):
        make_batch(step, 0, scenes, sampler, config)
    assert len(set(shown[:8])) == 8
    assert shown[8:] == [7] * 8


# --- the loop


def losses_of(config: DetectorConfig, scenes: SceneFolder, sampler: PromptSampler) -> list[float]:
    return [parts["loss"] for _, parts in train(make_trainee(config), scenes, sampler, config)]


def test_the_loss_falls(scenes, sampler):
    losses = losses_of(dataclasses.replace(TINY, num_images=160), scenes, sampler)
    assert len(losses) == 20
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:4])


def test_a_stopped_training_goes_on_with_the_same_losses(scenes, sampler, tmp_path):
    whole = losses_of(TINY, scenes, sampler)
    trainee = make_trainee(TINY)
    log = Log(tmp_path / LOG, TINY)
    for step, parts in train(trainee, scenes, sampler, TINY):
        log.note(step, parts, None, is_last=True)
        if step == 6:
            save_checkpoint(trainee, tmp_path, TINY)
        if step == 7:
            break
    later = make_trainee(TINY)
    resume(later, tmp_path, TINY)
    rest = [parts["loss"] for _, parts in train(later, scenes, sampler, TINY)]
    assert rest == pytest.approx(whole[6:], rel=1e-3)
    assert [row["step"] for row in read_log(tmp_path)] == ["1", "2", "3", "4", "5", "6"]


def test_a_training_that_was_never_saved_starts_a_new_log(tmp_path):
    (tmp_path / LOG).write_text("step\n7\n")
    resume(make_trainee(TINY), tmp_path, TINY)
    assert not (tmp_path / LOG).exists()


@pytest.mark.parametrize("change", [{"batch": 4}, {"num_images": 88}])
def test_a_checkpoint_of_another_training_is_refused(change, tmp_path):
    save_checkpoint(make_trainee(TINY), tmp_path, TINY)
    other = dataclasses.replace(TINY, **change)
    with pytest.raises(ConfigError, match=r"checkpoint\.pt is of another training"):
        resume(make_trainee(other), tmp_path, other)


# --- a whole run, and its weights


@pytest.fixture(scope="module")
def finished(folders) -> Folders:
    run_training(folders, TINY, 5, team=ALONE)
    return folders


def read_log(folder: Path) -> list[dict[str, str]]:
    with (folder / LOG).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_weights_a_checkpoint_and_a_log(finished):
    assert {path.name for path in finished.work.iterdir()} == {
        "checkpoint.pt",
        "config.json",
        "log.csv",
        "weights.safetensors",
    }
    rows = read_log(finished.work)
    assert [(row["step"], row["images"]) for row in rows] == [("5", "40"), ("10", "80")]
    assert 0 <= float(rows[-1]["right_known"]) <= 1


def test_a_run_that_is_done_does_nothing_more(finished):
    before = (finished.work / "weights.safetensors").read_bytes()
    run_training(finished, TINY, 5, team=ALONE)
    assert (finished.work / "weights.safetensors").read_bytes() == before
    assert len(read_log(finished.work)) == 2
