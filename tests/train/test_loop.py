"""The loop: its schedule, a loss that falls, and a training that goes on as if never stopped."""

import io
from collections.abc import Iterator
from itertools import cycle, islice

import pytest
import torch

from ilv_dataset.errors import ConfigError, IlvError
from ilv_dataset.train.loop import TrainConfig, jitter, lr_at, make_trainee, train
from ilv_dataset.train.model import PolicyConfig

TINY = PolicyConfig(
    state_dim=2, action_dim=2, frame_px=32, crop_px=24, chunk=2, max_tokens=4, width=32, layers=1,
    heads=2,
)  # fmt: skip
torch.set_num_threads(1)
COLOURS = torch.tensor([[220, 30, 30], [30, 200, 30], [30, 30, 220]], dtype=torch.uint8)


def synthetic_rows(num_rows: int = 64) -> dict[str, torch.Tensor]:
    """Three coloured squares on grey, a picture of one, and as action where that one is."""
    rng = torch.Generator().manual_seed(0)
    frames = torch.full((num_rows, 1, 3, 32, 32), 120, dtype=torch.uint8)
    images = torch.full((num_rows, 1, 3, 24, 24), 120, dtype=torch.uint8)
    actions = torch.zeros(num_rows, 2, 2)
    for row in range(num_rows):
        places = torch.randperm(9, generator=rng)[:3]
        chosen = int(torch.randint(3, (1,), generator=rng))
        for colour, place in enumerate(places.tolist()):
            y, x = 1 + 11 * (place // 3), 1 + 11 * (place % 3)
            frames[row, 0, :, y : y + 8, x : x + 8] = COLOURS[colour, :, None, None]
            if colour == chosen:
                actions[row] = torch.tensor([x / 11 - 1, y / 11 - 1])
        images[row, 0, :, 4:20, 4:20] = COLOURS[chosen, :, None, None]
    return {
        "frames": frames,
        "state": torch.zeros(num_rows, 1, 2),
        "actions": actions,
        "action_mask": torch.ones(num_rows, 2, dtype=torch.bool),
        "tokens": torch.tensor([[5, 1, 0, 0]]).repeat(num_rows, 1),
        "images": images,
        "image_mask": torch.ones(num_rows, 1, dtype=torch.bool),
    }


def endless_batches(size: int = 16) -> Iterator[dict[str, torch.Tensor]]:
    rows = synthetic_rows()
    for start in cycle(range(0, 64, size)):
        yield {name: part[start : start + size] for name, part in rows.items()}


def test_learning_rate_rises_then_falls_to_nothing():
    config = TrainConfig(steps=1100, warmup=100, lr=1e-3)
    assert lr_at(1, config) == pytest.approx(1e-5)
    assert lr_at(50, config) == pytest.approx(5e-4)
    assert lr_at(100, config) == pytest.approx(1e-3)
    assert lr_at(600, config) == pytest.approx(5e-4, rel=0.01)
    assert 0 < lr_at(1100, config) < 1e-8


def test_warm_up_of_a_short_training_is_a_fifth_of_it():
    config = TrainConfig(steps=10, warmup=100, lr=1.0)
    assert [lr_at(1, config), lr_at(2, config)] == [0.5, 1.0]
    assert lr_at(1, TrainConfig(steps=1, lr=1.0)) > 0


def test_loss_falls_on_64_rows_in_200_steps():
    config = TrainConfig(steps=200, lr=2e-3, warmup=20)
    losses = [loss for _, loss in train(make_trainee(TINY, config), endless_batches(), config)]
    assert len(losses) == 200
    assert sum(losses[-10:]) < 0.25 * sum(losses[:10])


def test_training_that_goes_on_has_the_same_losses():
    config = TrainConfig(steps=6, warmup=2)
    uninterrupted = make_trainee(TINY, config)
    whole = list(train(uninterrupted, endless_batches(), config))

    begun = make_trainee(TINY, config)
    first = list(islice(train(begun, endless_batches(), config), 3))
    file = io.BytesIO()
    torch.save(begun.state(), file)
    file.seek(0)
    other = make_trainee(TINY, TrainConfig(steps=6, warmup=2, seed=7))
    other.restore(torch.load(file, weights_only=True))
    rest = list(train(other, islice(endless_batches(), 3, None), config))

    assert [step for step, _ in whole] == [1, 2, 3, 4, 5, 6]
    assert first + rest == whole
    averages = [trainee.average.parameters() for trainee in (uninterrupted, other)]
    for one, two in zip(*averages, strict=True):
        assert torch.equal(one, two)


def test_training_that_is_done_takes_no_batch():
    config = TrainConfig(steps=2, warmup=1)
    trainee = make_trainee(TINY, config)
    list(train(trainee, endless_batches(), config))
    assert list(train(trainee, iter(()), config)) == []


def test_average_is_near_the_weights_of_late():
    config = TrainConfig(steps=3, warmup=1, average=0.0)
    trainee = make_trainee(TINY, config)
    list(train(trainee, endless_batches(), config))
    for weight, mean in zip(trainee.policy.parameters(), trainee.average.parameters(), strict=True):
        torch.testing.assert_close(mean, weight)


def test_loss_that_is_no_number_stops_the_training():
    config = TrainConfig(steps=5)
    batches = (
        {**batch, "actions": batch["actions"] * (float("nan") if number == 1 else 1.0)}
        for number, batch in enumerate(endless_batches())
    )
    with pytest.raises(IlvError, match="loss is nan at step 2"):
        list(train(make_trainee(TINY, config), batches, config))


def test_jitter_changes_the_frames_and_images_of_a_row_alike():
    pixels = torch.full((3, 1, 3, 4, 4), 100, dtype=torch.uint8)
    changed = jitter({"frames": pixels, "images": pixels}, 0.2, torch.Generator().manual_seed(0))
    frames = changed["frames"]
    torch.testing.assert_close(frames, changed["images"])
    assert frames.amin() >= 100 * 0.8 - 20
    assert frames.amax() <= 100 * 1.2 + 20
    assert frames.std(0).amin() > 0  # rows differ
    assert frames.std(2).amin() > 0  # colours differ
    assert frames.std((3, 4)).amax() == 0


def test_jitter_of_nothing_changes_nothing():
    pixels = torch.arange(48, dtype=torch.uint8).reshape(1, 1, 3, 4, 4)
    changed = jitter({"frames": pixels, "images": pixels}, 0.0, torch.Generator())
    assert torch.equal(changed["frames"], pixels.float())


@pytest.mark.parametrize("device", ["cuda:99", "quantum"])
def test_device_that_is_not_there_is_named(device):
    with pytest.raises(ConfigError, match=device):
        make_trainee(TINY, TrainConfig(device=device))
