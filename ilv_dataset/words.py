"""The words of an instruction: tokens with offsets, compounds, and each word's role in context.

What a word is out of context is lexicon.py's; which words make a phrase is grammar.py's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ilv_dataset.lexicon import (
    Role,
    find_role,
    is_misspelt_verb,
    load_lexicon,
    singular,
    split_glued,
)

# A word holds inner hyphens and apostrophes ("T-shirt", "dog's"); all else is one character.
# White space, underscores ("pick_coke_can") and quotation marks only part words.
_TOKEN = re.compile(
    r"[^\W_]+(?:[\u0300-\u036f]|['\u2019\-](?=[^\W_])|[^\W_])*|[^\w\s\"'`\u2018\u2019\u201c\u201d]|\n"
)
_LATIN = re.compile(r"[a-z0-9\u00df-\u024f]")
_MARKS = {",": Role.COMMA, "/": Role.JOIN, "&": Role.JOIN}
# Of longer words only the beginning is looked up, so that the lexicon's caches stay small.
_LOOKUP_MAX = 40

NAMES = (Role.NOUN, Role.MODIFIER_NOUN)
MODIFIERS = (Role.ADJECTIVE, Role.COLOUR, Role.MODIFIER_NOUN)
_ARTICLES = (Role.DETERMINER, Role.PRONOUN)
_SUBJECTS = ("it", "you", "they", "he", "she", "i", "we")
_CONTENT_AHEAD = frozenset(
    (*MODIFIERS, Role.NOUN, Role.ABSTRACT, Role.NOUNLIKE, Role.LOOSE, Role.MODAL_OR_NOUN)
)


@dataclass(slots=True)
class Word:
    """One token of a text; `lower` is without the possessive ending, which `owns` tells of."""

    start: int  # code points of the text
    end: int  # exclusive, without the possessive ending
    lower: str
    role: Role
    owns: bool = False


END = Word(0, 0, "", Role.STOP)


def read_words(text: str) -> list[Word]:
    """The words and marks of a text, in order, with their roles in this text.

    >>> [(word.lower, word.role.name) for word in read_words("Brush the brush")]
    [('brush', 'VERB'), ('the', 'DETERMINER'), ('brush', 'NOUN')]
    """
    words = _join_compounds(list(_read_tokens(text)))
    _resolve_roles(words)
    return words


def _read_tokens(text: str) -> Iterator[Word]:
    for match in _TOKEN.finditer(text):
        token, start = match.group(), match.start()
        if not token[0].isalnum():
            yield Word(start, start + 1, token, _MARKS.get(token, Role.STOP))
            continue
        lower = token[:_LOOKUP_MAX].lower().replace("\u2019", "'")
        role = find_role(lower)
        if role is Role.NOUN and not lower.isascii() and not _LATIN.search(lower):
            role = Role.CLAUSE  # of another script, whose nouns and verbs we cannot tell apart
        if role is Role.NOUN and len(token) <= _LOOKUP_MAX:
            yield from _read_noun(start, lower, match.end())
        else:
            yield Word(start, match.end(), lower, role)


def _read_noun(start: int, lower: str, end: int) -> Iterator[Word]:
    """An unlisted word: a possessive, two words without a space, or a noun."""
    if lower.endswith("'s"):
        base = lower[:-2]
        yield Word(start, end - 2, base, find_role(base), owns=True)
        return
    at = split_glued(lower)
    if at:
        yield Word(start, start + at, lower[:at], find_role(lower[:at]))
        yield Word(start + at, end, lower[at:], find_role(lower[at:]))
    else:
        yield Word(start, end, lower, Role.NOUN)


def _join_compounds(words: list[Word]) -> list[Word]:
    compounds = load_lexicon().compounds
    joined: list[Word] = []
    at = 0
    while at < len(words):
        word = words[at]
        for others, role in compounds.get(word.lower, ()):
            following = words[at + 1 : at + 1 + len(others)]
            if _matches(following, others):
                lower = " ".join((word.lower, *others))
                word = Word(word.start, following[-1].end, lower, role, following[-1].owns)
                at += len(others)
                break
        joined.append(word)
        at += 1
    return joined


def _matches(words: Sequence[Word], others: Sequence[str]) -> bool:
    return (
        len(words) == len(others)
        and all(word.lower == other for word, other in zip(words[:-1], others[:-1], strict=True))
        and (words[-1].lower == others[-1] or singular(words[-1].lower) == others[-1])
    )


def _resolve_roles(words: list[Word]) -> None:
    """Decides each word's role from its neighbours, left to right.

    `opening` says how likely a verb is here: 2 where a sentence begins, 1 after "and", "to", a
    comma or a pronoun, 0 inside a clause.
    """
    opening = 2
    before = END
    article = False  # the run of content words that we are in follows an article
    for at, word in enumerate(words):
        after = words[at + 1] if at + 1 < len(words) else END
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


def _resolve(word: Word, before: Word, after: Word, opening: int, article: bool) -> Role:
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
        return _resolve_gerund(word, before, ahead, opening)
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


def _resolve_noun(word: Word, before: Word, ahead: Role, opening: int) -> Role:
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


def _resolve_verb(word: Word, before: Word, ahead: Role, article: bool) -> Role:
    if before.role is Role.DETERMINER and ahead in (*NAMES, Role.NOUNLIKE):
        return Role.ADJECTIVE  # "the push button"
    if before.role in (Role.COLOUR, Role.ADJECTIVE) and ahead not in _ARTICLES:
        return Role.NOUN  # "green wash cloth"
    if article and ahead not in _ARTICLES and word.lower in load_lexicon().sets["abstract"]:
        return Role.ABSTRACT  # "a firm hold"
    return Role.VERB


def _resolve_nounlike(word: Word, before: Word, after: Word, opening: int) -> Role:
    sets = load_lexicon().sets
    if before.role not in (Role.DETERMINER, Role.NUMBER, *MODIFIERS):
        if before.lower in _SUBJECTS:
            return Role.VERB
        opens = opening == 2 or (before.role is Role.JOIN and word.lower in sets["verblike"])
        if after.role in _ARTICLES or (opens and after.role in _CONTENT_AHEAD):
            return Role.VERB
        is_phrasal = opening == 2 or (opening and word.lower in sets["phrasal"])
        if is_phrasal and after.lower in sets["particle"]:
            return Role.VERB
    return Role.ABSTRACT if singular(word.lower) in sets["abstract"] else Role.NOUN


def _resolve_loose(before: Word, ahead: Role, opening: int) -> Role:
    if before.role is Role.DETERMINER or before.role in MODIFIERS:
        return Role.ADJECTIVE
    if opening or before.role is Role.NOUN or ahead not in _CONTENT_AHEAD:
        return Role.VERB
    return Role.ADJECTIVE


def _resolve_gerund(word: Word, before: Word, ahead: Role, opening: int) -> Role:
    sets = load_lexicon().sets
    if opening == 2 or ahead not in _CONTENT_AHEAD or before.lower in sets["gerund_opener"]:
        return Role.VERB
    if word.lower in sets["gerund_modifier"]:
        return Role.ADJECTIVE
    follows_article = before.role in (Role.DETERMINER, Role.NUMBER) or before.role in MODIFIERS
    return Role.ADJECTIVE if follows_article else Role.VERB
