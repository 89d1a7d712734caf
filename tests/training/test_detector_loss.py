"""The loss: right outputs cost little, wrong names much, and what is not asked nothing."""

from types import SimpleNamespace

import pytest

from ilv_dataset.training.detector_loss import DetectionLoss, Targets

# One picture of 32 x 32 px, anchors every 8 px, one box of 16 x 16 px in its middle. Prompts:
# "red mug", "blue mug"; mug, pot; blue, red.
BINS, SIDE = 16, 4


def make_outputs(scores: list[float]):
    """Every anchor says the box, and scores the prompts alike."""
    import torch

    boxes = torch.full((1, 4, BINS, SIDE * SIDE), -20.0)
    for anchor in range(SIDE * SIDE):
        row, column = divmod(anchor, SIDE)
        x, y = column + 0.5, row + 0.5
        for edge, distance in enumerate((x - 1, y - 1, 3 - x, 3 - y)):
            low = max(0, min(BINS - 2, int(distance // 1)))
            share = max(0.0, distance - low)
            boxes[0, edge, low, anchor] = torch.tensor(max(1 - share, 1e-6)).log()
            boxes[0, edge, low + 1, anchor] = torch.tensor(max(share, 1e-6)).log()
    logits = torch.tensor(scores, dtype=torch.float32)[None, :, None].repeat(1, 1, SIDE * SIDE)
    return {
        "boxes": boxes.view(1, 4 * BINS, -1),
        "scores": logits.requires_grad_(),
        "feats": [torch.zeros(1, 8, SIDE, SIDE)],
    }


def make_targets(*, is_box: float = 1.0, asked: tuple[float, ...] = (1,) * 6) -> Targets:
    import torch

    truth = torch.tensor([[[1.0, 0, 1, 0, 0, 1]]])
    return Targets(
        torch.tensor([[[8.0, 8, 24, 24]]]),
        torch.full((1, 1, 1), is_box),
        truth * is_box,
        torch.tensor(asked, dtype=torch.float32).view(1, 1, -1),
    )


@pytest.fixture(scope="module")
def loss() -> DetectionLoss:
    import torch

    head = SimpleNamespace(stride=torch.tensor([8.0]), reg_max=BINS)
    return DetectionLoss(SimpleNamespace(model=[head]), num_nouns=2, num_colours=2)


def test_right_words_and_boxes_cost_less_than_wrong_ones(loss):
    right, parts = loss(make_outputs([4.0, -4, 4, -4, -4, 4]), make_targets())
    wrong, others = loss(make_outputs([-4, 4, -4, 4, 4, -4]), make_targets())
    assert bool(right < wrong)
    assert float(parts["words"]) < 0.01 < 10 < float(others["words"])
    assert float(parts["box"]) < 0.01


def test_what_is_not_asked_costs_nothing_and_teaches_nothing(loss):
    outputs = make_outputs([0, 9, 0, 0, 0, 0])
    value, _ = loss(outputs, make_targets(asked=(1, 0, 1, 1, 1, 1)))
    value.backward()
    gradient = outputs["scores"].grad.abs().sum(dim=(0, 2))
    assert float(gradient[1]) == 0
    assert float(gradient[0]) > 0


def test_a_word_that_is_not_asked_is_no_rival_of_the_right_one(loss):
    import torch

    equal = [0.0] * 6
    _, all_asked = loss(make_outputs(equal), make_targets())
    outputs = make_outputs(equal)
    value, one_unasked = loss(outputs, make_targets(asked=(1, 1, 1, 0, 1, 1)))
    # Log 2 for the noun and for the colour; of one noun alone log 1.
    assert float(one_unasked["words"]) == pytest.approx(float(all_asked["words"]) / 2)
    value.backward()
    assert float(outputs["scores"].grad[:, 3].abs().sum()) == 0
    # No colour is asked: its part is nothing, and no gradient is NaN.
    outputs, targets = make_outputs(equal), make_targets(asked=(1, 1, 1, 1, 0, 0))
    targets.truth[..., 4:] = 0
    value, none_asked = loss(outputs, targets)
    assert float(none_asked["words"]) > 0
    value.backward()
    assert bool(torch.isfinite(outputs["scores"].grad).all())
    assert float(outputs["scores"].grad[:, 4:].abs().sum()) == 0


def test_a_picture_without_boxes_pushes_all_scores_down(loss):
    outputs = make_outputs([0.0] * 6)
    value, parts = loss(outputs, make_targets(is_box=0.0))
    value.backward()
    assert bool((outputs["scores"].grad > 0).all())
    assert float(parts["box"]) == float(parts["words"]) == 0


def test_an_anchor_that_two_boxes_claim_goes_to_the_smaller_if_so_set(loss):
    import torch

    # A tray over the whole picture, and the mug of above in it; all anchors say the tray's box.
    targets = Targets(
        torch.tensor([[[0.0, 0, 32, 32], [8, 8, 24, 24]]]),
        torch.ones(1, 2, 1),
        torch.tensor([[[0.0, 0, 0, 1, 1, 0], [1, 0, 1, 0, 0, 1]]]),
        torch.ones(1, 1, 6),
    )
    scores, points = torch.zeros(1, 16, 6), torch.tensor([[x + 0.5, y + 0.5] for y in range(4)
                                                          for x in range(4)])  # fmt: skip
    inner = [5, 6, 9, 10]  # the anchors in the mug; the tray is surest of them and claims them
    scores[:, inner, 3:5] = 4.0
    boxes = torch.tensor([0.0, 0, 4, 4]).expand(1, 16, 4)
    counts = []
    for prefers_small in (False, True):
        loss.prefers_small = prefers_small
        weights, *_ = loss._assign(scores, boxes, points, torch.full((16, 1), 8.0), targets)
        counts.append((weights > 0).sum(dim=(0, 1)).tolist())
    loss.prefers_small = False
    assert counts[0][1] == 0  # the mug gets none of the four anchors in it
    assert counts[1][1] == 4
    assert counts[1][0] > 0
