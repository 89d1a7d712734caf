"""The policy: sizes, what its answer depends on and what it does not, and its loss."""

import dataclasses

import pytest
import torch

from ilv_dataset.train.model import PolicyConfig, build_policy, cell_features, compute_loss

TINY = PolicyConfig(
    state_dim=3, action_dim=2, frame_px=24, crop_px=24, chunk=4, max_tokens=6, width=32, layers=1,
    heads=2,
)  # fmt: skip


def make_policy(**changes):
    torch.manual_seed(0)
    return build_policy(dataclasses.replace(TINY, **changes)).eval()


def make_batch(*instructions: list[int], window: int = 1) -> dict[str, torch.Tensor]:
    """A row of random frames and images for each list of tokens."""
    rng, rows = torch.Generator().manual_seed(1), len(instructions)
    tokens = torch.zeros(rows, 6, dtype=torch.long)
    for row, instruction in enumerate(instructions):
        tokens[row, : len(instruction)] = torch.tensor(instruction)
    pixels = {"generator": rng, "dtype": torch.uint8}
    return {
        "frames": torch.randint(0, 256, (rows, window, 3, 24, 24), **pixels),
        "state": torch.randn(rows, window, 3, generator=rng),
        "tokens": tokens,
        "images": torch.randint(0, 256, (rows, 2, 3, 24, 24), **pixels),
        "image_mask": torch.arange(2) < (tokens == 1).sum(1, keepdim=True),
        "actions": torch.randn(rows, 4, 2, generator=rng),
        "action_mask": torch.ones(rows, 4, dtype=torch.bool),
    }


def make_words(instruction: list[int]) -> dict[str, torch.Tensor]:
    return {"tokens": make_batch(instruction)["tokens"]}


@torch.inference_mode()
def answer(batch, policy=None):
    return (policy or make_policy())(batch)


def test_default_policy_has_at_most_five_million_parameters():
    policy = build_policy(PolicyConfig(state_dim=7, action_dim=7))
    assert sum(weight.numel() for weight in policy.parameters()) <= 5_000_000


@pytest.mark.parametrize("window", [1, 3])
def test_policy_answers_with_a_chunk_of_actions(window):
    batch = make_batch([5, 1, 6], [7], window=window)
    found = answer(batch, make_policy(window=window))
    assert found.shape == (2, 4, 2)
    assert found.dtype == torch.float32
    assert found.isfinite().all()


def test_answer_depends_on_every_input():
    batch = make_batch([5, 1, 6, 1])
    before = answer(batch)
    for name in ("frames", "state", "images"):
        changed = {**batch, name: batch[name].flip(-1)}
        assert not torch.allclose(answer(changed), before, atol=1e-4), name
    assert not torch.allclose(answer({**batch, **make_words([5, 1, 8, 1])}), before, atol=1e-4)


def test_images_stand_where_the_tokens_name_them():
    batch = make_batch([5, 1, 6, 1])
    swapped = {**batch, "images": batch["images"].flip(1)}
    assert not torch.allclose(answer(swapped), answer(batch), atol=1e-4)
    one, other = make_batch([5, 1, 6]), make_batch([5, 6, 1])
    assert not torch.allclose(answer(one), answer(other), atol=1e-4)


def test_answer_does_not_depend_on_images_that_no_token_names():
    batch = make_batch([5, 1, 6])
    images = batch["images"].clone()
    images[:, 1] = 255
    torch.testing.assert_close(answer({**batch, "images": images}), answer(batch))


def test_answer_does_not_depend_on_other_rows():
    short, long = make_batch([5, 1]), make_batch([5, 1], [9, 1, 4, 3, 2, 1])
    long = {name: torch.cat([short[name], part[1:]]) for name, part in long.items()}
    torch.testing.assert_close(answer(long)[:1], answer(short), atol=1e-5, rtol=1e-4)


def test_image_that_is_missing_is_read_as_a_word():
    batch = make_batch([5, 1])
    batch["image_mask"][:] = False
    other = {**batch, "images": 255 - batch["images"]}
    torch.testing.assert_close(answer(other), answer(batch))


def test_policy_without_images_reads_words_alone():
    batch = make_batch([5, 6])
    batch = {**batch, "images": batch["images"][:, :0], "image_mask": batch["image_mask"][:, :0]}
    assert answer(batch).shape == (1, 4, 2)


def test_cells_are_numbered_row_by_row():
    x_y = cell_features(2)[:, :2]
    assert x_y.tolist() == [[-1, -1], [1, -1], [-1, 1], [1, 1]]


def test_loss_counts_each_step_of_a_span_alike_and_none_behind_it():
    class Constant(torch.nn.Module):
        def forward(self, batch):
            return torch.zeros(1, 3, 2)

    # |error| 0.05 costs 0.5 * 0.05^2 / 0.1 = 0.0125, and 1 costs 1 - 0.05 = 0.95.
    actions = torch.tensor([[[0.05, 0.05], [1.0, 0.05], [100.0, 100.0]]])
    batch = {"actions": actions, "action_mask": torch.tensor([[True, True, False]])}
    expected = (0.0125 + (0.95 + 0.0125) / 2) / 2
    assert compute_loss(Constant(), batch).item() == pytest.approx(expected)
    batch["action_mask"][:] = False
    assert compute_loss(Constant(), batch).item() == 0
