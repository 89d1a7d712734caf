"""The grammar on hand-made sentences, on gold sets, and on any text at all."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ilv_dataset import fields
from ilv_dataset.grammar import parse_instruction
from ilv_dataset.lexicon import find_role, is_misspelt_verb, load_lexicon, singular, split_glued
from ilv_dataset.phrases import PhraseScore, score_phrases
from ilv_dataset.words import read_words

OWN_GOLD = Path(__file__).parent / "data" / "phrases_other_styles.jsonl"


def find(instruction: str) -> list[str]:
    return [found.phrase for found in parse_instruction(instruction).objects]


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("put the apple and the pear in it", ["apple", "pear"]),
        ("put pot or pan on stove", ["pot or pan", "stove"]),
        (
            "put cup from counter or drying rack into sink",
            ["cup", "counter", "drying rack", "sink"],
        ),
        ("put the red and white object on the cloth", ["red and white object", "cloth"]),
        ("bring the red, green and blue blocks", ["red, green and blue blocks"]),
        ("place the yellow toy on the cloth and fork", ["yellow toy", "cloth", "fork"]),
        ("put the pot on the plate and the pot in the pot", ["pot", "plate", "pot", "pot"]),
        ("take the bag of chips", ["bag of chips"]),
        ("take the lid of the pot", ["lid", "pot"]),
        ("pick can from top shelf of fridge", ["can", "top shelf of fridge"]),
        ("open the bottom drawer of the cabinet", ["bottom drawer", "cabinet"]),
    ],
)
def test_coordination_and_of(instruction, expected):
    assert find(instruction) == expected


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("move the pot to the lower left corner of the table", ["pot", "table"]),
        ("move it to the right table edge", ["table"]),
        ("put the cup on the left plate", ["cup", "left plate"]),
        ("place blue spoon top of blue cloth", ["blue spoon", "blue cloth"]),
        ("move the can to behind the pot", ["can", "pot"]),
        ("put it partly on the green object's left side", ["green object"]),
        ("place the cup near to the handle of the robot", ["cup", "robot"]),
        ("grasp the handle of the mug", ["handle", "mug"]),
        ("turn faucet front to left", ["faucet"]),
        ("put it on the table surface", ["table"]),
        ("put it on the flat surface", ["flat surface"]),
        ("put the blocks in a vertical line", ["blocks"]),
        ("cut the carrot into slices", ["carrot"]),
    ],
)
def test_places_are_no_phrases_unless_they_tell_things_apart(instruction, expected):
    assert find(instruction) == expected


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("brush the brush with the brush", ["brush", "brush"]),
        ("open the open box", ["open box"]),
        ("press the push button", ["push button"]),
        ("slide cloth in front of bowl pick it up then drop", ["cloth", "bowl"]),
        ("put the cup sitting on the tray on the cutting board", ["cup", "tray", "cutting board"]),
        ("take the folded towel and the mug placed on the mat", ["folded towel", "mug", "mat"]),
        ("could you pick up the can so you can see it", ["can"]),
        ("squanch the towel", ["towel"]),
        ("plave spoon on plate", ["spoon", "plate"]),
        ("the grip is firm, keep a firm hold on the mug", ["mug"]),
        ("move your arm to the red star", ["red star"]),
    ],
)
def test_verbs_and_nouns_of_one_form(instruction, expected):
    assert find(instruction) == expected


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("take spoon out of bowl sink", ["spoon", "bowl", "sink"]),
        ("put it in pot cardboardfence", ["pot"]),
        ("flip pot upright in sink distractors", ["pot", "sink"]),
        ("put it behind the cardboard fence", ["cardboard fence"]),
        ("close small4fbox flaps", ["small4fbox"]),
        ("turn faucet left 56", ["faucet"]),
        ("twist knob start vertical clockwise90", ["knob"]),
        ("putthe carrot in thepot.Then stop", ["carrot", "pot"]),
        ("PUT THE RED APPLE IN THE BASKET!", ["RED APPLE", "BASKET"]),
        ("pick_up_the_black_bowl", ["black_bowl"]),
        ("pick the 2 cups and the 7up can", ["cups", "7up can"]),
        ("place it next to/across from the pot", ["pot"]),
        ("move the \u201cCoke\u201d can to the 'red' bin", ["\u201cCoke\u201d can", "'red' bin"]),
        ("lift the dog\u2019s bowl", ["dog\u2019s bowl"]),
        ("put the cr\u00e8me br\u00fbl\u00e9e down", ["cr\u00e8me br\u00fbl\u00e9e"]),
        ("\u80e1\u841d\u535c: put the carrot on plate", ["carrot", "plate"]),
    ],
)
def test_noise_of_the_writers(instruction, expected):
    assert find(instruction) == expected


def test_offsets_are_code_points_of_the_instruction():
    parsed = parse_instruction("\U0001f600 put the mug on it")
    assert parsed.text == parsed.instruction == "\U0001f600 put the mug on it"
    assert [(found.start, found.end) for found in parsed.objects] == [(10, 13)]


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("", "empty-instruction"),
        (" \n\t\u3000", "empty-instruction"),
        ("not moving anything", "no-object-phrase"),
        ("go to the home position", "no-object-phrase"),
        ("?!", "no-object-phrase"),
        ("put <image> on the plate", "placeholder-in-instruction"),
    ],
)
def test_rejected_with_a_reason(instruction, reason):
    parsed = parse_instruction(instruction)
    assert (parsed.status, parsed.reason, parsed.objects) == ("rejected", reason, ())
    assert parsed.reason in fields.REJECTED_REASONS


def test_parsed_row_says_who_parsed_it():
    parsed = parse_instruction("lift bowl")
    assert (parsed.status, parsed.reason, parsed.extractor) == ("parsed", "", "grammar")
    assert (parsed.model, parsed.prompt_digest, parsed.tokens_in) == ("", "", 0)


@pytest.mark.parametrize(
    ("phrase", "kind"),
    [
        ("coke can", "object"),
        ("unheard-of gizmo", "object"),
        ("white bowls", "container"),
        ("pot or pan", "container"),
        ("cup of tea", "container"),
        ("wooden table", "surface"),
        ("middle drawer", "fixture"),
        ("washing machine", "fixture"),
        ("measuring spoon", "tool"),
    ],
)
def test_kind_is_that_of_the_head(phrase, kind):
    (found,) = parse_instruction(f"look at the {phrase}").objects
    assert (found.phrase, found.kind) == (phrase, kind)


def score_file(path: Path) -> PhraseScore:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert rows
    return score_phrases(
        {row["instruction"]: set(find(row["instruction"])) for row in rows},
        {row["instruction"]: set(row["objects"]) for row in rows},
        neutral={row["instruction"]: set(row.get("surfaces", ())) for row in rows},
    )


@pytest.mark.parametrize("dataset", ["bridge", "rt1"])
def test_score_on_gold_phrases(shared_data, dataset):
    path = shared_data / "gold" / f"{dataset}_instructions.dev.jsonl"
    if not path.exists():
        pytest.skip(f"needs {path.name} in shared/data/gold")
    score = score_file(path)
    assert score.f1 >= 0.97, score.misses


def test_score_on_the_styles_of_other_datasets():
    score = score_file(OWN_GOLD)
    assert score.num_gold > 600
    assert score.f1 >= 0.95, score.misses


def check_parsed(text: str) -> None:
    parsed = parse_instruction(text)
    assert (parsed.status == "parsed") == bool(parsed.objects)
    end = 0
    for found in parsed.objects:
        assert end <= found.start < found.end
        assert text[found.start : found.end] == found.phrase
        assert found.query
        assert found.kind in fields.KINDS
        end = found.end


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_parsed(text):
    check_parsed(text)


SOUP = st.sampled_from(
    [
        *sorted(load_lexicon().roles)[::29],
        *sorted(load_lexicon().kinds)[::29],
        *(
            "of",
            "or",
            "and",
            "the",
            "red",
            "pot",
            "sink",
            "left",
            "flaps",
            "dog's",
            "s'",
            "T-shirt",
        ),
        *(
            ",",
            ".",
            "/",
            "'",
            '"',
            "\u201c",
            "\u2019",
            "\n",
            "-",
            "_",
            "4",
            "\u0130",
            "\u00df\u0301",
        ),
    ]
)


@settings(max_examples=300)
@given(st.lists(SOUP, max_size=30), st.sampled_from([" ", "", "  ", "'", '"']))
def test_any_soup_of_known_words_is_parsed(words, glue):
    check_parsed(glue.join(words))


@pytest.mark.parametrize(
    "unit",
    [
        "red ",
        "red and ",
        "cup of ",
        "pot or ",
        "left ",
        "the ",
        "cup red ",
        "a-",
        "a'",
        'a"',
        "\u0300",
    ],
)
def test_long_texts_take_no_time(unit):
    text = (unit * 100_000)[:100_000]
    started = time.perf_counter()
    check_parsed(text)
    # About 0.2 s here; quadratic time would be minutes.
    assert time.perf_counter() - started < 10


def test_read_words_decides_roles_by_the_neighbours():
    roles = [word.role.name for word in read_words("Clean the clean cup")]
    assert roles == ["VERB", "DETERMINER", "ADJECTIVE", "NOUN"]


def test_find_role_of_words_that_no_list_has():
    names = {word: find_role(word).name for word in ("gizmo", "deftly", "42", "x", "kindness")}
    assert names == {
        "gizmo": "NOUN",
        "deftly": "ADVERB",
        "42": "NUMBER",
        "x": "ADVERB",
        "kindness": "ABSTRACT",
    }
    assert [find_role(word).name for word in ("moving", "grabbed", "carries")] == [
        "GERUND",
        "PARTICIPLE",
        "VERB",
    ]


@pytest.mark.parametrize(
    ("plural", "expected"),
    [
        ("cups", "cup"),
        ("berries", "berry"),
        ("cookies", "cookie"),
        ("boxes", "box"),
        ("dishes", "dish"),
        ("potatoes", "potato"),
        ("knives", "knife"),
        ("glasses", "glass"),
        ("glass", "glass"),
        ("asparagus", "asparagus"),
        ("scissors", "scissors"),
        ("bus", "bus"),
        ("", ""),
    ],
)
def test_singular(plural, expected):
    assert singular(plural) == expected


def test_split_glued_leaves_words_alone():
    assert [split_glued(word) for word in ("onplate", "toaster", "tomato", "theory")] == [
        2,
        0,
        0,
        0,
    ]


def test_is_misspelt_verb():
    assert [is_misspelt_verb(word) for word in ("plave", "remvoe", "plate", "gizmo")] == [
        True,
        True,
        False,
        False,
    ]
