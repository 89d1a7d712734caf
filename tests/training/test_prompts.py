"""What is asked in training: true names, absent ones that confuse, and never a held-out one."""

import numpy as np
import pytest

from ilv_dataset.models.word_text import encode_words
from ilv_dataset.training.prompts import PromptSampler, Vocabulary

NOUNS, COLOURS = ("ball", "cup", "mug", "pot"), ("blue", "red")
PAIRS = tuple(
    (colour, noun) for colour in COLOURS for noun in NOUNS if (colour, noun) != ("red", "pot")
)
WORDS = Vocabulary(NOUNS, COLOURS, PAIRS, (frozenset({"cup", "mug"}),))


def names_in(prompts, count: int) -> list[str]:
    """The names whose features the first prompts are."""
    texts = [" ".join(pair) for pair in PAIRS] + ["red pot"]
    features = encode_words(texts)
    return [texts[int((features @ row).argmax())] for row in prompts.features[:count]]


@pytest.mark.parametrize("seed", range(10))
def test_truth_says_which_prompts_hold_for_which_thing(seed):
    sampler = PromptSampler(WORDS, num_names=4)
    prompts = sampler.draw(("mug", "ball"), ("red", "red"), (), np.random.default_rng(seed))
    assert prompts.features.shape == (4 + 4 + 2, 512)
    names = names_in(prompts, 4)
    assert prompts.truth[:, :4].tolist() == [
        [name == "red mug" for name in names],
        [name == "red ball" for name in names],
    ]
    assert prompts.truth[:, 4:].tolist() == [
        [False, False, True, False, False, True],  # ball cup mug pot, blue red
        [True, False, False, False, False, True],
    ]
    np.testing.assert_array_equal(prompts.features[4:], encode_words([*NOUNS, *COLOURS]))


def test_absent_names_are_true_of_nothing_and_may_not_be_the_same_by_another_word():
    sampler = PromptSampler(WORDS, num_names=6)
    drawn = set()
    for seed in range(40):
        prompts = sampler.draw(("mug",), ("red",), (("blue", "ball"),), np.random.default_rng(seed))
        drawn |= set(names_in(prompts, 6))
    assert "red mug" in drawn
    assert "blue mug" in drawn
    assert not drawn & {"red cup", "blue ball", "red pot"}


def test_a_name_that_is_there_is_left_out_now_and_then():
    sampler = PromptSampler(WORDS, num_names=3)
    asked = [
        prompts.truth[0, :3].any()
        for prompts in (
            sampler.draw(("mug",), ("red",), (), np.random.default_rng(seed)) for seed in range(300)
        )
    ]
    assert 0.84 <= np.mean(asked) <= 0.96


def test_a_picture_without_things_has_prompts_too():
    prompts = PromptSampler(WORDS, num_names=3).draw((), (), (), np.random.default_rng(0))
    assert prompts.features.shape == (9, 512)
    assert prompts.truth.shape == (0, 9)


def test_where_colours_are_unknown_only_what_no_colour_can_change_is_asked():
    sampler = PromptSampler(WORDS, num_names=7)
    prompts = sampler.draw(
        ("mug",), ("red",), (("blue", "ball"),), np.random.default_rng(0), has_colours=False
    )
    names = names_in(prompts, 7)
    assert prompts.is_asked[:7].tolist() == [name.endswith("pot") for name in names]
    assert prompts.is_asked[7:].tolist() == [True, False, True, True] + [False] * 2  # no cup
    assert prompts.truth[:, 7:].tolist() == [[False, False, True, False, False, False]]
    assert not prompts.truth[:, :7].any()


@pytest.mark.parametrize(
    ("nouns", "unasked"),
    [
        (("mug",), ["cup"]),
        (("ball", "cup"), ["mug"]),
        (("cup", "mug"), []),  # each is known not to be the other where both are there
        (("pot",), []),
        ((), []),
    ],
)
def test_no_thing_is_called_false_what_people_also_call_it(nouns, unasked):
    sampler = PromptSampler(WORDS, num_names=3)
    prompts = sampler.draw(nouns, ("blue",) * len(nouns), (), np.random.default_rng(0))
    asked = dict(zip(("", "", "", *NOUNS, *COLOURS), prompts.is_asked.tolist(), strict=True))
    assert [word for word, is_asked in asked.items() if not is_asked] == unasked
