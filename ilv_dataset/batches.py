"""Batches of an iterable, in order."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batched(elements: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Tuples of `size` elements, the last shorter; itertools has it from Python 3.12 on.

    >>> list(batched("abc", 2))
    [('a', 'b'), ('c',)]
    """
    iterator = iter(elements)
    while batch := tuple(itertools.islice(iterator, size)):
        yield batch
