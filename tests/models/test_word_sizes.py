"""Sizes: the small one and the large one of several things of one name."""

import numpy as np
import pytest

from ilv_dataset.models.word_sizes import keep_sizes, size_wanted
from ilv_dataset.records import Detections, Phrase


def make_phrases(*texts: str) -> list[Phrase]:
    return [Phrase(text, 0, len(text), text, "object") for text in texts]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("small ball", -1),
        ("the little red ball", -1),
        ("Largest plate", 1),
        ("tiniest ball", 0),  # no word of the list
        ("tall bottle", 0),
        ("big bowl", 1),
        ("ball", 0),
        ("big small ball", 0),
        ("smallish ball", 0),
        ("", 0),
    ],
)
def test_size_wanted_is_the_sign_of_the_size_word(text, wanted):
    assert size_wanted(text) == wanted


def test_of_several_likely_boxes_the_one_of_the_size_is_kept():
    boxes = np.array([[0, 0, 10, 10], [20, 0, 50, 30], [0, 50, 4, 54]] * 3, np.float32)
    scores = np.array([0.6, 0.9, 0.4] * 3, np.float32)  # the last of each is too unlikely
    found = Detections(boxes, scores, np.repeat(np.arange(3), 3))
    kept = keep_sizes(found, make_phrases("small ball", "large ball", "ball"))
    assert kept.query_indices.tolist() == [0, 1, 2, 2, 2]
    assert kept.boxes_xyxy[:2].tolist() == [[0, 0, 10, 10], [20, 0, 50, 30]]
    assert kept.scores.tolist() == pytest.approx([0.6, 0.9, 0.6, 0.9, 0.4])


@pytest.mark.parametrize(
    ("scores", "small"),
    [
        ([0.9, 0.6, 0.7], [40, 0, 60, 20]),  # the first is seen whole, the second is its handle
        ([0.6, 0.9, 0.7], [2, 2, 10, 10]),  # a likelier box is a thing, wherever it lies
        ([0.9, 0.4, 0.7], [40, 0, 60, 20]),
    ],
)
def test_a_part_of_a_thing_is_not_the_small_one(scores, small):
    boxes = np.array([[0, 0, 30, 30], [2, 2, 10, 10], [40, 0, 60, 20]], np.float32)
    found = Detections(boxes, np.array(scores, np.float32), np.zeros(3, int))
    assert keep_sizes(found, make_phrases("small ball")).boxes_xyxy.tolist() == [small]


def test_a_box_that_reaches_out_of_a_larger_one_is_a_thing():
    # 7 of its 10 columns are inside: 0.7 of its area, and a part has 0.8.
    boxes = np.array([[0, 0, 30, 30], [23, 0, 33, 10]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.6], np.float32), np.zeros(2, int))
    kept = keep_sizes(found, make_phrases("small ball"))
    assert kept.boxes_xyxy.tolist() == [[23, 0, 33, 10]]


def test_a_thing_alone_is_both_small_and_large():
    found = Detections(
        np.array([[0, 0, 9, 9]], np.float32), np.ones(1, np.float32), np.zeros(1, int)
    )
    assert len(keep_sizes(found, make_phrases("large ball")).scores) == 1


def test_nothing_found_stays_nothing_with_its_reason():
    empty = Detections.empty()
    found = Detections(empty.boxes_xyxy, empty.scores, empty.query_indices, None, {0: "absent"})
    assert keep_sizes(found, make_phrases("small ball")).reasons == {0: "absent"}
