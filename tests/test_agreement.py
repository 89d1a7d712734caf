from dataclasses import replace

import pytest

from ilv_dataset.agreement import (
    Figures,
    Limits,
    is_alike,
    judge_candidate,
    judge_figures,
    measure_candidate,
)
from ilv_dataset.records import Candidate, Sighting

# 20 x 10 pixels at (10, 20) of 100 x 80; the mask is 16 x 10 and fills 120 pixels of it.
SEEN = Sighting(
    "image", 5, (100, 80), (10, 20, 30, 30), 0.8, 0.1, (10, 20, 26, 30), 120, 0.9, (200, 100, 0)
)
LIMITS = Limits(
    score_sure=0.6, score_min=0.2, margin_min=0.1, mask_iou_min=0.5, fill_min=0.25,
    aspect_max=4.0, share_max=0.25,
)  # fmt: skip
SURE = Figures(
    score=0.7, margin=0.7, mask_iou=0.8, fill=0.6, aspect=2.0, share=0.1,
    num_agreeing=0, num_differing=0,
)  # fmt: skip


def candidate(*earlier, seen=SEEN, is_given=False):
    return Candidate(b"", "carrot", seen, tuple(earlier), is_given)


def test_measure_candidate():
    found = measure_candidate(candidate())
    assert found.score == 0.8
    assert found.margin == pytest.approx(0.7)
    assert found.mask_iou == pytest.approx(0.8)  # 160 of 200 pixels
    assert found.fill == pytest.approx(0.6)
    assert found.aspect == pytest.approx(2)
    assert found.share == pytest.approx(0.025)  # 200 of 8,000
    assert (found.num_agreeing, found.num_differing) == (0, 0)


def test_measure_candidate_without_mask_or_score():
    seen = replace(SEEN, mask_box_xyxy=None, mask_area_px=None, box_score=None, rival_score=0.0)
    found = measure_candidate(candidate(seen=seen))
    assert (found.mask_iou, found.fill, found.score, found.margin) == (None, None, None, 0)


def test_measure_candidate_counts_earlier_frames_of_the_camera():
    moved = replace(SEEN, frame_index=0, box_xyxy=(60, 40, 80, 50))
    green = replace(SEEN, frame_index=0, color_rgb=(40, 160, 40))
    elsewhere = replace(SEEN, camera="wrist")
    found = measure_candidate(candidate(moved, green, elsewhere))
    assert (found.num_agreeing, found.num_differing) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"color_rgb": (200, 100, 25)}, True),
        ({"color_rgb": (200, 100, 26)}, False),
        ({"mask_area_px": 180}, True),  # 1.5 times
        ({"mask_area_px": 181}, False),
        ({"mask_area_px": 79}, False),
        ({"mask_area_px": None, "box_xyxy": (0, 0, 12, 10)}, True),
    ],
)
def test_is_alike(changes, expected):
    assert is_alike(SEEN, replace(SEEN, **changes)) is expected


@pytest.mark.parametrize(
    ("changes", "expected", "reason"),
    [
        ({}, "match", "score 0.70"),
        ({"score": 0.6, "margin": 0.1}, "match", "score 0.60"),
        ({"aspect": 4.5}, "mismatch", "aspect 4.50, expected 0 to 4"),
        ({"share": 0.3}, "mismatch", "share of the frame 0.30, expected 0 to 0.25"),
        ({"mask_iou": 0.4}, "mismatch", "iou of mask and box 0.40, expected 0.5 to 1"),
        ({"fill": 0.2}, "mismatch", "fill of the box 0.20, expected 0.25 to inf"),
        ({"mask_iou": None, "fill": None}, "match", "score 0.70"),
        ({"score": 0.1}, "mismatch", "score 0.10, expected 0.2 to 1"),
        ({"score": None}, "unsure", "no detector saw it"),
        ({"margin": 0.05}, "unsure", "score 0.70, another phrase's less 0.05"),
        ({"score": 0.5}, "unsure", "score 0.50, and no other frame agrees"),
        ({"score": 0.5, "num_agreeing": 1}, "match", "score 0.50, and another frame agrees"),
        ({"score": 0.5, "num_agreeing": 1, "num_differing": 1}, "unsure",
         "score 0.50, and no other frame agrees"),
    ],
)  # fmt: skip
def test_judge_figures(changes, expected, reason):
    verdict = judge_figures(replace(SURE, **changes), LIMITS)
    assert (verdict.value, verdict.reason) == (expected, reason)


def test_judge_candidate_goes_by_the_limits_that_were_measured():
    assert judge_candidate(candidate()).value == "match"
    assert judge_candidate(candidate(seen=replace(SEEN, box_score=0.1))).value == "mismatch"


def test_what_the_dataset_marks_is_never_rejected():
    hair = replace(SEEN, box_xyxy=(0, 0, 18, 1), mask_box_xyxy=(0, 0, 2, 1), mask_area_px=18)
    assert judge_candidate(candidate(seen=hair)).value == "mismatch"
    verdict = judge_candidate(candidate(seen=hair, is_given=True))
    assert (verdict.value, verdict.reason) == ("match", "the dataset marks it")
