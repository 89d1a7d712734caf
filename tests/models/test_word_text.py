"""The text encoder without weights: which phrases mean the same, and how features compose."""

import hashlib

import numpy as np
import pytest

from ilv_dataset.models import word_text
from ilv_dataset.models.word_text import DIMS, content_words, encode_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("red mug", ("mug", "red")),
        ("The RED mugs", ("mug", "red")),
        ("a mug that is red", ("mug", "red")),
        ("red-coloured mug", ("mug", "red")),
        ("one of the red mugs on the left", ("mug", "red")),
        ("gray knives", ("grey", "knife")),
        ("can of soda", ("can", "soda")),
        ("the little ball", ("ball",)),  # see word_sizes
        ("the left one", ("left", "one", "the")),  # nothing else is said of it
        ("", ("",)),
        ("!?", ("!?",)),
        ("赤い マグ", ("マグ", "赤い")),
    ],
)
def test_content_words_are_those_that_say_what_a_thing_is(text, words):
    assert content_words(text) == words


def test_wordings_of_one_name_have_the_same_feature():
    plain, *others = encode_words(["red mug", "the red mugs", "A MUG that is Red", "mug, red"])
    for other in others:
        np.testing.assert_array_equal(plain, other)


def test_features_are_unit_vectors_of_any_phrase():
    features = encode_words(["red mug", "", "x" * 500, " ".join(f"word{n}" for n in range(100))])
    assert features.shape == (4, DIMS)
    assert features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    assert encode_words([]).shape == (0, DIMS)


def test_a_name_lies_between_its_words():
    name, colour, noun, other = encode_words(["red mug", "red", "mug", "blue"])
    halves = (colour + noun) / np.linalg.norm(colour + noun)
    np.testing.assert_allclose(name, halves, atol=1e-6)
    assert name @ colour == pytest.approx(0.707, abs=0.04)
    assert abs(name @ other) < 0.15


def test_the_colour_weighs_as_much_as_all_words_of_the_noun():
    feature, colour, noun = encode_words(["red toy car", "red", "toy car"])
    assert feature @ colour == pytest.approx(float(feature @ noun), abs=1e-5)


def test_a_misspelt_word_lies_near_its_own():
    right, wrong, other = encode_words(["strawberry", "strawbery", "screwdriver"])
    assert right @ wrong > 0.1 > right @ other


def test_features_never_change():
    """Weights are trained on them: another digest needs another `word_text.NAME`."""
    signs = encode_words(["red mug", "wooden spoon"]) > 0
    assert hashlib.sha256(np.packbits(signs).tobytes()).hexdigest()[:16] == "f46d9328c6f939d6"


def test_a_phrase_is_encoded_once():
    encode_words(["an unheard of phrase"])
    num_encoded = word_text._encode_phrase.cache_info().misses
    encode_words(["an unheard of phrase"] * 2)
    assert word_text._encode_phrase.cache_info().misses == num_encoded
