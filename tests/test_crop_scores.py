"""Judging crops: outcomes worked by hand, Wilson's intervals from the literature, names to ask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ilv_dataset.crop_scores import (
    Answer,
    CropScore,
    Share,
    absence_of,
    badness,
    bin_of,
    choose_absent,
    iou_of_masks,
    judge_answer,
    rows_of_name,
    tally_bins,
    tally_groups,
    tally_scores,
    visible_rows,
    wilson_interval,
)
from ilv_dataset.fields import CROP_OUTCOMES
from ilv_dataset.records import Box, SourceObjects

CARROT: Box = (0, 0, 10, 10)


def make_truth(**boxes: Box) -> SourceObjects:
    """Objects with full masks in a frame of 40 x 20; `red_can` is called "red can"."""
    masks = np.zeros((len(boxes), 20, 40), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.values(), strict=True):
        mask[int(y0) : int(y1), int(x0) : int(x1)] = True
    names = tuple(name.replace("_", " ") for name in boxes)
    return SourceObjects(names, np.array(list(boxes.values()), np.float32).reshape(-1, 4), masks)


def make_answer(box: Box | None, **values: Any) -> Answer:
    mask = None
    if box is not None:
        mask = np.zeros((20, 40), bool)
        mask[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = True
    return Answer("carrot", "demo", "frame 1", box, **{"mask": mask, **values})


def judge(box: Box | None, truth: SourceObjects, named: tuple[int, ...] = (0,)) -> CropScore:
    return judge_answer(make_answer(box), truth, named)


def make_score(outcome: str, **values: Any) -> CropScore:
    return CropScore(
        **{"phrase": "carrot", "dataset": "demo", "place": "1", **values}, outcome=outcome
    )


# --- Wilson's interval


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        # Newcombe 1998, table I, method 3
        (81, 263, 0.255, 0.366),
        (15, 148, 0.062, 0.160),
        (0, 20, 0.000, 0.161),
        (1, 29, 0.006, 0.172),
        # and the ends: all of few, half of many
        (20, 20, 0.839, 1.000),
        (50, 100, 0.404, 0.596),
        (1, 1, 0.207, 1.000),
    ],
)
def test_wilson_interval_is_that_of_the_literature(count, total, low, high):
    assert wilson_interval(count, total) == (
        pytest.approx(low, abs=5e-4),
        pytest.approx(high, abs=5e-4),
    )


@pytest.mark.parametrize(("count", "total"), [(0, 0), (-1, 3), (4, 3)])
def test_wilson_interval_refuses_what_is_no_share(count, total):
    with pytest.raises(ValueError, match=f"got {count} of {total}"):
        wilson_interval(count, total)


def test_a_share_of_nothing_has_no_value():
    assert Share(0, 0).value is None
    assert Share(0, 0).interval is None


# --- one answer


def test_a_crop_is_right_at_an_iou_of_half():
    found = judge((0, 0, 10, 5), make_truth(carrot=CARROT))  # 50 of 100 pixels
    assert (found.outcome, found.iou, found.mask_iou) == ("right", 0.5, 0.5)
    assert (found.shown, found.shown_iou) == ("carrot", 0.5)


def test_a_crop_is_wrong_below_an_iou_of_half():
    found = judge((0, 0, 10, 4), make_truth(carrot=CARROT))
    assert (found.outcome, found.mask_iou) == ("wrong", None)
    assert found.iou == pytest.approx(0.4)


def test_a_crop_is_wrong_where_another_object_fits_better():
    truth = make_truth(carrot=CARROT, plate=(0, 0, 10, 15))
    found = judge((0, 0, 10, 13), truth)  # 100 of 130, and 130 of 150
    assert found.outcome == "wrong"
    assert found.iou == pytest.approx(100 / 130)
    assert found.shown == "plate"
    assert found.shown_iou == pytest.approx(130 / 150)


def test_a_crop_is_right_where_another_object_fits_as_well():
    truth = make_truth(plate=CARROT, carrot=CARROT)
    found = judge(CARROT, truth, named=(1,))
    assert (found.outcome, found.shown, found.mask_iou) == ("right", "carrot", 1.0)


def test_a_crop_of_any_object_of_the_name_is_right():
    truth = make_truth(carrot=CARROT, plate=(12, 0, 20, 10), other=(30, 0, 40, 10))
    assert judge((30, 0, 40, 10), truth, named=(0, 2)).outcome == "right"
    assert judge((12, 0, 20, 10), truth, named=(0, 2)).outcome == "wrong"


def test_another_object_of_the_name_is_no_rival():
    truth = make_truth(carrot=CARROT, other=(0, 0, 10, 15))
    found = judge((0, 0, 10, 13), truth, named=(0, 1))
    assert (found.outcome, found.shown) == ("right", "other")


def test_an_object_without_a_crop_is_missed():
    found = judge_answer(make_answer(None, reason="ambiguous"), make_truth(carrot=CARROT), (0,))
    assert (found.outcome, found.reason, found.shown) == ("missed", "ambiguous", "")
    assert not found.has_crop


def test_a_crop_of_what_is_not_there_says_what_it_shows():
    found = judge_answer(make_answer(CARROT), make_truth(red_can=CARROT), ())
    assert (found.outcome, found.shown, found.absence) == (
        "absent-cropped",
        "red can",
        "shares-nothing",
    )
    assert not found.is_there


def test_nothing_for_what_is_not_there_is_as_it_should_be():
    assert judge(None, make_truth(can=CARROT), named=()).outcome == "absent-left"


@pytest.mark.parametrize(("box", "outcome"), [(CARROT, "absent-cropped"), (None, "absent-left")])
def test_a_frame_without_objects_is_judged(box, outcome):
    found = judge(box, make_truth(), named=())
    assert (found.outcome, found.shown, found.iou) == (outcome, "", 0.0)


def test_an_object_of_17_pixels_is_not_there_and_one_of_18_is():
    truth = make_truth(carrot=(0, 0, 17, 1), can=(0, 2, 9, 4))
    assert visible_rows(truth) == [1]
    assert judge(None, truth, named=(0,)).outcome == "absent-left"
    assert judge(None, truth, named=(1,)).outcome == "missed"


def test_boxes_say_what_is_visible_where_there_are_no_masks():
    truth = SourceObjects(
        ("carrot", "can"), np.array([[0, 0, 17, 1], [0, 2, 9, 4]], np.float32), None
    )
    assert visible_rows(truth) == [1]
    assert judge((0, 2, 9, 4), truth, named=(1,)).mask_iou is None


def test_iou_of_masks_counts_pixels():
    one, other = np.zeros((2, 3), bool), np.zeros((2, 3), bool)
    assert iou_of_masks(one, other) == 0.0
    one[0] = True  # 3 pixels
    other[:, 0] = True  # 2 pixels, one of them shared
    assert iou_of_masks(one, other) == 0.25


# --- names


def test_rows_of_name_takes_case_articles_and_number_as_one():
    names = ("Coke Can", "can", "the coke cans", "pepsi can")
    assert rows_of_name(names, "coke can") == (0, 2)
    assert rows_of_name(names, "can") == (1,)
    assert rows_of_name((), "can") == ()


def test_absence_of_knows_a_shared_noun_and_a_shared_colour():
    assert absence_of("red can", ["blue can"]) == "shares-a-word"
    assert absence_of("red can", ["red pepper"]) == "shares-a-word"
    assert absence_of("red can", ["blue pepper"]) == "shares-nothing"
    assert absence_of("red can", []) == "shares-nothing"


def test_choose_absent_asks_half_that_share_a_word_and_half_that_do_not():
    there = ["red can", "blue mug"]
    elsewhere = {"blue can", "red mug", "banana", "plate", "red can"}
    chosen = choose_absent("a.png", there, elsewhere)
    assert [absence_of(name, there) for name in chosen] == ["shares-a-word", "shares-nothing"]
    assert chosen == choose_absent("a.png", there, sorted(elsewhere))


def test_choose_absent_leaves_out_what_an_object_may_be_called():
    assert choose_absent("a.png", ["red can"], {"can", "Red cans", "large can", "plate"}) == (
        "plate",
    )


def test_choose_absent_fills_one_half_up_from_the_other():
    assert set(choose_absent("a.png", ["red can"], {"blue can", "green can"})) == {
        "blue can",
        "green can",
    }
    assert set(choose_absent("a.png", ["can"], {"plate", "banana"})) == {"plate", "banana"}


def test_choose_absent_asks_an_image_without_objects_for_two_names():
    assert len(choose_absent("a.png", [], {"can", "plate", "banana"})) == 2
    assert choose_absent("a.png", ["can"], {"can"}) == ()


# --- figures of many


def test_tally_counts_each_share_of_its_own_total():
    outcomes = ["right"] * 3 + ["wrong"] * 2 + ["missed"] + ["absent-cropped"] + ["absent-left"] * 3
    scores = [make_score(outcome) for outcome in outcomes]
    found = tally_scores("all", scores)
    assert found.right == Share(3, 6)
    assert found.wrong == Share(2, 6)
    assert found.missed == Share(1, 6)
    assert found.absent_cropped == Share(1, 4)
    assert found.crops_right == Share(3, 6)
    assert found.num_faults == 4


def test_tally_means_the_masks_of_right_crops_that_are_known():
    scores = [
        make_score("right", mask_iou=0.5),
        make_score("right", mask_iou=1.0),
        make_score("right"),
    ]
    found = tally_scores("all", scores)
    assert (found.mask_iou, found.num_masks) == (0.75, 2)


def test_tally_of_nothing_has_no_figures():
    found = tally_scores("all", [])
    assert found.right == Share(0, 0)
    assert found.mask_iou is None
    assert tally_groups([], lambda score: score.phrase) == ()
    assert tally_bins([]) == ()


def test_groups_come_with_most_faults_first_and_leave_the_nameless_out():
    scores = [
        make_score("right", method="detect"),
        make_score("wrong", method="repair"),
        make_score("missed"),
    ]
    found = tally_groups(scores, lambda score: score.method or "")
    assert [tally.name for tally in found] == ["repair", "detect"]


def test_bins_take_crops_alone_and_say_what_a_threshold_keeps():
    scores = [
        make_score("wrong", score=0.31),
        make_score("right", score=0.39),
        make_score("right", score=0.95),
        make_score("absent-cropped", score=1.0),
        make_score("right"),
        make_score("missed"),
    ]
    found = tally_bins(scores)
    assert [low.name for low, _ in found] == ["0.3 to 0.4", "0.9 to 1.0", "no score"]
    assert [low.crops_right for low, _ in found] == [Share(1, 2), Share(1, 2), Share(1, 1)]
    assert [above.crops_right for _, above in found] == [Share(2, 4), Share(1, 2), Share(1, 1)]


@pytest.mark.parametrize(
    ("score", "expected"), [(0.0, 0), (0.1, 1), (0.3, 3), (0.7, 7), (0.999, 9), (1.0, 9)]
)
def test_bins_hold_their_lower_end(score, expected):
    assert bin_of(score) == expected
    assert bin_of(float(np.float32(score))) == expected


def test_the_worst_are_sure_wrong_crops_then_absent_ones_then_misses():
    scores = [
        make_score("missed", place="b"),
        make_score("missed", place="a"),
        make_score("absent-cropped", score=0.9),
        make_score("wrong", score=0.3),
        make_score("wrong", score=0.8),
    ]
    ranked = sorted(scores, key=badness)
    assert [(found.outcome, found.score) for found in ranked[:3]] == [
        ("wrong", 0.8),
        ("wrong", 0.3),
        ("absent-cropped", 0.9),
    ]
    assert [found.place for found in ranked[3:]] == ["a", "b"]


def test_every_outcome_is_in_the_closed_list():
    truth = make_truth(carrot=CARROT)
    found = {
        judge(box, truth, named).outcome
        for box in (None, CARROT, (20, 0, 30, 10))
        for named in ((), (0,))
    }
    assert found == set(CROP_OUTCOMES)
