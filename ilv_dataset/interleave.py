"""Builds the interleaved instruction: pictured phrases give way to the placeholder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from ilv_dataset.fields import IMAGE_PLACEHOLDER
from ilv_dataset.records import Phrase

# The picture stands for "the carrot", not for "carrot": an article in front goes with it.
_ARTICLE_BEFORE = re.compile(r"\b(?:the|a|an)\s+\Z", re.IGNORECASE)
_LONGEST_ARTICLE = 16  # code points with the spaces behind it; bounds the search


def choose_pictured(span_id: str, num: int, *, max_images: int) -> list[int]:
    """Which of a span's `num` objects are shown where there is room for `max_images`, in order.

    Those with the smallest SHA-256 of `<span_id> <position>`: the same in every run, and one more
    picture leaves those that there are.

    >>> choose_pictured("toy-train.tfrecord-00000-of-00001__0#0", 2, max_images=1)
    [0]
    """

    def digest(position: int) -> bytes:
        return hashlib.sha256(f"{span_id} {position}".encode()).digest()

    return sorted(sorted(range(num), key=digest)[:max_images])


def interleave_instruction(text: str, phrases: Sequence[Phrase]) -> str:
    """Replaces each phrase, with an article in front of it, by `<image>`, in reading order.

    Args:
        phrases: those that have a picture, sorted, not overlapping, as indexes into `text`.

    >>> carrot = Phrase("carrot", 8, 14, "carrot", "object")
    >>> interleave_instruction("put the carrot on the plate", [carrot])
    'put <image> on the plate'

    Raises: ValueError where phrases overlap or are not what `text` has there.
    """
    parts: list[str] = []
    position = 0
    for phrase in phrases:
        if phrase.start < position or text[phrase.start : phrase.end] != phrase.phrase:
            raise ValueError(f"{phrase} does not index {text!r} behind {position}")
        # Not a slice of the text: a word that begins before it must not look like an article.
        first = max(position, phrase.start - _LONGEST_ARTICLE)
        article = _ARTICLE_BEFORE.search(text, first, phrase.start)
        start = phrase.start - (len(article.group()) if article else 0)
        parts += [text[position:start], IMAGE_PLACEHOLDER]
        position = phrase.end
    return "".join([*parts, text[position:]])
