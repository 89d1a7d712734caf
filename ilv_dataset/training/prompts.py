"""What a detector is asked in training, and what is true: names that are there and that are not.

A box answers to every prompt that is true of it: its name, its noun, its colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from ilv_dataset.models.word_text import encode_words

_DROPPED_SHARE = 0.1  # of the names that are there are not asked
_RANDOM_SHARE = 0.25  # of the names that are not there share nothing on purpose


@dataclass(frozen=True)
class Vocabulary:
    """All words of the simulation, and which pairs of them a training may name."""

    nouns: tuple[str, ...]
    colours: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]  # (colour, noun), without those that are held out
    alike: tuple[frozenset[str], ...] = ()  # nouns that people use for each other

    def confused_with(self, noun: str) -> frozenset[str]:
        """Nouns that may not be called absent where `noun` is there, itself among them."""
        return frozenset({noun}).union(*(group for group in self.alike if noun in group))


@dataclass(frozen=True, eq=False)
class Prompts:
    """The prompts of one picture: P names, then every noun and every colour."""

    features: np.ndarray  # (P + W, DIMS) float32
    truth: np.ndarray  # (N, P + W) bool: prompt p is true of thing n
    is_asked: np.ndarray  # (P + W,) bool: whether it is known what p is true of


class PromptSampler:
    """Draws the prompts of pictures; encodes each name of the vocabulary once."""

    def __init__(self, vocabulary: Vocabulary, *, num_names: int) -> None:
        self.vocabulary, self.num_names = vocabulary, num_names
        self._pairs = frozenset(vocabulary.pairs)
        texts = [*vocabulary.nouns, *vocabulary.colours, *map(" ".join, vocabulary.pairs)]
        self._features = dict(zip(texts, encode_words(texts), strict=True))
        words = [*vocabulary.nouns, *vocabulary.colours]
        self._word_features = np.stack([self._features[word] for word in words])

    def draw(
        self,
        nouns: Sequence[str],
        colours: Sequence[str],
        hidden: Sequence[tuple[str, str]],
        rng: np.random.Generator,
        *,
        has_colours: bool = True,
    ) -> Prompts:
        """Prompts for N things that are seen, (nouns[n], colours[n]).

        Args:
            hidden: (colour, noun) of things too little of which is seen: their names are not asked;
                their nouns and colours are, and are not true of what is seen.
            has_colours: False where nobody knows the things' colours; then only nouns are asked,
                and names of nouns that are not there.
        """
        there = list(zip(colours, nouns, strict=True))
        asked = [pair for pair in dict.fromkeys(there) if rng.random() >= _DROPPED_SHARE]
        asked = [pair for pair in asked if pair not in hidden]
        absent = self._draw_absent([*there, *hidden], self.num_names - len(asked), rng)
        # A vocabulary of few names is asked for some of them twice.
        names = list(islice(cycle(asked + absent), self.num_names))
        rows = np.stack([self._features[" ".join(pair)] for pair in names])
        words = [[n == noun for n in self.vocabulary.nouns] for noun in nouns]
        tints = [[c == colour for c in self.vocabulary.colours] for colour in colours]
        named = [[pair == name for name in names] for pair in there]
        truth = np.array([n + w + t for n, w, t in zip(named, words, tints, strict=True)], bool)
        truth = truth.reshape(len(there), self.num_names + len(self._word_features))
        # Whether a mug is a cup nobody knows: where one is there, the other is not asked.
        alike = {other for noun in nouns for other in self.vocabulary.confused_with(noun)}
        is_noun_asked = [n not in alike or n in nouns for n in self.vocabulary.nouns]
        is_asked = np.ones(truth.shape[1], bool)
        is_asked[self.num_names : -len(self.vocabulary.colours)] = is_noun_asked
        if not has_colours:
            present = {noun for _, noun in [*there, *hidden]}
            confused = {other for noun in present for other in self.vocabulary.confused_with(noun)}
            is_asked[: self.num_names] = [noun not in confused for _, noun in names]
            is_asked[-len(self.vocabulary.colours) :] = False
            truth &= is_asked
        return Prompts(np.concatenate([rows, self._word_features]), truth, is_asked)

    def _draw_absent(
        self, there: Sequence[tuple[str, str]], count: int, rng: np.random.Generator
    ) -> list[tuple[str, str]]:
        """Names of no thing that is there: most share a noun, a colour, or one of each."""
        banned = {
            (colour, other)
            for colour, noun in there
            for other in self.vocabulary.confused_with(noun)
        }
        chosen: dict[tuple[str, str], None] = {}
        pairs, nouns, colours = (
            self.vocabulary.pairs, self.vocabulary.nouns, self.vocabulary.colours
        )  # fmt: skip
        for _ in range(20 * count):
            if len(chosen) >= count:
                break
            pair = pairs[int(rng.integers(len(pairs)))]
            if there and rng.random() >= _RANDOM_SHARE:
                anchor, other = (there[int(rng.integers(len(there)))] for _ in range(2))
                style = int(rng.integers(3))
                if style == 0:
                    pair = (anchor[0], nouns[int(rng.integers(len(nouns)))])
                elif style == 1:
                    pair = (colours[int(rng.integers(len(colours)))], anchor[1])
                else:
                    pair = (anchor[0], other[1])
            if pair in self._pairs and pair not in banned:
                chosen[pair] = None
        return list(chosen)


def vocabulary_of(pairs: Sequence[tuple[str, str]]) -> Vocabulary:
    """The words of the pairs that occur in training; others are never named, even as absent."""
    from ilv_dataset.simulation.vocabulary import ALIKE

    return Vocabulary(
        nouns=tuple(sorted({noun for _, noun in pairs})),
        colours=tuple(sorted({colour for colour, _ in pairs})),
        pairs=tuple(sorted(pairs)),
        alike=ALIKE,
    )
