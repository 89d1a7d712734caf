"""A text encoder without weights: phrases into unit vectors made of their words.

It takes CLIP's place beside the embedded YOLO-World. Synonyms have different vectors; what it
gives is that any phrase has a feature, and that "green mug" lies between "green" and "mug".
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence

import numpy as np

from ilv_dataset.lexicon import singular
from ilv_dataset.matching import load_synonyms

NAME = "words-v1"  # changes whenever a feature may change: weights are trained on one encoder
DIMS = 512  # Source: CLIP ViT-B/32, so that YOLO-World's layers have the published shapes
# Source: ours; subwords keep a misspelt word near its own, and at full weight confuse jug and mug.
_SUBWORD_WEIGHT = 0.5
_SUBWORD_CHARS = 3
_WORD = re.compile(r"[^\W_]+")
_FILLERS = frozenset(
    ("is", "are", "was", "be", "being", "which", "who", "has", "have", "having", "for", "as", "and",
     "or", "there", "here", "kind", "sort", "type", "shape", "shaped", "color", "colour", "colored",
     "coloured")
)  # fmt: skip
# Kept in memory, 4 kB a word and 2 kB a phrase.
_WORDS_MAX, _PHRASES_MAX = 1 << 14, 1 << 14


def encode_words(texts: Sequence[str]) -> np.ndarray:
    """Encodes N phrases into (N, DIMS) float32 of length 1; the same on every machine.

    Articles, fillers, places ("left") and sizes count for nothing, nor do plural endings, letter
    case and the order of words. Colour words together weigh as much as all other words together.
    """
    return np.stack([_encode_phrase(text) for text in texts]) if texts else _no_features()


def content_words(text: str) -> tuple[str, ...]:
    """The distinct words of a phrase that say what a thing is, sorted; all if none does.

    >>> content_words("A mug that is RED"), content_words("the gray soda cans")
    (('mug', 'red'), ('can', 'grey', 'soda'))
    """
    synonyms = load_synonyms()
    words = _WORD.findall(text.lower()) or [text.strip().lower()]
    spelled = {singular(synonyms.spellings.get(word, word)) for word in words}
    groups = (synonyms.words[name] for name in ("ignored", "place", "size"))
    dropped = _FILLERS.union(*groups)
    return tuple(sorted(spelled - dropped or spelled))


@functools.lru_cache(maxsize=_PHRASES_MAX)
def _encode_phrase(text: str) -> np.ndarray:
    words, colors = content_words(text), load_synonyms().words["color"]
    parts = (
        [_word_vector(word) for word in words if word in colors],
        [_word_vector(word) for word in words if word not in colors],
    )
    sums = [_unit(np.sum(part, axis=0)) for part in parts if part]
    return _unit(np.sum(sums, axis=0)).astype(np.float32)


@functools.lru_cache(maxsize=_WORDS_MAX)
def _word_vector(word: str) -> np.ndarray:
    """(DIMS,) float64 of length 1: the word's own direction and those of its subwords."""
    marked = f"<{word}>"
    stops = range(_SUBWORD_CHARS, len(marked) + 1)
    subwords = sorted({marked[stop - _SUBWORD_CHARS : stop] for stop in stops})
    vector = _direction(f"word {word}")
    if subwords:
        together = np.sum([_direction(f"subword {subword}") for subword in subwords], axis=0)
        vector = vector + _SUBWORD_WEIGHT * _unit(together)
    return _unit(vector)


def _direction(key: str) -> np.ndarray:
    """(DIMS,) float64 of length 1 whose signs are the bits of the key's hash."""
    digest = hashlib.shake_256(key.encode()).digest(DIMS // 8)
    bits = np.unpackbits(np.frombuffer(digest, np.uint8))
    return (bits * 2.0 - 1.0) / np.sqrt(DIMS)


def _unit(vector: np.ndarray) -> np.ndarray:
    # Sums of distinct random directions are never 0.
    return np.asarray(vector / np.linalg.norm(vector))


def _no_features() -> np.ndarray:
    return np.zeros((0, DIMS), np.float32)
