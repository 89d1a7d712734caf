"""What the grammar knows about single words: their role, the kind of thing, the singular.

The words themselves are data, in lexicon.toml; how words make a phrase is grammar.py's.
"""

from __future__ import annotations

import enum
import functools
import importlib.resources
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


class Role(enum.IntEnum):
    """What a word does in a sentence; those from ADJECTIVE on can be inside a phrase."""

    STOP = enum.auto()
    COMMA = enum.auto()
    DETERMINER = enum.auto()
    NUMBER = enum.auto()
    PREPOSITION = enum.auto()
    TO = enum.auto()
    PRONOUN = enum.auto()
    JOIN = enum.auto()
    CLAUSE = enum.auto()
    RESTART = enum.auto()
    ADVERB = enum.auto()
    AUXILIARY = enum.auto()
    POSITION = enum.auto()
    LOCATION = enum.auto()
    SCENE_TAG = enum.auto()
    VERB = enum.auto()
    # Which of these a word really is, its neighbours say.
    GERUND = enum.auto()
    PARTICIPLE = enum.auto()
    LOOSE = enum.auto()
    NOUNLIKE = enum.auto()
    MODAL_OR_NOUN = enum.auto()
    SURFACE_WORD = enum.auto()
    ADJECTIVE = enum.auto()
    COLOUR = enum.auto()
    MODIFIER_NOUN = enum.auto()
    ABSTRACT = enum.auto()
    NOUN = enum.auto()


# The later role of a word that is in several lists wins.
_TABLE_ROLES = (
    ("nouns", "abstract", Role.ABSTRACT),
    ("adjectives", "modifier_noun", Role.MODIFIER_NOUN),
    ("adjectives", "other", Role.ADJECTIVE),
    ("adjectives", "colour", Role.COLOUR),
    ("position", "location", Role.LOCATION),
    ("verbs", "participle", Role.PARTICIPLE),
    ("verbs", "nounlike", Role.NOUNLIKE),
    ("verbs", "loose", Role.LOOSE),
    ("verbs", "strict", Role.VERB),
    ("verbs", "modal_or_noun", Role.MODAL_OR_NOUN),
    ("position", "position", Role.POSITION),
    ("position", "surface_words", Role.SURFACE_WORD),
    ("function", "auxiliary", Role.AUXILIARY),
    ("function", "adverb", Role.ADVERB),
    ("function", "restart", Role.RESTART),
    ("function", "clause", Role.CLAUSE),
    ("function", "join", Role.JOIN),
    ("function", "pronoun", Role.PRONOUN),
    ("function", "to", Role.TO),
    ("function", "preposition", Role.PREPOSITION),
    ("function", "number", Role.NUMBER),
    ("function", "determiner", Role.DETERMINER),
    ("nouns", "scene_tag", Role.SCENE_TAG),
)
_KIND_TABLES = ("object", "tool", "fixture", "surface", "container")
# Words that are glued to the next one by a missing space: "putthe", "onplate".
_GLUED = ("the", "into", "onto", "put", "pick", "take", "move", "and", "from", "in", "on", "to")


@dataclass(frozen=True)
class Lexicon:
    """The word lists of lexicon.toml, ready to be looked up."""

    roles: Mapping[str, Role]
    kinds: Mapping[str, str]  # singular noun or compound -> one of fields.KINDS
    compounds: Mapping[str, tuple[tuple[tuple[str, ...], Role], ...]]  # first word -> the others
    sets: Mapping[str, frozenset[str]]  # the lists that are no role
    abstract_endings: tuple[str, ...]
    verb_deletions: frozenset[str]  # verbs with one letter left out
    singulars: Mapping[str, str]
    queries: Mapping[str, str]

    def kind_of(self, noun: str) -> str:
        """One of `fields.KINDS` for a lower-case singular noun or compound."""
        return self.kinds.get(noun, "object")

    def is_known(self, word: str) -> bool:
        """Whether any list has the word, or its singular."""
        return word in self.roles or word in self.kinds or singular(word) in self.kinds


@functools.cache
def load_lexicon() -> Lexicon:
    """Reads lexicon.toml once a process."""
    text = importlib.resources.files("ilv_dataset").joinpath("lexicon.toml").read_text("utf-8")
    tables = tomllib.loads(text)
    nouns, verbs = tables["nouns"], tables["verbs"]
    roles = _read_roles(tables)
    kinds = {
        noun: kind
        for kind in _KIND_TABLES
        for noun in (*nouns[kind].split(), *nouns[f"{kind}_compounds"])
    }
    names = ("measure", "portion", "part", "trailing_part", "split_place", "arrangement")
    sets = {name: frozenset(nouns[name].split()) for name in names}
    sets["positioned"] = frozenset(tables["position"]["positioned"].split())
    sets["abstract"] = frozenset(nouns["abstract"].split())
    for name in ("gerund_modifier", "gerund_opener", "phrasal", "verblike", "particle"):
        sets[name] = frozenset(verbs[name].split())
    bases = [verb for key in ("strict", "loose", "nounlike") for verb in verbs[key].split()]
    return Lexicon(
        roles=_with_inflections(roles, kinds, verbs),
        kinds=kinds,
        compounds=_read_compounds(nouns),
        sets=sets,
        abstract_endings=tuple(nouns["abstract_ending"]),
        verb_deletions=frozenset(
            form for verb in bases if len(verb) > 3 for form in _deletions(verb)
        ),
        singulars=tables["plurals"],
        queries=tables["queries"],
    )


def _read_roles(tables: Mapping[str, Any]) -> dict[str, Role]:
    return {word: role for table, key, role in _TABLE_ROLES for word in tables[table][key].split()}


