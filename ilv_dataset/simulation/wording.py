"""Instructions in words: many ways to say a task, each naming its things unambiguously.

The noun is always the vocabulary's own; colour and size are said where something else on the
table has the same noun, and otherwise now and then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ilv_dataset.simulation.scenes import Thing
from ilv_dataset.simulation.vocabulary import MASS_NOUNS

# {a} is what moves, {b} where it goes.
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "into": (
        "put {a} in {b}",
        "put {a} into {b}",
        "put {a} inside {b}",
        "place {a} in {b}",
        "place {a} into {b}",
        "place {a} inside {b}",
        "move {a} into {b}",
        "move {a} to the inside of {b}",
        "drop {a} in {b}",
        "drop {a} into {b}",
        "pick up {a} and put it in {b}",
        "pick up {a} and place it in {b}",
        "pick {a} and drop it into {b}",
        "take {a} and put it into {b}",
        "grab {a} and place it inside {b}",
        "lift {a} and put it in {b}",
    ),
    "onto": (
        "put {a} on {b}",
        "put {a} onto {b}",
        "put {a} on top of {b}",
        "place {a} on {b}",
        "place {a} onto {b}",
        "place {a} on top of {b}",
        "set {a} on {b}",
        "move {a} onto {b}",
        "move {a} on top of {b}",
        "pick up {a} and put it on {b}",
        "pick up {a} and set it on {b}",
        "take {a} and put it on top of {b}",
        "grab {a} and place it on {b}",
        "lift {a} and place it onto {b}",
    ),
    "beside": (
        "put {a} next to {b}",
        "put {a} beside {b}",
        "put {a} near {b}",
        "place {a} next to {b}",
        "place {a} beside {b}",
        "place {a} close to {b}",
        "set {a} next to {b}",
        "set {a} beside {b}",
        "move {a} next to {b}",
        "move {a} near {b}",
        "pick up {a} and put it next to {b}",
        "pick up {a} and place it beside {b}",
        "take {a} and set it near {b}",
    ),
    "dragged": (
        "push {a} next to {b}",
        "push {a} over to {b}",
        "slide {a} next to {b}",
        "slide {a} beside {b}",
        "pull {a} next to {b}",
        "drag {a} over to {b}",
        "move {a} close to {b}",
    ),
}
# Articles of {a} and {b}, and how often: most people say "the", many say nothing.
ARTICLES = ((("the", "the"), 0.62), (("", ""), 0.24), (("the", "a"), 0.07), (("a", "the"), 0.07))
COLOUR_SHARE = 0.5  # of the things whose colour need not be said
NATURAL_COLOUR_SHARE = 0.15  # the same for what has but one colour: few say "orange carrot"
SENTENCE_SHARE = 0.15  # with a capital and a full stop
POLITE_SHARE = 0.05


def word_task(
    manner: str, mover: int, target: int, things: Sequence[Thing], rng: np.random.Generator
) -> str:
    """One instruction; `manner` is a key of TEMPLATES, the numbers are rows of `things`."""
    templates = TEMPLATES[manner]
    template = templates[int(rng.integers(len(templates)))]
    articles = [pair for pair, _ in ARTICLES]
    first, second = articles[int(rng.choice(len(ARTICLES), p=[share for _, share in ARTICLES]))]
    text = template.format(
        a=name_thing(mover, things, article=first, says_colour=_likes_colour(things[mover], rng)),
        b=name_thing(
            target, things, article=second, says_colour=_likes_colour(things[target], rng)
        ),
    )
    style = float(rng.random())
    if style < SENTENCE_SHARE:
        return text[0].upper() + text[1:] + "."
    return f"please {text}" if style < SENTENCE_SHARE + POLITE_SHARE else text


def name_thing(
    index: int, things: Sequence[Thing], *, article: str = "", says_colour: bool = False
) -> str:
    """The noun phrase of one thing, with as many adjectives as tell it from the others.

    >>> name_thing(0, [Thing("mug", "red"), Thing("mug", "blue")], article="the")
    'the red mug'
    """
    thing = things[index]
    twins = [other for row, other in enumerate(things) if row != index and other.noun == thing.noun]
    words = [thing.noun]
    if says_colour or any(twin.colour != thing.colour for twin in twins):
        words.insert(0, thing.colour)
    if any(twin.colour == thing.colour for twin in twins):
        words.insert(0, thing.size)
    if article == "a":
        article = _indefinite(words)
    return " ".join([article, *words] if article else words)


def _indefinite(words: Sequence[str]) -> str:
    if words[-1] in MASS_NOUNS:
        return ""
    return "an" if words[0][0] in "aeiou" else "a"


def _likes_colour(thing: Thing, rng: np.random.Generator) -> bool:
    share = NATURAL_COLOUR_SHARE if len(thing.kind.colours) == 1 else COLOUR_SHARE
    return bool(rng.random() < share)
