"""Lets the words that weights were trained on compete for a place: a cup is no mug, though alike.

A detector scores each phrase by itself, and two names may both score high where one thing lies.
Where the weights know a phrase's words, their rivals are scored too, and a place at which another
noun or another colour is likelier speaks against the phrase.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ilv_dataset.models.word_text import content_words
from ilv_dataset.phrases import head_noun

_SCORE_MIN = 1e-6  # keeps logits finite
_CLAIMS_MAX = 1 << 14  # phrases kept in memory
_WORDS_MAX = 10_000  # that a file may bring: each is scored at each place of each image


@dataclass(frozen=True, slots=True)
class Rivals:
    """The nouns and the colours of a training, and what their rivalry is worth."""

    nouns: tuple[str, ...]
    colours: tuple[str, ...]
    weight: float = 0.0  # of the log of a word's share among its rivals
    shift: float = 0.0  # added to the logit of all scores
    alike: tuple[tuple[str, ...], ...] = ()  # nouns that people use for each other: no rivals

    def __post_init__(self) -> None:
        if len(self.words) > _WORDS_MAX:
            raise ValueError(f"at most {_WORDS_MAX:,} words, got {len(self.words):,}")
        if not (np.isfinite(self.weight) and np.isfinite(self.shift) and self.weight >= 0):
            raise ValueError(f"weight and shift must be finite, weight not negative, got {self}")

    @property
    def words(self) -> tuple[str, ...]:
        """All nouns, then all colours."""
        return (*self.nouns, *self.colours)

    def claims(self, text: str) -> tuple[int | None, int | None]:
        """Which noun and which colour a phrase means; None for what is no word of the training.

        A shiny mug is a mug, and a mug holder is none: beside the noun's own words there may be
        others, but not as the head.

        >>> Rivals(("cup", "soda can"), ("blue", "red")).claims("the shiny RED cups")
        (0, 1)
        """
        return _find_claims(self, text)

    def in_own_words(self, text: str) -> str:
        """A phrase in the words of the training where it means one of its nouns, else unchanged.

        What the training never saw says nothing of the noun's looks, and only spoils its feature.

        >>> Rivals(("cup", "soda can"), ("blue", "red")).in_own_words("the shiny RED cups")
        'red cup'
        """
        noun, _ = self.claims(text)
        if noun is None:
            return text
        words = content_words(text)
        return " ".join([*(each for each in self.colours if each in words), self.nouns[noun]])

    def judge(
        self, scores: np.ndarray, word_scores: np.ndarray, texts: Sequence[str]
    ) -> np.ndarray:
        """The scores (Q, A) of phrases at A places, after the words' rivalry.

        Args:
            scores: (Q, A) of the phrases by themselves, 0..1.
            word_scores: (W, A) of `words`, 0..1.
        """
        logits = np.log(_odds(scores)) + self.shift
        groups = np.split(_odds(word_scores), [len(self.nouns)])
        totals = [group.sum(axis=0) for group in groups]
        for row, text in enumerate(texts):
            noun, colour = self.claims(text)
            if noun is not None:
                total = totals[0]
                if others := self._alike_to(noun):
                    total = np.delete(groups[0], others, axis=0).sum(axis=0)
                logits[row] += self.weight * np.log(groups[0][noun] / total)
            if colour is not None:
                logits[row] += self.weight * np.log(groups[1][colour] / totals[1])
        judged: np.ndarray = 1 / (1 + np.exp(-logits))
        return judged.astype(np.float32)

    def _alike_to(self, noun: int) -> list[int]:
        """Other nouns that may be said of the same thing."""
        name = self.nouns[noun]
        alike = {other for group in self.alike if name in group for other in group} - {name}
        return [row for row, other in enumerate(self.nouns) if other in alike]


@functools.lru_cache(maxsize=_CLAIMS_MAX)
def _find_claims(rivals: Rivals, text: str) -> tuple[int | None, int | None]:
    words = set(content_words(text))
    colours = [row for row, colour in enumerate(rivals.colours) if colour in words]
    others, head = words - set(rivals.colours), head_noun(text)
    fitting = {
        row: len(mine)
        for row, noun in enumerate(rivals.nouns)
        if (mine := set(content_words(noun))) == others or (mine < others and head in mine)
    }
    noun = max(fitting, key=fitting.__getitem__, default=None)
    return noun, colours[0] if len(colours) == 1 else None


def encode_rivals(rivals: Rivals) -> str:
    """As the metadata of weights has them."""
    return json.dumps(asdict(rivals))


def decode_rivals(text: str) -> Rivals:
    """Reads what `encode_rivals` wrote.

    Raises: ValueError, TypeError or KeyError if it is another thing.
    """
    stored = json.loads(text)
    nouns, colours = (tuple(map(str, stored[name])) for name in ("nouns", "colours"))
    if not nouns or not colours:
        raise ValueError("rivals need at least one noun and one colour")
    alike = tuple(tuple(map(str, group)) for group in stored.get("alike", ()))
    return Rivals(nouns, colours, float(stored["weight"]), float(stored["shift"]), alike)


def _odds(scores: np.ndarray) -> np.ndarray:
    """1e-6 to 1e6 for scores of any sort: their logarithms are the logits."""
    clipped = np.clip(scores.astype(np.float64), _SCORE_MIN, 1 - _SCORE_MIN)
    return clipped / (1 - clipped)