def _with_inflections(
    roles: Mapping[str, Role], kinds: Mapping[str, str], verbs: Mapping[str, str]
) -> dict[str, Role]:
    """The roles and those of -s, -ing and -ed forms, where no list names the form itself."""
    inflected: dict[str, Role] = {}
    for key, third_person in (
        ("strict", Role.VERB),
        ("loose", Role.NOUNLIKE),
        ("nounlike", Role.NOUNLIKE),
    ):
        for verb in verbs[key].split():
            for stem in _stems(verb):
                inflected.setdefault(stem + "ing", Role.GERUND)
                inflected.setdefault(stem + "ed", Role.PARTICIPLE)
            inflected.setdefault(add_s(verb), third_person)
    inflected.update(dict.fromkeys(verbs["gerund_modifier"].split(), Role.GERUND))
    return {word: role for word, role in inflected.items() if word not in kinds} | dict(roles)


def _stems(verb: str) -> tuple[str, ...]:
    if verb.endswith("ie"):
        return (verb[:-2] + "y", verb[:-1])
    if verb.endswith("e"):
        return (verb[:-1],)
    if verb.endswith("y"):
        return (verb, verb[:-1] + "i")
    return (verb, verb + verb[-1])


def add_s(word: str) -> str:
    """A verb's third person, and the plural of most nouns.

    >>> add_s("push"), add_s("carry"), add_s("mug")
    ('pushes', 'carries', 'mugs')
    """
    if word.endswith(("s", "x", "z", "o", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def _read_compounds(
    nouns: Mapping[str, Any],
) -> dict[str, tuple[tuple[tuple[str, ...], Role], ...]]:
    """First word -> (other words, role) of each compound, the longest first."""
    listed = [(name, Role.NOUN) for kind in _KIND_TABLES for name in nouns[f"{kind}_compounds"]]
    listed += [(name, Role.ABSTRACT) for name in nouns["abstract_compounds"]]
    listed += [(name, Role.SCENE_TAG) for name in nouns["scene_tag_compounds"]]
    by_first: dict[str, list[tuple[tuple[str, ...], Role]]] = {}
    for name, role in listed:
        first, *others = name.split()
        by_first.setdefault(first, []).append((tuple(others), role))
    return {
        first: tuple(sorted(entries, key=lambda entry: -len(entry[0])))
        for first, entries in by_first.items()
    }


def _deletions(word: str) -> Iterable[str]:
    """The word, and the word with each letter left out."""
    return (word, *(word[:at] + word[at + 1 :] for at in range(len(word))))


@functools.lru_cache(maxsize=1 << 16)
def find_role(word: str) -> Role:
    """The role of a lower-case word, out of context; a noun if no list has it."""
    lexicon = load_lexicon()
    role = lexicon.roles.get(word)
    if role is not None:
        return role
    if word in lexicon.kinds:
        return Role.NOUN
    if word.isdecimal():
        return Role.NUMBER
    if len(word) == 1:
        return Role.ADVERB
    if "-" in word:
        return _find_hyphenated_role(word)
    if word.endswith("ly") and len(word) > 4:
        return Role.ADVERB
    base = word.rstrip("0123456789")
    if base != word and lexicon.roles.get(base, Role.NOUN) < Role.VERB:
        return lexicon.roles[base]  # "clockwise90"
    one = singular(word)
    if one in lexicon.kinds:
        return Role.NOUN
    is_abstract = lexicon.roles.get(one) is Role.ABSTRACT or word.endswith(lexicon.abstract_endings)
    return Role.ABSTRACT if is_abstract else Role.NOUN


def _find_hyphenated_role(word: str) -> Role:
    roles = [find_role(part) for part in word.split("-") if part]
    if not roles:
        return Role.ADVERB
    if roles[0] is Role.VERB and roles[-1] in (Role.PREPOSITION, Role.ADVERB, Role.VERB):
        return Role.VERB
    if all(role is Role.COLOUR for role in roles):
        return Role.COLOUR
    if all(role in (Role.POSITION, Role.LOCATION, Role.DETERMINER) for role in roles):
        return Role.POSITION
    if all(role < Role.VERB for role in roles):
        return Role.ADVERB
    return Role.NOUN


@functools.lru_cache(maxsize=1 << 14)
def is_misspelt_verb(word: str) -> bool:
    """Whether an unknown word is one slip of the finger away from a verb, as "plave" is."""
    lexicon = load_lexicon()
    if not 4 <= len(word) <= 12 or lexicon.is_known(word):
        return False
    # The first letter stays, or "table" would be near "take" and "mat" near "pat".
    return any(form in lexicon.verb_deletions for form in _deletions(word) if form[0] == word[0])


@functools.lru_cache(maxsize=1 << 14)
def split_glued(word: str) -> int:
    """Where a missing space belongs in a lower-case word; 0 if it is one word.

    >>> split_glued("thepot"), split_glued("toaster")
    (3, 0)
    """
    lexicon = load_lexicon()
    if len(word) < 5 or lexicon.is_known(word):
        return 0
    for glued in _GLUED:
        rest = word[len(glued) :]
        if word.startswith(glued) and len(rest) > 2 and lexicon.is_known(rest):
            return len(glued)
    return 0


@functools.lru_cache(maxsize=1 << 14)
def singular(word: str) -> str:
    """The singular of a lower-case noun, by rule where lexicon.toml has no exception.

    >>> singular("potatoes"), singular("knives"), singular("glass")
    ('potato', 'knife', 'glass')
    """
    listed = load_lexicon().singulars.get(word)
    if listed is not None:
        return listed
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("oes", "shes", "ches", "xes", "sses", "zzes")):
        return word[:-2]
    return word[:-1]
