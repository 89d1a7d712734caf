"""Matching: which name or class a phrase means, and where nothing tells names apart."""

from __future__ import annotations

import pytest

from ilv_dataset.boxes import BoxChoice
from ilv_dataset.matching import extra_words, match_class, match_names, parse_name
from ilv_dataset.records import Phrase

AMBIGUOUS, ABSENT = BoxChoice(None, "ambiguous"), BoxChoice(None, "absent")
COCO = ("person", "dog", "bottle", "wine glass", "cup", "fork", "bowl", "banana", "apple",
        "orange", "carrot", "hot dog", "potted plant", "dining table", "cell phone", "book",
        "teddy bear", "sports ball", "remote", "toothbrush", "car", "refrigerator")  # fmt: skip


def make_phrases(*texts: str) -> list[Phrase]:
    return [Phrase(text, 0, len(text), text, "object") for text in texts]


def test_parse_name_separates_head_modifiers_and_places():
    name = parse_name("the Big gray MUGS")
    assert (name.head, name.modifiers, name.places) == ("mug", {"big", "grey"}, frozenset())
    assert parse_name("left red mug").places == {"left"}


@pytest.mark.parametrize(
    ("phrase", "names", "expected"),
    [
        ("red mug", ["blue mug", "red mug"], BoxChoice(1)),
        ("the red mugs", ["red mug"], BoxChoice(0)),
        ("mug", ["red mug", "plate"], BoxChoice(0)),
        ("mug", ["red mug", "mug"], BoxChoice(1)),
        ("mug", ["red mug", "blue mug"], AMBIGUOUS),
        ("left mug", ["red mug", "blue mug"], AMBIGUOUS),
        ("red mug", ["red mug", "red mug"], AMBIGUOUS),
        ("red mug", ["blue mug"], ABSENT),
        ("small red mug", ["big red mug"], ABSENT),
        ("smallest mug", ["big mug"], ABSENT),
        ("smallest mug", ["little mug", "largest mug"], BoxChoice(0)),
        ("big mug", ["large mug"], BoxChoice(0)),
        ("tall mug", ["short mug"], ABSENT),
        ("pepsi can", ["coke can"], ABSENT),
        ("coke can", ["red coke can", "blue can"], BoxChoice(0)),
        ("red coke can", ["can"], BoxChoice(0)),
        ("red cup", ["red mug"], BoxChoice(0)),
        ("red cup", ["red mug", "red cup"], BoxChoice(1)),
        ("gray block", ["grey cube"], BoxChoice(0)),
        ("can", ["cup", "candy"], ABSENT),
        ("orange", ["orange can"], ABSENT),
        ("mug", [], ABSENT),
        ("mug", ["", "mug"], BoxChoice(1)),
        ("x" * 500, ["mug"], ABSENT),
    ],
)
def test_match_names_of_one_phrase(phrase, names, expected):
    assert match_names(names, make_phrases(phrase)) == (expected,)


def test_match_names_asks_the_query_where_the_phrase_names_nothing():
    misspelt = Phrase("eggplent", 0, 8, "eggplant", "object")
    assert match_names(["eggplant"], [misspelt]) == (BoxChoice(0),)


def test_match_names_gives_an_object_to_the_phrase_that_fits_better():
    choices = match_names(["red mug", "plate"], make_phrases("red mug", "mug", "plate"))
    assert choices == (BoxChoice(0), AMBIGUOUS, BoxChoice(1))


def test_match_names_when_two_phrases_fit_equally_gives_neither():
    choices = match_names(["red big mug"], make_phrases("red mug", "big mug"))
    assert choices == (AMBIGUOUS, AMBIGUOUS)


def test_match_names_lets_two_mentions_share():
    choices = match_names(["red mug"], make_phrases("red mug", "the red mug"))
    assert choices == (BoxChoice(0), BoxChoice(0))


def test_match_names_of_50_phrases():
    names = [f"tool {number}x" for number in range(50)]
    assert match_names(names, make_phrases(*names)) == tuple(map(BoxChoice, range(50)))


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("orange", "orange"),
        ("apples", "apple"),
        ("green apple", "apple"),
        ("blue plastic bottle", "bottle"),
        ("coffee mug", "cup"),
        ("phone", "cell phone"),
        ("hot dog", "hot dog"),
        ("dog", "dog"),
        ("tennis ball", "sports ball"),
        ("orange can", None),
        ("orange towel", None),
        ("coke can", None),
        ("glass", None),
        ("table", None),
        ("plant pot", None),
        ("suction cup", None),
        ("cup holder", None),
        ("apple juice", None),
        ("ball", None),
        ("bear", None),
        ("", None),
        ("x" * 500, None),
    ],
)
def test_match_class_goes_by_the_head_noun(phrase, expected):
    assert match_class(phrase, COCO) == expected


@pytest.mark.parametrize(
    ("phrase", "label", "expected"),
    [
        ("orange", "orange", set()),
        ("the green cup", "cup", {"green"}),
        ("left cup", "cup", {"left"}),
        ("mug", "cup", set()),
        ("tennis ball", "sports ball", set()),
        ("green tennis ball", "sports ball", {"green"}),
        ("mobile phone", "cell phone", set()),
    ],
)
def test_extra_words_are_those_that_the_class_does_not_cover(phrase, label, expected):
    assert extra_words(phrase, label) == expected
