"""Heads, queries, scores and the JSON form of phrases."""

import json
from importlib.resources import files

import pytest

from ilv_dataset import fields
from ilv_dataset.grammar import parse_instruction
from ilv_dataset.phrases import (
    PhraseMiss,
    encode_parsed,
    find_indistinct,
    head_noun,
    make_query,
    score_phrases,
    split_modifiers,
)


@pytest.mark.parametrize(
    ("phrase", "modifiers", "head"),
    [
        ("carrot", (), "carrot"),
        ("Green rice chip bags", ("green", "rice", "chip"), "bag"),
        ("green and yellow pepper shape", ("green", "yellow"), "pepper"),
        ("pot or pan", (), "pot"),
        ("red or blue cup", ("red", "blue"), "cup"),
        ("middle shelf of fridge", ("middle",), "shelf"),
        ("piece of toast", (), "toast"),
        ("can of soda", (), "can"),
        ("the dog's bowl", ("dog",), "bowl"),
        ("the 2 cups", (), "cup"),
        ("black_bowl", ("black",), "bowl"),
        ("shape", (), "shape"),
        ("?", (), "?"),
        ("", (), ""),
    ],
)
def test_split_modifiers(phrase, modifiers, head):
    assert split_modifiers(phrase) == (modifiers, head)
    assert head_noun(phrase) == head


@pytest.mark.parametrize(
    ("phrase", "query"),
    [
        ("Red Mug", "red mug"),
        ("dog's bowl", "dog bowl"),
        ("boys' toy", "boys toy"),
        ("\u201cSTOP\u201d sign", "stop sign"),
        ("black_bowl", "black bowl"),
        ("rice  bag", "rice bag"),
        ("pot or pan", "pot"),
        ("pot/pan", "pot"),
        ("red or blue cup", "blue cup"),
        ("7up can", "white soda can"),
        ("Coke can", "red can of soda"),
        ("crushed coke can", "crushed red can of soda"),
        ("cokes", "cokes"),
        ("'", "'"),
    ],
)
def test_make_query(phrase, query):
    assert make_query(phrase) == query


def test_score_phrases_counts_over_all_instructions():
    score = score_phrases(
        {"a": {"cup", "table", "arm"}, "b": {"pot"}},
        {"a": {"cup", "plate"}, "b": {"pot"}},
        neutral={"a": {"table"}},
    )
    assert (score.num_right, score.num_predicted, score.num_gold) == (2, 3, 3)
    assert (score.precision, score.recall, score.f1) == (2 / 3, 2 / 3, 2 / 3)
    assert score.misses == (PhraseMiss("a", missing=("plate",), extra=("arm",)),)


def test_score_phrases_of_nothing_is_perfect():
    score = score_phrases({}, {"a": set()})
    assert (score.precision, score.recall, score.f1, score.misses) == (1.0, 1.0, 1.0, ())


def test_score_phrases_counts_an_instruction_that_was_not_parsed_as_missed():
    score = score_phrases({}, {"a": {"cup"}})
    assert (score.recall, score.f1) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("instruction", "positions"),
    [
        ("place the carrot next to the other carrot", {0, 1}),
        ("move another cup to the plate", {0}),
        ("put the can on the brother plate", set()),
        ("put the cup on the other plate", {1}),
    ],
)
def test_find_indistinct_phrases_named_by_another(instruction, positions):
    parsed = parse_instruction(instruction)
    assert find_indistinct(parsed.text, parsed.objects) == positions


def test_encode_parsed_is_plain_json():
    encoded = encode_parsed(parse_instruction("lift the Coke can"))
    assert encoded == {
        "instruction": "lift the Coke can",
        "objects": [
            {
                "phrase": "Coke can",
                "start": 9,
                "end": 17,
                "query": "red can of soda",
                "kind": "object",
            }
        ],
    }


def test_schema_has_the_fields_and_names_of_the_code():
    schema = json.loads(files("ilv_dataset.schemas").joinpath("phrases.v1.json").read_text())
    encoded = encode_parsed(parse_instruction("lift the mug"))
    phrase = schema["properties"]["objects"]["items"]
    for described, value in ((schema, encoded), (phrase, encoded["objects"][0])):
        assert described["required"] == list(value)
        assert list(described["properties"]) == list(value)
    assert tuple(phrase["properties"]["kind"]["enum"]) == fields.KINDS
