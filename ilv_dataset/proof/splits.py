"""Which objects a policy learns with and which it never sees, chosen by SHA-256 of their names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from ilv_dataset.simulation.textures import TABLE_KINDS
from ilv_dataset.simulation.vocabulary import NOUNS

Pair = tuple[str, str]  # colour, noun

# Of 50 nouns, 10 are kept for the tests; of the colours of each other noun, a quarter.
NUM_UNSEEN_NOUNS = 10
UNSEEN_COLOUR_SHARE = 0.25
SEEN_COLOURS_MIN = 1
# Tables of the tests with unseen surroundings.
UNSEEN_TABLES = ("checks", "marble")
SEEN_TABLES = tuple(kind for kind in TABLE_KINDS if kind not in UNSEEN_TABLES)


def _order(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def choose_unseen_nouns() -> tuple[str, ...]:
    """The nouns of test (c), in the order of their names' SHA-256."""
    return tuple(sorted(NOUNS, key=_order)[:NUM_UNSEEN_NOUNS])


def split_colours(noun: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The colours in which a noun is seen in training, and those kept for test (b)."""
    colours = NOUNS[noun].colours
    ordered = sorted(colours, key=lambda colour: _order(f"{colour} {noun}"))
    kept = min(round(UNSEEN_COLOUR_SHARE * len(colours)), len(colours) - SEEN_COLOURS_MIN)
    return tuple(ordered[kept:]), tuple(ordered[:kept])


UNSEEN_NOUNS = choose_unseen_nouns()
SEEN_NOUNS = tuple(noun for noun in NOUNS if noun not in UNSEEN_NOUNS)
SEEN_COLOURS: Mapping[str, tuple[str, ...]] = {n: split_colours(n)[0] for n in SEEN_NOUNS}
UNSEEN_COLOURS: Mapping[str, tuple[str, ...]] = {n: split_colours(n)[1] for n in SEEN_NOUNS}
