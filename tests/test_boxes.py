"""Boxes: geometry on hand-worked numbers, what is dropped, and who gets which box."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilv_dataset.boxes import (
    BoxChoice,
    box_areas_px,
    box_ious,
    choose_boxes,
    clip_boxes,
    drop_unfit_boxes,
    pad_box,
    rival_score,
    round_boxes,
    round_detections,
    round_scores,
)
from ilv_dataset.masks import FrameMasks
from ilv_dataset.records import Detections, Phrase

SIZE_WH = (100, 80)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def make_phrase(text: str) -> Phrase:
    return Phrase(text, 0, len(text), text, "object")


def make_detections(
    *rows: tuple[tuple[float, float, float, float], float, int],
    masks: np.ndarray | None = None,
    reasons: dict[int, str] | None = None,
) -> Detections:
    return Detections(
        boxes_xyxy=boxes(*(row[0] for row in rows)),
        scores=np.array([row[1] for row in rows], np.float32),
        query_indices=np.array([row[2] for row in rows], np.int64),
        masks=None if masks is None else FrameMasks.of(masks),
        reasons=reasons or {},
    )


def test_round_boxes_keeps_one_digit():
    assert (
        round_boxes(np.array([[0.04, 0.06, 1.25, 1.349]])).tolist()
        == boxes((0, 0.1, 1.2, 1.3)).tolist()
    )


def test_round_scores_keeps_three_digits():
    assert round_scores(np.array([0.12345, 0.9996])).tolist() == pytest.approx([0.123, 1.0])


def test_clip_boxes_when_outside_has_no_area():
    clipped = clip_boxes(boxes((-5, 70, 20, 90), (120, 10, 130, 20)), size_wh=SIZE_WH)
    assert clipped.tolist() == [[0, 70, 20, 80], [100, 10, 100, 20]]
    assert box_areas_px(clipped).tolist() == [200, 0]


def test_box_areas_px_when_inverted_is_zero():
    assert box_areas_px(boxes((10, 20, 30, 60), (30, 20, 10, 60))).tolist() == [800, 0]


def test_box_areas_px_when_there_are_no_boxes():
    assert box_areas_px(boxes()).tolist() == []


def test_box_ious_of_half_overlap_apart_and_empty():
    others = boxes((0, 0, 10, 10), (5, 0, 15, 10), (20, 20, 30, 30), (3, 3, 3, 3))
    assert box_ious(others[0], others).tolist() == pytest.approx([1, 50 / 150, 0, 0])


def test_pad_box_grows_each_side_by_a_share_of_its_own_length():
    assert pad_box(np.array([10, 20, 20, 40]), share=0.2).tolist() == [8, 16, 22, 44]


@given(st.lists(st.floats(0, 200, width=32), min_size=4, max_size=4))
def test_pad_then_clip_stays_inside(coordinates):
    box = np.array(coordinates)
    clipped = clip_boxes(pad_box(box, share=0.2)[None], size_wh=SIZE_WH)[0]
    assert (clipped >= 0).all()
    assert (clipped <= [100, 80, 100, 80]).all()


def test_round_detections_drops_what_is_not_finite():
    raw = np.array([[0, 0, 10, 10], [0, 0, np.nan, 10], [1, 1, 500, 9.96], [0, 0, 5, 5]])
    scores = np.array([0.5, 0.9, 0.12349, np.inf])
    kept, kept_scores, rows = round_detections(raw, scores, size_wh=SIZE_WH)
    assert kept.tolist() == [[0, 0, 10, 10], [1, 1, 100, 10]]
    assert kept_scores.tolist() == pytest.approx([0.5, 0.123])
    assert rows.tolist() == [0, 2]


def test_drop_unfit_boxes_at_the_limits():
    detections = make_detections(
        ((0, 0, 6, 3), 0.9, 0),  # 18 pixels
        ((0, 0, 17, 1), 0.9, 1),
        ((0, 0, 100, 40), 0.9, 2),  # exactly half
        ((0, 0, 100, 41), 0.9, 3),
        ((0, 0, 100, 80), 0.9, 0),
    )
    kept = drop_unfit_boxes(detections, size_wh=SIZE_WH)
    assert kept.query_indices.tolist() == [0, 2]
    assert kept.reasons == {1: "box-too-small", 3: "box-too-large"}


def test_drop_unfit_boxes_counts_the_pixels_of_the_mask_where_there_is_one():
    masks = np.zeros((2, 80, 100), bool)
    masks[0, 0, :17] = True
    masks[1, 0, :18] = True
    box = (0.0, 0.0, 20.0, 20.0)
    detections = make_detections((box, 1, 0), (box, 1, 1), masks=masks)
    kept = drop_unfit_boxes(detections, size_wh=SIZE_WH)
    assert kept.reasons == {0: "box-too-small"}
    assert kept.masks is not None
    assert kept.masks.areas_px().tolist() == [18]


def test_choose_boxes_takes_the_best_score_of_each_query():
    detections = make_detections(
        ((0, 0, 10, 10), 0.3, 0), ((20, 0, 30, 10), 0.8, 0), ((50, 0, 60, 10), 0.4, 1)
    )
    queries = [make_phrase("cup"), make_phrase("plate")]
    assert choose_boxes(detections, queries) == (BoxChoice(1), BoxChoice(2))


def test_choose_boxes_of_equal_scores_takes_the_larger_then_the_leftmost():
    rows = [((20, 0, 30, 10), 0.5, 0), ((5, 0, 15, 10), 0.5, 0), ((40, 0, 49, 10), 0.5, 0)]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        detections = make_detections(*(rows[i] for i in order))
        (choice,) = choose_boxes(detections, [make_phrase("cup")])
        assert choice.index is not None
        assert detections.boxes_xyxy[choice.index].tolist() == [5, 0, 15, 10]


def test_choose_boxes_gives_a_shared_box_to_the_better_score_and_the_next_to_the_other():
    detections = make_detections(
        ((0, 0, 10, 10), 0.9, 0), ((0, 0, 10, 11), 0.8, 1), ((50, 0, 60, 10), 0.4, 1)
    )
    queries = [make_phrase("red can"), make_phrase("blue can")]
    assert choose_boxes(detections, queries) == (BoxChoice(0), BoxChoice(2))


def test_choose_boxes_when_a_query_loses_its_only_box_is_ambiguous():
    detections = make_detections(((0, 0, 10, 10), 0.9, 0), ((0, 0, 10, 10), 0.8, 1))
    queries = [make_phrase("red can"), make_phrase("blue can")]
    assert choose_boxes(detections, queries) == (BoxChoice(0), BoxChoice(None, "ambiguous"))


def test_choose_boxes_when_two_queries_tie_for_a_box_neither_gets_it():
    detections = make_detections(((0, 0, 10, 10), 1, 0), ((0, 0, 10, 10), 1, 1))
    queries = [make_phrase("red can"), make_phrase("can")]
    assert choose_boxes(detections, queries) == (BoxChoice(None, "ambiguous"),) * 2


def test_choose_boxes_lets_two_mentions_of_one_query_share_a_box():
    detections = make_detections(((0, 0, 10, 10), 1, 0), ((0, 0, 10, 10), 1, 1))
    choices = choose_boxes(detections, [make_phrase("cup"), make_phrase("cup")])
    assert choices == (BoxChoice(0), BoxChoice(1))


def test_choose_boxes_when_there_is_none_says_why():
    detections = make_detections(reasons={1: "box-too-small"})
    queries = [make_phrase("cup"), make_phrase("pea")]
    assert choose_boxes(detections, queries) == (
        BoxChoice(None, "absent"),
        BoxChoice(None, "box-too-small"),
    )


def test_rival_score_is_the_best_of_another_query_at_the_place():
    carrot, cup = make_phrase("carrot"), make_phrase("cup")
    found = make_detections(
        ((0, 0, 10, 10), 0.9, 0),
        ((0, 0, 10, 5), 0.3, 1),  # half of it
        ((0, 0, 10, 4), 0.8, 1),  # too little of it
        ((0, 0, 10, 10), 0.7, 2),  # the same query, said twice
    )
    queries = [carrot, cup, carrot]
    assert rival_score(found, 0, queries) == pytest.approx(0.3)
    assert rival_score(found, 1, queries) == pytest.approx(0.9)
    assert rival_score(make_detections(((0, 0, 10, 10), 0.9, 0)), 0, [carrot]) == 0
