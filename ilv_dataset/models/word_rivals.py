"""Lets the words that weights were trained on compete for a place: a cup is no mug, though alike.

A detector scores each phrase by itself, and two names may both score high where one thing lies.
Where the weights know a phrase's words, their rivals are scored too, and a place at which another
noun or another colour is likelier speaks against the phrase.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ilv_dataset.models.word_text import content_words

_SCORE_MIN = 1e-6  # keeps logits finite


@dataclass(frozen=True, slots=True)
class Rivals:
    """The nouns and the colours of a training, and what their rivalry is worth."""

    nouns: tuple[str, ...]
    colours: tuple[str, ...]
    weight: float = 0.0  # of the log of a word's share among its rivals
    shift: float = 0.0  # added to the logit of all scores

    def __post_init__(self) -> None:
        if not (np.isfinite(self.weight) and np.isfinite(self.shift) and self.weight >= 0):
            raise ValueError(f"weight and shift must be finite, weight not negative, got {self}")

    @property
    def words(self) -> tuple[str, ...]:
        """All nouns, then all colours."""
        return (*self.nouns, *self.colours)

    def claims(self, text: str) -> tuple[int | None, int | None]:
        """Which noun and which colour a phrase means; None for what is no word of the training.

        >>> Rivals(("cup", "soda can"), ("blue", "red")).claims("the RED cups")
        (0, 1)
        """
        words = set(content_words(text))
        colours = [row for row, colour in enumerate(self.colours) if colour in words]
        others = words - set(self.colours)
        nouns = [row for row, noun in enumerate(self.nouns) if set(content_words(noun)) == others]
        return (nouns[0] if nouns else None, colours[0] if len(colours) == 1 else None)

    def judge(
        self, scores: np.ndarray, word_scores: np.ndarray, texts: Sequence[str]
    ) -> np.ndarray:
        """The scores (Q, A) of phrases at A places, after the words' rivalry.

        Args:
            scores: (Q, A) of the phrases by themselves, 0..1.
            word_scores: (W, A) of `words`, 0..1.
        """
        logits = _logits(scores) + self.shift
        groups = np.split(_logits(word_scores), [len(self.nouns)])
        shares = [group - np.logaddexp.reduce(group, axis=0) for group in groups if len(group)]
        for row, text in enumerate(texts):
            for claim, share in zip(self.claims(text), shares, strict=True):
                if claim is not None:
                    logits[row] += self.weight * share[claim]
        judged: np.ndarray = 1 / (1 + np.exp(-logits))
        return judged.astype(np.float32)


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
    return Rivals(nouns, colours, float(stored["weight"]), float(stored["shift"]))


def _logits(scores: np.ndarray) -> np.ndarray:
    clipped = np.clip(scores.astype(np.float64), _SCORE_MIN, 1 - _SCORE_MIN)
    return np.log(clipped / (1 - clipped))
