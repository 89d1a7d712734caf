"""Checks a model's reply item by item: what is taken from it is true of the instruction.

A reply is data from outside: nothing of it is trusted before it is checked here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ilv_dataset.errors import ReplyError
from ilv_dataset.fields import IMAGE_PLACEHOLDER, KINDS
from ilv_dataset.records import Phrase

QUERY_CHARS_MAX = 100  # Source: ours; CLIP takes 77 tokens, some 300 characters
SUMMARY_CHARS_MAX = 300
_THOUGHT = re.compile(r"\A.*</think>", re.DOTALL)  # what reasoning models write first
_ARTICLE = re.compile(r"\A(?:a|an|the)\s+", re.IGNORECASE)
_REREAD_CHARS_MAX = 1 << 26  # bounds the time that a hostile reply takes to a second or so
_NUMBER = re.compile(r"[0-9]{1,6}")
_DECODER = json.JSONDecoder()


def decode_items(text: str) -> dict[int, Mapping[str, Any]]:
    """The items of a reply by their id, also out of a code fence, of prose, or cut off.

    An id that comes twice counts as missing, for nothing says which of the two is right.

    Raises: ReplyError not-json where there is no item in it.

    >>> decode_items('Sure: {"items": [{"id": 2, "objects": []}, {"id": 1, "obj')
    {2: {'id': 2, 'objects': []}}
    """
    found: dict[int, Mapping[str, Any]] = {}
    twice: set[int] = set()
    for item in _find_items(_THOUGHT.sub("", text)):
        number = int(item["id"])
        if number in found:
            twice.add(number)
        found[number] = item
    if not found:
        raise ReplyError("not-json", f"no item in the reply {text[:80]!r}")
    return {number: item for number, item in found.items() if number not in twice}


def match_phrases(text: str, objects: object) -> tuple[Phrase, ...]:
    """The phrases of one item, found in the text they were asked of, sorted, none overlapping.

    Case and a leading article do not matter; what is kept is what the text has.

    Raises: ReplyError malformed-item, phrase-not-in-text, overlapping-phrases.

    >>> match_phrases("Put Cup near red cup", [
    ...     {"phrase": "the cup", "query": "cup", "kind": "object"},
    ...     {"phrase": "red cup", "query": "red cup", "kind": "object"}])[0].start
    4
    """
    if not isinstance(objects, list):
        raise ReplyError("malformed-item", "objects is not a list")
    items = [_read_object(found) for found in objects]
    phrases: list[Phrase] = []
    # Long ones first: "cup" must not take its place within "red cup".
    for phrase, query, kind in sorted(items, key=lambda item: -len(item[0])):
        places = list(_find_places(text, phrase))
        if not places:
            raise ReplyError("phrase-not-in-text", f"{phrase[:80]!r} is not in the text")
        free = [
            (start, end)
            for start, end in places
            if all(end <= other.start or start >= other.end for other in phrases)
        ]
        if not free:
            raise ReplyError("overlapping-phrases", f"{phrase[:80]!r} is named once too often")
        start, end = free[0]
        phrases.append(Phrase(text[start:end], start, end, query, kind))
    return tuple(sorted(phrases, key=lambda found: found.start))


def check_summary(summary: object) -> str:
    """A summary on one line.

    Raises: ReplyError malformed-item.
    """
    text = " ".join(summary.split()) if isinstance(summary, str) else ""
    if not _is_line(text, SUMMARY_CHARS_MAX):
        raise ReplyError("malformed-item", f"not a summary: {str(summary)[:80]!r}")
    return text


def _find_items(text: str) -> Iterator[dict[str, Any]]:
    """Every JSON object with an integer id, in the order of the text, the outermost first."""
    at, num_reread = text.find("{"), 0
    while at >= 0 and num_reread < _REREAD_CHARS_MAX:
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            end = at + 1  # cut, or prose: what is inside may still be whole
            num_reread += getattr(error, "pos", len(text)) + 1
        else:
            inner = value.get("items")
            yield from filter(_is_item, inner if isinstance(inner, list) else [value])
        at = text.find("{", end)


def _is_item(value: object) -> bool:
    """Whether it has a number; small models write it as a text."""
    number = value.get("id") if isinstance(value, dict) else None
    return type(number) is int or (isinstance(number, str) and bool(_NUMBER.fullmatch(number)))


def _is_line(text: str, chars_max: int) -> bool:
    """Whether a text of a model's own can be written: half a surrogate pair, for one, cannot."""
    return 0 < len(text) <= chars_max and text.isprintable() and IMAGE_PLACEHOLDER not in text


def _read_object(found: object) -> tuple[str, str, str]:
    """(phrase without its article, query, kind) of one object of an item."""
    if not isinstance(found, dict):
        raise ReplyError("malformed-item", "an object is not an object")
    phrase, query, kind = (found.get(name) for name in ("phrase", "query", "kind"))
    if not isinstance(phrase, str) or not isinstance(query, str) or kind not in KINDS:
        raise ReplyError("malformed-item", f"not a phrase, a query and a kind: {str(found)[:80]}")
    phrase, query = _ARTICLE.sub("", phrase.strip(), 1), " ".join(query.lower().split())
    if not phrase or not _is_line(query, QUERY_CHARS_MAX):
        raise ReplyError("malformed-item", f"an empty or endless phrase or query: {query[:80]!r}")
    return phrase, query, str(kind)


def _find_places(text: str, phrase: str) -> Iterator[tuple[int, int]]:
    """Where a phrase stands in a text, on the boundaries of words; code points, end exclusive."""
    words: Sequence[str] = phrase.split()
    if len(" ".join(words)) > len(text):  # as a pattern it could take seconds
        return
    pattern = r"\s+".join(map(re.escape, words))
    for found in re.finditer(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE):
        yield found.span()
