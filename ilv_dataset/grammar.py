"""Finds the object noun phrases of a robot instruction by rule, without a model.

A phrase is a maximal run of words that are no function words; nouns are an open class. What each
word is, words.py says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ilv_dataset.fields import IMAGE_PLACEHOLDER
from ilv_dataset.lexicon import Role, load_lexicon, singular
from ilv_dataset.phrases import QUOTE, make_query
from ilv_dataset.records import ParsedInstruction, Phrase
from ilv_dataset.words import END, MODIFIERS, NAMES, Word, read_words

_QUOTES = "\"'`\u2018\u2019\u201c\u201d"
_POSITION_LEADS = (
    Role.DETERMINER,
    Role.VERB,
    Role.PREPOSITION,
    Role.TO,
    Role.JOIN,
    Role.NUMBER,
)


@dataclass(slots=True)
class _Chunk:
    """A run of words that may become a phrase: indices into the words, last inclusive."""

    first: int
    last: int


def parse_instruction(instruction: str) -> ParsedInstruction:
    """Finds the object noun phrases of an instruction, in order, none overlapping.

    Never raises and takes time linear in the length, whatever the text.

    >>> [found.phrase for found in parse_instruction("put the red cup on top of it").objects]
    ['red cup']
    """
    objects: tuple[Phrase, ...] = ()
    if not instruction.strip():
        reason = "empty-instruction"
    elif IMAGE_PLACEHOLDER in instruction:
        reason = "placeholder-in-instruction"
    else:
        objects = tuple(_find_phrases(instruction))
        reason = "" if objects else "no-object-phrase"
    return ParsedInstruction(
        instruction=instruction,
        text=instruction,
        objects=objects,
        status="rejected" if reason else "parsed",
        reason=reason,
        extractor="grammar",
    )


def _find_phrases(text: str) -> list[Phrase]:
    words = read_words(text)
    chunks = _join_modifiers(words, _find_chunks(words))
    kept = [
        part
        for chunk in chunks
        if _trim_chunk(words, chunk)
        for part in _split_chunk(words, chunk)
        if not _is_mere_place(words, part)
    ]
    for chunk in kept:
        _take_position(words, chunk)
    return [_make_phrase(text, words, chunk) for chunk in _join_phrases(words, kept)]


def _find_chunks(words: Sequence[Word]) -> list[_Chunk]:
    chunks: list[_Chunk] = []
    for at, word in enumerate(words):
        if word.role < Role.ADJECTIVE:
            continue
        if chunks and chunks[-1].last == at - 1:
            chunks[-1].last = at
        else:
            chunks.append(_Chunk(at, at))
    return chunks


def _join_modifiers(words: Sequence[Word], chunks: Sequence[_Chunk]) -> list[_Chunk]:
    """Makes one chunk of "red and white" and "object", from right to left."""
    joined: list[_Chunk] = []
    for chunk in reversed(chunks):
        following = joined[-1] if joined else None
        if (
            following is not None
            and _are_modifiers(words, chunk)
            and words[following.first].role in MODIFIERS
            and words[following.last].role is Role.NOUN
            and _are_joined(words, chunk.last + 1, following.first)
        ):
            following.first = chunk.first
        else:
            joined.append(_Chunk(chunk.first, chunk.last))
    return joined[::-1]


def _are_modifiers(words: Sequence[Word], chunk: _Chunk) -> bool:
    return all(words[at].role in MODIFIERS for at in range(chunk.first, chunk.last + 1))


def _are_joined(words: Sequence[Word], first: int, end: int) -> bool:
    """Whether words[first:end] are one "and", one comma, or both."""
    between = [word.role for word in words[first : min(end, first + 3)]]
    return between in ([Role.JOIN], [Role.COMMA], [Role.COMMA, Role.JOIN])


def _trim_chunk(words: Sequence[Word], chunk: _Chunk) -> bool:
    """Cuts what is no object off the end, in place; False if nothing is left of it."""
    trailing_parts = load_lexicon().sets["trailing_part"]
    at = chunk.last
    while at >= chunk.first and (
        words[at].role not in NAMES or (words[at].lower in trailing_parts and at > chunk.first)
    ):
        at -= 1
    if at < chunk.first:
        is_colour = words[chunk.last].role is Role.COLOUR
        return is_colour and _stands_alone(words, chunk)
    cut, chunk.last = words[chunk.last], at
    head = words[at]
    if cut.role is Role.ABSTRACT and not head.owns:
        return singular(head.lower) in load_lexicon().kinds  # "box position", but no "firm grip"
    return True


def _stands_alone(words: Sequence[Word], chunk: _Chunk) -> bool:
    """Whether colours without a noun name a thing: "the red", but not "is red", "red one"."""
    before = words[chunk.first - 1].role if chunk.first else Role.STOP
    after = words[chunk.last + 1].lower if chunk.last + 1 < len(words) else ""
    leads = (Role.DETERMINER, Role.VERB, Role.PREPOSITION, Role.JOIN, Role.TO)
    return before in leads and after not in ("one", "ones")


def _split_chunk(words: Sequence[Word], chunk: _Chunk) -> tuple[_Chunk, ...]:
    """Makes two of "bowl sink", where the writer left out "in the"."""
    lexicon = load_lexicon()
    if chunk.last > chunk.first and words[chunk.last].lower in lexicon.sets["split_place"]:
        inner = words[chunk.last - 1]
        if not inner.owns and lexicon.kind_of(singular(inner.lower)) == "container":
            return (_Chunk(chunk.first, chunk.last - 1), _Chunk(chunk.last, chunk.last))
    return (chunk,)


def _is_mere_place(words: Sequence[Word], chunk: _Chunk) -> bool:
    """Whether it only says where or how: "near the handle of the robot", "into slices"."""
    sets = load_lexicon().sets
    head, opener = words[chunk.last].lower, _opener(words, chunk)
    follows = _lower_at(words, chunk.last + 1)
    if head == "shape" and chunk.first == chunk.last:
        return True
    if singular(head) in sets["arrangement"] and opener.lower in ("in", "into"):
        return follows != "of" and _lower_at(words, chunk.first - 1) != "the"
    is_part = head in sets["part"] and follows == "of"
    return is_part and opener.role in (Role.PREPOSITION, Role.TO)


def _opener(words: Sequence[Word], chunk: _Chunk) -> Word:
    """The word before the chunk and its articles."""
    at = chunk.first - 1
    while at >= 0 and words[at].role is Role.DETERMINER:
        at -= 1
    return words[at] if at >= 0 else END


def _take_position(words: Sequence[Word], chunk: _Chunk) -> None:
    """Adds "top", "left" in front of the chunk where they tell which one is meant, in place."""
    first = chunk.first
    while first > 0 and words[first - 1].role is Role.POSITION:
        first -= 1
    if first == chunk.first:
        return
    lexicon = load_lexicon()
    head = singular(words[chunk.last].lower)
    if chunk.last + 1 < len(words) and words[chunk.last + 1].role is Role.LOCATION:
        return
    if head not in lexicon.sets["positioned"]:
        before = words[first - 1].role if first else Role.STOP
        if before not in _POSITION_LEADS or lexicon.kind_of(head) == "surface":
            return
    chunk.first = first


def _join_phrases(words: Sequence[Word], chunks: Sequence[_Chunk]) -> Iterator[_Chunk]:
    """Makes one of "pot" or "pan", and of "bag" of "chips"."""
    pending: _Chunk | None = None
    for chunk in chunks:
        if pending is not None and _is_one_phrase(words, pending, chunk):
            pending.last = chunk.last
            continue
        if pending is not None:
            yield pending
        pending = chunk
    if pending is not None:
        yield pending


def _is_one_phrase(words: Sequence[Word], left: _Chunk, right: _Chunk) -> bool:
    if right.first != left.last + 2:
        return False
    lexicon = load_lexicon()
    link = words[left.last + 1].lower
    head = singular(words[left.last].lower)
    other = singular(words[right.last].lower)
    kinds = (lexicon.kind_of(head), lexicon.kind_of(other))
    if link in ("or", "/"):
        return right.first == right.last and kinds == ("container", "container")
    if link != "of":
        return False
    if words[left.first].role is Role.POSITION:
        return head in lexicon.sets["positioned"] and kinds[1] == "fixture"
    holds = head in lexicon.sets["measure"] or head in lexicon.sets["portion"]
    return (holds or kinds[0] == "container") and kinds[1] in ("object", "tool")


def _lower_at(words: Sequence[Word], at: int) -> str:
    return words[at].lower if 0 <= at < len(words) else ""


def _make_phrase(text: str, words: Sequence[Word], chunk: _Chunk) -> Phrase:
    start, end = _close_quotes(text, words[chunk.first].start, words[chunk.last].end)
    phrase = text[start:end]
    return Phrase(phrase, start, end, make_query(phrase), _find_kind(words, chunk))


def _close_quotes(text: str, start: int, end: int) -> tuple[int, int]:
    """Takes in the other quotation mark where the phrase has one of a pair inside."""
    if len(QUOTE.findall(text[start:end])) % 2:
        if start and text[start - 1] in _QUOTES:
            return start - 1, end
        if end < len(text) and text[end] in _QUOTES:
            return start, end + 1
    return start, end


def _find_kind(words: Sequence[Word], chunk: _Chunk) -> str:
    """The kind of the head: the last word before "of" or "or"."""
    head = next(
        (at - 1 for at in range(chunk.first + 1, chunk.last) if words[at].lower in ("of", "or")),
        chunk.last,
    )
    return load_lexicon().kind_of(singular(words[head].lower))
