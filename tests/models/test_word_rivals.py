"""Rivalry between words: what a place is likelier to be speaks against a phrase."""

import json

import numpy as np
import pytest

from ilv_dataset.models import word_rivals
from ilv_dataset.models.word_rivals import Rivals, decode_rivals, encode_rivals

WORDS = Rivals(("cup", "mug", "toy car"), ("blue", "red"), weight=1.0)


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("red mug", (1, 1)),
        ("The Blue Cups", (0, 0)),
        ("mug", (1, None)),
        ("red toy car", (2, 1)),
        ("red car", (None, 1)),  # another thing than a toy car
        ("grey mug", (1, None)),  # grey is no colour of the training
        ("two shiny red mugs", (1, 1)),
        ("red toy mug", (1, 1)),
        ("red plastic toy car", (2, 1)),
        ("mug holder", (None, None)),
        ("cup of the red mug", (0, 1)),
        ("red and blue mug", (1, None)),
        ("stapler", (None, None)),
        ("", (None, None)),
    ],
)
def test_claims_are_the_words_of_the_training_that_a_phrase_means(text, claims):
    assert WORDS.claims(text) == claims


def test_a_phrase_is_taken_apart_once(monkeypatch):
    asked = []

    def split(text: str) -> tuple[str, ...]:
        asked.append(text)
        return tuple(text.split())

    monkeypatch.setattr(word_rivals, "content_words", split)
    words = Rivals(("spoon", "ladle"), ("teal",))
    assert [words.claims("teal ladle") for _ in range(2)] == [(1, 0), (1, 0)]
    assert asked == ["teal ladle", "spoon", "ladle"]


def test_a_likelier_rival_takes_from_a_score_as_much_as_its_share():
    # One place, a mug and certainly red: odds of cup 1, mug 3, car 0; blue 0, red 1.
    word_scores = np.array([[0.5], [0.75], [0], [0], [0.5]])
    scores = np.array([[0.5], [0.5]])
    judged = WORDS.judge(scores, word_scores, ["red cup", "red mug"])
    # Odds of 1 times the noun's share (1 and 3 quarters) and the colour's (all but nothing).
    assert judged[:, 0].tolist() == pytest.approx([0.2, 3 / 7], abs=1e-4)


def test_a_phrase_of_other_words_keeps_its_score():
    word_scores = np.full((5, 2), 0.5)
    judged = WORDS.judge(np.array([[0.1, 0.9]]), word_scores, ["stapler"])
    assert judged[0].tolist() == pytest.approx([0.1, 0.9])


def test_a_shift_moves_all_scores_and_keeps_their_order():
    moved = Rivals(("cup",), ("red",), shift=float(np.log(3)))
    judged = moved.judge(np.array([[0.5, 0.25, 0.0, 1.0]]), np.zeros((2, 4)), ["fork"])
    assert judged[0].tolist() == pytest.approx([0.75, 0.5, 0, 1], abs=1e-5)


def test_nouns_that_people_use_for_each_other_are_no_rivals():
    words = Rivals(("cup", "mug", "pot"), ("red",), weight=1.0, alike=(("cup", "mug"),))
    # Odds of cup 1, mug 3, pot 1: the mug takes nothing from the cup, the pot half of it.
    word_scores = np.array([[0.5], [0.75], [0.5], [1 - 1e-6]])
    judged = words.judge(np.full((3, 1), 0.5), word_scores, ["red cup", "red mug", "red pot"])
    # Odds of 1 times 1 / (1 + 1), 3 / (3 + 1) and 1 / (1 + 3 + 1).
    assert judged[:, 0].tolist() == pytest.approx([1 / 3, 3 / 7, 1 / 6], abs=1e-4)


def test_words_of_one_kind_alone_have_no_rivals_of_the_other():
    words = Rivals(("cup", "mug"), (), weight=1.0)
    judged = words.judge(np.full((2, 1), 0.5), np.array([[0.5], [0.75]]), ["cup", "cup holder"])
    # Odds of 1 times 1 / (1 + 3), and of no rival.
    assert judged[:, 0].tolist() == pytest.approx([0.2, 0.5], abs=1e-4)


def test_rivals_come_back_as_they_were():
    rivals = Rivals(("cup", "toy car"), ("red",), 0.5, -1.25, (("cup", "mug"),))
    assert decode_rivals(encode_rivals(rivals)) == rivals
    older = '{"nouns": ["cup"], "colours": ["red"], "weight": 0.5, "shift": 0}'
    assert decode_rivals(older).alike == ()


def test_a_file_brings_so_many_words_and_no_more():
    many = json.dumps([str(number) for number in range(10_000)])
    with pytest.raises(ValueError, match="at most 10,000 words, got 10,001"):
        decode_rivals(f'{{"nouns": {many}, "colours": ["red"], "weight": 1, "shift": 0}}')


@pytest.mark.parametrize(
    "text", ["{}", "[]", "no", '{"nouns": ["cup"], "colours": []}',
             '{"nouns": ["cup"], "colours": ["red"], "weight": -1}',
             '{"nouns": ["cup"], "colours": ["red"], "shift": NaN}',
             '{"nouns": ["cup"], "colours": ["red"]}'],
)  # fmt: skip
def test_other_texts_are_no_rivals(text):
    with pytest.raises((ValueError, TypeError, KeyError)):
        decode_rivals(text)
