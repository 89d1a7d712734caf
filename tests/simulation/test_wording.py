import numpy as np
import pytest

from ilv_dataset.grammar import parse_instruction
from ilv_dataset.simulation.scenes import Thing
from ilv_dataset.simulation.wording import TEMPLATES, name_thing, word_task

RED_MUG, BLUE_MUG, BOWL = Thing("mug", "red"), Thing("mug", "blue"), Thing("bowl", "orange")
SMALL, LARGE = Thing("ball", "red", 0.7, "small"), Thing("ball", "red", 1.0, "large")


def test_colour_is_said_where_another_has_the_noun():
    assert name_thing(0, [RED_MUG, BOWL], article="the") == "the mug"
    assert name_thing(0, [RED_MUG, BLUE_MUG], article="the") == "the red mug"
    assert name_thing(0, [RED_MUG, BOWL], says_colour=True) == "red mug"


def test_size_is_said_where_another_has_noun_and_colour():
    assert name_thing(0, [SMALL, LARGE], article="the") == "the small ball"
    assert name_thing(1, [SMALL, LARGE, Thing("ball", "blue")]) == "large red ball"


def test_article_follows_the_next_word():
    assert name_thing(0, [BOWL], article="a") == "a bowl"
    assert name_thing(0, [BOWL], article="a", says_colour=True) == "an orange bowl"


def test_what_is_not_counted_has_no_indefinite_article():
    bread = Thing("bread", "brown")
    assert name_thing(0, [bread, BOWL], article="a") == "bread"
    assert name_thing(0, [bread, BOWL], article="the", says_colour=True) == "the brown bread"


def test_word_task_is_varied():
    rng = np.random.default_rng(0)
    texts = {word_task("into", 0, 1, [RED_MUG, BOWL], rng) for _ in range(200)}
    assert len(texts) > 100
    assert all("mug" in text.lower() and "bowl" in text for text in texts)


@pytest.mark.parametrize("manner", TEMPLATES)
def test_grammar_understands_every_template(manner: str):
    for template in TEMPLATES[manner]:
        for article in ("", "the ", "a "):
            text = template.format(a=f"{article}red can", b=f"{article}plate")
            phrases = [phrase.phrase for phrase in parse_instruction(text).objects]
            assert phrases == ["red can", "plate"], text
