"""What is taken from a reply: whole items out of any wrapping, and phrases the text really has."""

import json
import time

import pytest

from ilv_dataset.errors import ReplyError
from ilv_dataset.replies import check_summary, decode_items, match_phrases

ITEMS = '{"items": [{"id": 1, "objects": []}, {"id": 2, "objects": []}]}'
BOTH = {1: {"id": 1, "objects": []}, 2: {"id": 2, "objects": []}}


def named(phrase, query="cup", kind="container"):
    return {"phrase": phrase, "query": query, "kind": kind}


def places(text, *phrases):
    """(phrase, start, end) of what is found when a model names the phrases in this order."""
    found = match_phrases(text, [named(phrase) for phrase in phrases])
    return [(one.phrase, one.start, one.end) for one in found]


def reason_of(text, *phrases):
    with pytest.raises(ReplyError) as error:
        match_phrases(text, [named(phrase) for phrase in phrases])
    return error.value.reason


@pytest.mark.parametrize(
    "reply",
    [
        ITEMS,
        f"```json\n{ITEMS}\n```",
        f"Sure! {{Here}} you go: {ITEMS} Hope {{it}} helps",
        f'<think>Perhaps {{"id": 1, "objects": [7]}}?</think>\n{ITEMS}',
        f'Perhaps {{"id": 2, "objects": [7]}}?</think>{ITEMS}',
        '[{"id": 2, "objects": []}, {"id": 1, "objects": []}]',
        '{"id": 1, "objects": []}\n{"id": 2, "objects": []}\n',
        '{"result": {"items": 3}} {"id": 1, "objects": []}, {"id": 2, "objects": []}',
        '{"items": [{"id": 1, "objects": []}, 5, null, "x", {"id": "x"}, {"id": true},'
        ' {"no": 1}, {"id": 2, "objects": []}]}',
    ],
    ids=["plain", "fence", "prose", "thoughts", "end of thoughts", "list", "lines", "odd", "junk"],
)
def test_items_are_found_however_they_are_wrapped(reply):
    assert decode_items(reply) == BOTH


@pytest.mark.parametrize(
    ("num_chars", "ids"),
    [(len(ITEMS) - 1, {1, 2}), (len(ITEMS) - 3, {1}), (45, {1}), (37, {1}), (36, {1})],
)
def test_what_is_whole_of_a_reply_that_is_cut_counts(num_chars, ids):
    assert set(decode_items(ITEMS[:num_chars])) == ids


@pytest.mark.parametrize(
    "reply", ["", "I cannot.", ITEMS[:20], '{"id": 1.0}', '{"items": []}', "{" * 50, "[1, 2]"]
)
def test_a_reply_without_an_item_is_no_json(reply):
    with pytest.raises(ReplyError) as error:
        decode_items(reply)
    assert error.value.reason == "not-json"
    assert len(str(error.value)) < 120


def test_an_id_that_comes_twice_counts_as_missing():
    assert set(decode_items('[{"id": 1}, {"id": 2}, {"id": 1}]')) == {2}
    assert decode_items('[{"id": 1}, {"id": 1}]') == {}


@pytest.mark.parametrize(
    "reply",
    [
        '{"a":' * 700_000,
        '{"a":' + "[" * 4_000_000,
        "{" * 4_000_000,
        '{"a":[' * 900 + "1," * 1_900_000,
        "x" * 3_900_000 + "{" * 5000,
        '{"id":' + "9" * 4_000_000 + "}",
    ],
    ids=["objects", "lists", "braces", "a long list", "braces at the end", "a long number"],
)
def test_a_hostile_reply_takes_little_time(reply):
    begun = time.process_time()
    with pytest.raises(ReplyError, match="no item"):
        decode_items(reply)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("text", "phrases", "found"),
    [
        ("Put the RED Cup down", ["the red cup"], [("RED Cup", 8, 15)]),
        ("lift An apple", ["an Apple"], [("apple", 8, 13)]),
        ("lift the  red\n cup", [" red cup "], [("red\n cup", 10, 18)]),
        ("move the candy can", ["can"], [("can", 15, 18)]),
        ("the toucan and the can", ["can"], [("can", 19, 22)]),
        ("lift the cup, then the pot.", ["cup", "pot"], [("cup", 9, 12), ("pot", 23, 26)]),
        ("open (the) 'top drawer'", ["top drawer"], [("top drawer", 12, 22)]),
        ("take Anna's cup", ["Anna's cup"], [("Anna's cup", 5, 15)]),
        ("take Anna's cup", ["Anna", "cup"], [("Anna", 5, 9), ("cup", 12, 15)]),
        ("pick the 7up can", ["7up can"], [("7up can", 9, 16)]),
        ("pick 2% milk!", ["2% milk"], [("2% milk", 5, 12)]),
        ("a+b (c) [d] .*", ["(c)", ".*"], [("(c)", 4, 7), (".*", 12, 14)]),
        ("put 🍌🍌 on the crème brûlée", ["crème brûlée"], [("crème brûlée", 14, 26)]),
        ("лифт КРУЖКУ", ["кружку"], [("КРУЖКУ", 5, 11)]),
        ("把 杯子 放下", ["杯子"], [("杯子", 2, 4)]),
    ],
)
def test_a_phrase_is_found_at_its_code_points(text, phrases, found):
    assert places(text, *phrases) == found
    assert all(text[start:end] == phrase for phrase, start, end in found)


