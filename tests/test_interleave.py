import re

import pytest
from builders import make_phrase
from hypothesis import given
from hypothesis import strategies as st

from ilv_dataset.interleave import interleave_instruction
from ilv_dataset.records import Phrase


def interleave(text, *phrases):
    return interleave_instruction(text, [make_phrase(text, phrase) for phrase in phrases])


@pytest.mark.parametrize(
    ("text", "phrases", "expected"),
    [
        ("put the carrot on the plate", ["carrot"], "put <image> on the plate"),
        ("put the carrot on the plate", ["carrot", "plate"], "put <image> on <image>"),
        ("put the carrot on the plate", [], "put the carrot on the plate"),
        ("carrot", ["carrot"], "<image>"),
        ("The cup", ["cup"], "<image>"),
        ("lift AN  apple, a\tpear", ["apple", "pear"], "lift <image>, <image>"),
        ("bathe dog", ["dog"], "bathe <image>"),  # "the" inside a word is no article
        ("bathe" + " " * 13 + "dog", ["dog"], "bathe" + " " * 13 + "<image>"),
        ("put it in a can", ["can"], "put it in <image>"),
        ("the the cup", ["cup"], "the <image>"),
        ("lift the red cup", ["red cup"], "lift <image>"),
        ("lift the red cup", ["cup"], "lift the red <image>"),
        ("hebe die tür auf dem tisch", ["tür", "tisch"], "hebe die <image> auf dem <image>"),
        ("apple,pear", ["apple", "pear"], "<image>,<image>"),
        ("applepear", ["apple", "pear"], "<image><image>"),
    ],
)
def test_interleave_instruction(text, phrases, expected):
    assert interleave(text, *phrases) == expected


def test_an_article_that_ends_a_phrase_belongs_to_that_phrase():
    text = "take vitamin a pill"
    phrases = [make_phrase(text, "vitamin a"), make_phrase(text, "pill")]
    assert interleave_instruction(text, phrases) == "take <image> <image>"


@pytest.mark.parametrize(
    "phrases",
    [
        [Phrase("cup", 4, 7, "cup", "object"), Phrase("cup", 4, 7, "cup", "object")],
        [Phrase("mug", 4, 7, "mug", "object")],
        [Phrase("cup", 5, 8, "cup", "object")],
    ],
)
def test_phrases_that_do_not_index_the_text_are_a_bug(phrases):
    with pytest.raises(ValueError, match="does not index 'the cup'"):
        interleave_instruction("the cup", phrases)


@given(st.lists(st.sampled_from(["cup", "the", "a", "red", " ", "an", "é"]), max_size=12))
def test_only_phrases_and_an_article_before_each_give_way(words):
    text = "".join(words)
    starts = [match.start() for match in re.finditer("cup", text)]
    phrases = [Phrase("cup", start, start + 3, "cup", "object") for start in starts]
    before, after = text.split("cup"), interleave_instruction(text, phrases).split("<image>")
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        assert old.startswith(new)
        assert old[len(new) :].strip() in ("", "the", "a", "an")
