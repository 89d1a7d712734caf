"""Pieces of the lines that people read: counted nouns, lists with an end, commands to type."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

_SHOWN = 5  # of a list that may be long


def count_noun(number: int, noun: str) -> str:
    """A number with its noun.

    >>> count_noun(1, "shard"), count_noun(1200, "shard")
    ('1 shard', '1,200 shards')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def damaged_lines(shards: Sequence[str]) -> list[str]:
    """Names source shards that fetching again may mend; nothing where there is none."""
    if not shards:
        return []
    left = len(shards) - _SHOWN
    return [
        "damaged or missing in the source; once they are fetched again, run the same command:",
        *(f"  {name}" for name in shards[:_SHOWN]),
        *([f"  and {left:,} more"] if left > 0 else []),
    ]


def shorten_list(items: Sequence[str]) -> str:
    """The first of a list that may be long, in one line."""
    rest = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")


def command_line(*arguments: str) -> str:
    """A command of ours as a user may type it: the program as it was called, paths quoted."""
    return shlex.join([sys.argv[0], *arguments])
