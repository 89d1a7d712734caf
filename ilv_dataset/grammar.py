"""Finds the object noun phrases of a robot instruction by rule, without a model.

A phrase is a maximal run of words that are no function words; nouns are an open class. Which
words are function words is lexicon.toml's, and what they are out of context lexicon.py's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ilv_dataset.fields import IMAGE_PLACEHOLDER
from ilv_dataset.lexicon import (
    Role,
    find_role,
    is_misspelt_verb,
    load_lexicon,
    singular,
    split_glued,
)
from ilv_dataset.phrases import make_query
from ilv_dataset.records import ParsedInstruction, Phrase

# A word holds inner hyphens and apostrophes ("T-shirt", "dog's"); all else is one character.
# Underscores count as spaces, for task names such as "pick_coke_can".
_TOKEN = re.compile(
    r"[^\W_]+(?:[\u0300-\u036f]|['\u2019\-](?=[^\W_])|[^\W_])*|[^\w\s\"\u201c\u201d`]|\n"
)
_LATIN = re.compile(r"[a-z0-9\u00df-\u024f]")
_QUOTES = '"`\u201c\u201d'
_STOPS = {",": Role.COMMA, "/": Role.JOIN, "&": Role.JOIN, "'": Role.ADVERB, "\u2019": Role.ADVERB}

_NAMES = (Role.NOUN, Role.MODIFIER_NOUN)
_MODIFIERS = (Role.ADJECTIVE, Role.COLOUR, Role.MODIFIER_NOUN)
_ARTICLES = (Role.DETERMINER, Role.PRONOUN)
_SUBJECTS = ("it", "you", "they", "he", "she", "i", "we")
_POSITION_LEADS = (
    Role.DETERMINER,
    Role.VERB,
    Role.PREPOSITION,
    Role.TO,
    Role.JOIN,
    Role.NUMBER,
)
_CONTENT_AHEAD = frozenset(
    (*_MODIFIERS, Role.NOUN, Role.ABSTRACT, Role.NOUNLIKE, Role.LOOSE, Role.MODAL_OR_NOUN)
)


@dataclass(slots=True)
class _Word:
    """One token; `lower` is without the possessive ending, which `owns` tells of."""

    start: int
    end: int  # without the possessive ending
    lower: str
    role: Role
    owns: bool = False


_END = _Word(0, 0, "", Role.STOP)


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
    words = _join_compounds(list(_read_words(text)))
    _resolve_roles(words)
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


# --- words -------------------------------------------------------------------------------------


def _read_words(text: str) -> Iterator[_Word]:
    for match in _TOKEN.finditer(text):
        token, start = match.group(), match.start()
        if not (token[0].isalnum()):
            yield _Word(start, start + 1, token, _STOPS.get(token, Role.STOP))
            continue
        lower = token.lower().replace("\u2019", "'")
        if not _LATIN.search(lower):
            yield _Word(start, match.end(), lower, Role.CLAUSE)
            continue
        role = find_role(lower)
        if role is Role.NOUN:
            yield from _read_noun(start, lower, match.end())
        else:
            yield _Word(start, match.end(), lower, role)


def _read_noun(start: int, lower: str, end: int) -> Iterator[_Word]:
    """An unlisted word: a possessive, two words without a space, or a noun."""
    if lower.endswith("'s"):
        base = lower[:-2]
        yield _Word(start, end - 2, base, find_role(base), owns=True)
        return
    at = split_glued(lower)
    if at:
        yield _Word(start, start + at, lower[:at], find_role(lower[:at]))
        yield _Word(start + at, end, lower[at:], find_role(lower[at:]))
    else:
        yield _Word(start, end, lower, Role.NOUN)


def _join_compounds(words: list[_Word]) -> list[_Word]:
    compounds = load_lexicon().compounds
    joined: list[_Word] = []
    at = 0
    while at < len(words):
        word = words[at]
        for others, role in compounds.get(word.lower, ()):
            following = words[at + 1 : at + 1 + len(others)]
            if _matches(following, others):
                lower = " ".join((word.lower, *others))
                word = _Word(word.start, following[-1].end, lower, role, following[-1].owns)
                at += len(others)
                break
        joined.append(word)
        at += 1
    return joined


def _matches(words: Sequence[_Word], others: Sequence[str]) -> bool:
    return (
        len(words) == len(others)
        and all(word.lower == other for word, other in zip(words[:-1], others[:-1], strict=True))
        and (words[-1].lower == others[-1] or singular(words[-1].lower) == others[-1])
    )


# --- roles in context --------------------------------------------------------------------------


def _resolve_roles(words: list[_Word]) -> None:
    """Decides each word's role from its neighbours, left to right.

    `opening` says how likely a verb is here: 2 where a sentence begins, 1 after "and", "to", a
    comma or a pronoun, 0 inside a clause.
    """
    opening = 2
    before = _END
    article = False  # the run of content words that we are in follows an article
    for at, word in enumerate(words):
        after = words[at + 1] if at + 1 < len(words) else _END
        word.role = _resolve(word, before, after, opening, article)
        if word.role in (Role.ADVERB, Role.POSITION, Role.NUMBER):
            pass
        elif word.role in (Role.STOP, Role.RESTART):
            opening = 2
        elif Role.COMMA <= word.role <= Role.AUXILIARY and word.role not in (
            Role.DETERMINER,
            Role.PREPOSITION,
        ):
            opening = 1
        else:
            opening = 0
        article = word.role is Role.DETERMINER or (article and word.role >= Role.ADJECTIVE)
        before = word


def _resolve(word: _Word, before: _Word, after: _Word, opening: int, article: bool) -> Role:
    role, ahead = word.role, after.role
    if role is Role.NOUN or role is Role.MODIFIER_NOUN:
        return _resolve_noun(word, before, ahead, opening)
    if role is Role.VERB:
        return _resolve_verb(word, before, ahead, article)
    if role is Role.NOUNLIKE:
        return _resolve_nounlike(word, before, after, opening)
    if role is Role.LOOSE:
        return _resolve_loose(before, ahead, opening)
    if role is Role.GERUND:
        return _resolve_gerund(word, before, ahead)
    if role is Role.PARTICIPLE:
        is_modifier = ahead in _CONTENT_AHEAD and before.role not in (Role.NOUN, Role.PRONOUN)
        return Role.ADJECTIVE if is_modifier and opening < 2 else Role.VERB
    if role is Role.MODAL_OR_NOUN:
        is_modal = before.role is Role.PRONOUN or (opening == 2 and ahead is Role.PRONOUN)
        return Role.AUXILIARY if is_modal else Role.NOUN
    if role is Role.SURFACE_WORD:
        is_part = before.role in (Role.NOUN, Role.ABSTRACT, Role.POSITION) or after.lower == "of"
        return Role.LOCATION if is_part else Role.NOUN
    if role is Role.SCENE_TAG:
        return Role.NOUN if before.role in (Role.DETERMINER, Role.PREPOSITION) else role
    if role is Role.DETERMINER and word.lower == "that":
        return role if ahead in _CONTENT_AHEAD else Role.CLAUSE
    return role


def _resolve_noun(word: _Word, before: _Word, ahead: Role, opening: int) -> Role:
    """A noun where a verb is due is a verb: "unbox the toy", "juice the lime", "plave spoon"."""
    if ahead in _ARTICLES and (
        opening == 2 or (opening and not load_lexicon().is_known(word.lower))
    ):
        return Role.VERB
    if opening == 2 and ahead in _CONTENT_AHEAD and is_misspelt_verb(word.lower):
        return Role.VERB
    if before.role is Role.AUXILIARY and ahead not in _CONTENT_AHEAD:
        # "is firm" says how, "is sushi" says what.
        return word.role if load_lexicon().is_known(word.lower) else Role.ADVERB
    return word.role


def _resolve_verb(word: _Word, before: _Word, ahead: Role, article: bool) -> Role:
    if before.role is Role.DETERMINER and ahead in _NAMES:
        return Role.ADJECTIVE  # "the push button"
    if before.role in (Role.COLOUR, Role.ADJECTIVE) and ahead not in _ARTICLES:
        return Role.NOUN  # "green wash cloth"
    if article and ahead not in _ARTICLES and word.lower in load_lexicon().sets["abstract"]:
        return Role.ABSTRACT  # "a firm hold"
    return Role.VERB


def _resolve_nounlike(word: _Word, before: _Word, after: _Word, opening: int) -> Role:
    sets = load_lexicon().sets
    if before.role not in (Role.DETERMINER, Role.NUMBER, *_MODIFIERS):
        if before.lower in _SUBJECTS:
            return Role.VERB
        if after.role in _ARTICLES or (opening == 2 and after.role in _CONTENT_AHEAD):
            return Role.VERB
        is_phrasal = opening == 2 or (opening and word.lower in sets["phrasal"])
        if is_phrasal and after.lower in sets["particle"]:
            return Role.VERB
    return Role.ABSTRACT if singular(word.lower) in sets["abstract"] else Role.NOUN


def _resolve_loose(before: _Word, ahead: Role, opening: int) -> Role:
    if before.role is Role.DETERMINER or before.role in _MODIFIERS:
        return Role.ADJECTIVE
    if opening or before.role is Role.NOUN or ahead not in _CONTENT_AHEAD:
        return Role.VERB
    return Role.ADJECTIVE


def _resolve_gerund(word: _Word, before: _Word, ahead: Role) -> Role:
    sets = load_lexicon().sets
    if ahead not in _CONTENT_AHEAD or before.lower in sets["gerund_opener"]:
        return Role.VERB
    if word.lower in sets["gerund_modifier"]:
        return Role.ADJECTIVE
    follows_article = before.role in (Role.DETERMINER, Role.NUMBER) or before.role in _MODIFIERS
    return Role.ADJECTIVE if follows_article else Role.VERB


# --- chunks ------------------------------------------------------------------------------------


def _find_chunks(words: Sequence[_Word]) -> list[_Chunk]:
    chunks: list[_Chunk] = []
    for at, word in enumerate(words):
        if word.role < Role.ADJECTIVE:
            continue
        if chunks and chunks[-1].last == at - 1:
            chunks[-1].last = at
        else:
            chunks.append(_Chunk(at, at))
    return chunks


def _join_modifiers(words: Sequence[_Word], chunks: Sequence[_Chunk]) -> list[_Chunk]:
    """Makes one chunk of "red and white" and "object", from right to left."""
    joined: list[_Chunk] = []
    for chunk in reversed(chunks):
        following = joined[-1] if joined else None
        if (
            following is not None
            and _are_modifiers(words, chunk)
            and words[following.first].role in _MODIFIERS
            and words[following.last].role is Role.NOUN
            and _are_joined(words, chunk.last + 1, following.first)
        ):
            following.first = chunk.first
        else:
            joined.append(_Chunk(chunk.first, chunk.last))
    return joined[::-1]


def _are_modifiers(words: Sequence[_Word], chunk: _Chunk) -> bool:
    return all(words[at].role in _MODIFIERS for at in range(chunk.first, chunk.last + 1))


def _are_joined(words: Sequence[_Word], first: int, end: int) -> bool:
    """Whether words[first:end] are one "and", one comma, or both."""
    between = [word.role for word in words[first : min(end, first + 3)]]
    return between in ([Role.JOIN], [Role.COMMA], [Role.COMMA, Role.JOIN])


def _trim_chunk(words: Sequence[_Word], chunk: _Chunk) -> bool:
    """Cuts what is no object off the end, in place; False if nothing is left of it."""
    trailing_parts = load_lexicon().sets["trailing_part"]
    at = chunk.last
    while at >= chunk.first and (
        words[at].role not in _NAMES or (words[at].lower in trailing_parts and at > chunk.first)
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


def _stands_alone(words: Sequence[_Word], chunk: _Chunk) -> bool:
    """Whether colours without a noun name a thing: "the red", but not "is red", "red one"."""
    before = words[chunk.first - 1].role if chunk.first else Role.STOP
    after = words[chunk.last + 1].lower if chunk.last + 1 < len(words) else ""
    leads = (Role.DETERMINER, Role.VERB, Role.PREPOSITION, Role.JOIN, Role.TO)
    return before in leads and after not in ("one", "ones")


def _split_chunk(words: Sequence[_Word], chunk: _Chunk) -> tuple[_Chunk, ...]:
    """Makes two of "bowl sink", where the writer left out "in the"."""
    lexicon = load_lexicon()
    if chunk.last > chunk.first and words[chunk.last].lower in lexicon.sets["split_place"]:
        inner = words[chunk.last - 1]
        if not inner.owns and lexicon.kind_of(singular(inner.lower)) == "container":
            return (_Chunk(chunk.first, chunk.last - 1), _Chunk(chunk.last, chunk.last))
    return (chunk,)


def _is_mere_place(words: Sequence[_Word], chunk: _Chunk) -> bool:
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


def _opener(words: Sequence[_Word], chunk: _Chunk) -> _Word:
    """The word before the chunk and its articles."""
    at = chunk.first - 1
    while at >= 0 and words[at].role is Role.DETERMINER:
        at -= 1
    return words[at] if at >= 0 else _END


def _take_position(words: Sequence[_Word], chunk: _Chunk) -> None:
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


def _join_phrases(words: Sequence[_Word], chunks: Sequence[_Chunk]) -> Iterator[_Chunk]:
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


def _is_one_phrase(words: Sequence[_Word], left: _Chunk, right: _Chunk) -> bool:
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
    holds = kinds[0] == "container" or head in lexicon.sets["measure"]
    return holds and kinds[1] in ("object", "tool")


def _lower_at(words: Sequence[_Word], at: int) -> str:
    return words[at].lower if 0 <= at < len(words) else ""


# --- phrases -----------------------------------------------------------------------------------


def _make_phrase(text: str, words: Sequence[_Word], chunk: _Chunk) -> Phrase:
    start, end = _close_quotes(text, words[chunk.first].start, words[chunk.last].end)
    phrase = text[start:end]
    return Phrase(phrase, start, end, make_query(phrase), _find_kind(words, chunk))


def _close_quotes(text: str, start: int, end: int) -> tuple[int, int]:
    """Takes in the other quotation mark where the phrase has one of a pair inside."""
    if sum(map(text[start:end].count, _QUOTES)) % 2:
        if start and text[start - 1] in _QUOTES:
            return start - 1, end
        if end < len(text) and text[end] in _QUOTES:
            return start, end + 1
    return start, end


def _find_kind(words: Sequence[_Word], chunk: _Chunk) -> str:
    """The kind of the head: the last word before "of" or "or"."""
    head = next(
        (at - 1 for at in range(chunk.first + 1, chunk.last) if words[at].lower in ("of", "or")),
        chunk.last,
    )
    return load_lexicon().kind_of(singular(words[head].lower))