@pytest.mark.parametrize("order", [["cup", "red cup"], ["red cup", "cup"]])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("put the cup near the red cup", [("cup", 8, 11), ("red cup", 21, 28)]),
        ("put the red cup near the cup", [("red cup", 8, 15), ("cup", 25, 28)]),
    ],
)
def test_a_long_phrase_takes_its_place_before_a_short_one_within_it(order, text, found):
    assert places(text, *order) == found


def test_a_phrase_that_is_named_twice_takes_two_places():
    text = "the cup and the cup"
    assert places(text, "cup", "the cup") == [("cup", 4, 7), ("cup", 16, 19)]
    assert reason_of(text, "cup", "cup", "cup") == "overlapping-phrases"


def test_phrases_that_overlap_are_refused():
    assert reason_of("lift the red cup holder", "red cup", "cup holder") == "overlapping-phrases"
    assert reason_of("lift the red cup", "red cup", "cup") == "overlapping-phrases"


@pytest.mark.parametrize("phrase", ["can", "flux capacitor", "and", "y b", "candy bars"])
def test_a_phrase_that_is_no_whole_words_of_the_text_is_refused(phrase):
    assert reason_of("lift the candy bar", phrase) == "phrase-not-in-text"


def test_nothing_is_found_in_nothing():
    assert match_phrases("", []) == match_phrases("lift the cup", []) == ()
    assert reason_of("", "cup") == "phrase-not-in-text"


def test_a_query_is_lower_case_on_one_line():
    [found] = match_phrases("lift the 7UP can", [named("7UP can", " White\n soda  CAN ", "object")])
    assert (found.phrase, found.query, found.kind) == ("7UP can", "white soda can", "object")


@pytest.mark.parametrize(
    "objects",
    [
        None,
        {},
        "cup",
        ["cup"],
        [None],
        [[]],
        [{}],
        [{"phrase": "cup", "query": "cup"}],
        [named("cup", query=None)],
        [named(7)],
        [named("cup", kind="person")],
        [named("cup", kind=["object"])],
        [named("")],
        [named(" \n")],
        [named("cup", query=" ")],
        [named("cup", query="x" * 101)],
        [named("cup", query="an <image> of a cup")],
        [named("cup", query="\ud83c cup")],
        [named("cup", query="cup\0")],
    ],
)
def test_what_is_not_as_the_schema_wants_it_is_refused(objects):
    with pytest.raises(ReplyError) as error:
        match_phrases("lift the cup", objects)
    assert error.value.reason == "malformed-item"
    assert len(str(error.value)) < 200


def test_an_endless_phrase_costs_no_time_and_is_not_repeated():
    begun = time.process_time()
    with pytest.raises(ReplyError, match="not in the text") as error:
        match_phrases("lift the cup", [named("cup " * 1_000_000)])
    assert len(str(error.value)) < 200  # it goes back to the model
    assert time.process_time() - begun < 2


def test_a_summary_is_one_line():
    assert check_summary(" Pick up \n the  cup. ") == "Pick up the cup."
    assert check_summary("x" * 300) == "x" * 300


@pytest.mark.parametrize(
    "summary", [None, 5, ["x"], {}, "", " \n", "x" * 301, "lift <image>", "lift \ud83c", "a\0b"]
)
def test_what_is_no_summary_is_refused(summary):
    with pytest.raises(ReplyError) as error:
        check_summary(summary)
    assert error.value.reason == "malformed-item"
    json.dumps(str(error.value), ensure_ascii=False).encode()  # it is kept with the fault
