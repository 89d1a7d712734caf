"""Which of a dataset's object names, or a detector's classes, a phrase of an instruction means."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from ilv_dataset.boxes import BoxChoice
from ilv_dataset.lexicon import singular
from ilv_dataset.phrases import head_noun
from ilv_dataset.records import Phrase


@dataclass(frozen=True, slots=True)
class Name:
    """A noun phrase taken apart: `head`, and its other words without articles and places."""

    head: str
    modifiers: frozenset[str]
    places: frozenset[str]

    @property
    def words(self) -> frozenset[str]:
        """All words that say what the thing is."""
        return self.modifiers | {self.head}


@dataclass(frozen=True, slots=True)
class Synonyms:
    """What synonyms.toml lists."""

    # "color", "size" (which are "small", "large" and "extent" together), "place", "ignored"
    words: Mapping[str, frozenset[str]]
    spellings: Mapping[str, str]
    groups: tuple[frozenset[str], ...]
    classes: Mapping[str, tuple[str, ...]]
    not_with: Mapping[str, frozenset[str]]


@functools.cache
def load_synonyms() -> Synonyms:
    """Reads the synonyms that come with the package."""
    text = resources.files("ilv_dataset").joinpath("synonyms.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    words = {name: frozenset(listed.split()) for name, listed in tables["words"].items()}
    return Synonyms(
        words={**words, "size": words["small"] | words["large"] | words["extent"]},
        spellings=tables["spellings"],
        groups=tuple(frozenset(group) for group in tables["nouns"]["groups"]),
        classes={name: tuple(others) for name, others in tables["classes"].items()},
        not_with={name: frozenset(words) for name, words in tables["not_with"].items()},
    )


@functools.lru_cache(maxsize=4096)
def parse_name(text: str) -> Name:
    """Takes a phrase apart, in lower case and in the singular.

    >>> sorted(parse_name("the big gray mugs").modifiers)
    ['big', 'grey']
    """
    synonyms = load_synonyms()
    head = head_noun(text)
    spelled = (
        synonyms.spellings.get(word, word) for word in re.findall(r"[a-z0-9]+", text.lower())
    )
    rest = frozenset(map(singular, spelled)) - synonyms.words["ignored"] - {head}
    places = rest & synonyms.words["place"]
    return Name(head, rest - places, places)


def match_names(names: Sequence[str], queries: Sequence[Phrase]) -> tuple[BoxChoice, ...]:
    """Finds the named object that each phrase means; BoxChoice.index is the row of `names`.

    A name matches when head nouns agree (or are listed as synonyms) and no modifier contradicts.
    Equal words win over an equal head noun, that over a synonym, then the number of modifiers in
    common. Where several names fit a phrase equally well, it is "ambiguous"; where two different
    phrases mean one object, it goes to the one that fits better, or to neither.
    """
    claims = [_claim(names, query) for query in queries]
    wanted = [parse_name(query.phrase) for query in queries]
    return tuple(
        _yield_to_better(claim, [claims[row] for row, other in enumerate(wanted) if other != name])
        for name, claim in zip(wanted, claims, strict=True)
    )


def fitting_names(names: Sequence[str], query: Phrase) -> tuple[int, ...]:
    """Rows of the names that a phrase, taken on its own, means; several where all fit as well."""
    return _best_names(names, query)[1]


def match_class(phrase: str, class_names: Sequence[str]) -> str | None:
    """Returns the class of a closed-vocabulary detector that a phrase names, or None.

    Only the phrase's head noun counts: "orange can" is a can and never an orange. Of several
    classes that fit, the one of most words wins ("hot dog" over "dog").
    """
    name = parse_name(phrase)
    fitting = [label for label in class_names if _is_class(name, label)]
    return max(fitting, key=lambda label: (len(label.split()), label), default=None)


def extra_words(phrase: str, class_name: str) -> frozenset[str]:
    """What a phrase says beyond its class: {"green"} of "green cup", {"left"} of "left cup"."""
    name = parse_name(phrase)
    fitting = [parse_name(text) for text in _texts(class_name) if _ends_with(name, text)]
    covered = frozenset[str]().union(*(text.modifiers for text in fitting))
    return (name.modifiers - covered) | name.places


def is_contrast(word: str) -> bool:
    """Whether a word tells things of one kind apart: a colour, a size or a place."""
    return any(word in load_synonyms().words[group] for group in ("color", "size", "place"))


@dataclass(frozen=True, slots=True)
class _Claim:
    rank: tuple[bool, bool, int]  # equal words, equal head noun, modifiers in common
    choice: BoxChoice


def _claim(names: Sequence[str], query: Phrase) -> _Claim:
    """The best name for one phrase, taken on its own."""
    rank, rows = _best_names(names, query)
    if not rows:
        return _Claim(rank, BoxChoice(None, "absent"))
    return _Claim(rank, BoxChoice(rows[0]) if len(rows) == 1 else _AMBIGUOUS)


def _best_names(
    names: Sequence[str], query: Phrase
) -> tuple[tuple[bool, bool, int], tuple[int, ...]]:
    """The best rank and the rows that have it; the query is asked if the phrase fits none."""
    for text in dict.fromkeys((query.phrase, query.query)):
        wanted = parse_name(text)
        ranks = {row: _rank(wanted, parse_name(name)) for row, name in enumerate(names)}
        fitting = {row: rank for row, rank in ranks.items() if rank is not None}
        if fitting:
            best = max(fitting.values())
            return best, tuple(row for row, rank in fitting.items() if rank == best)
    return (False, False, 0), ()


_AMBIGUOUS = BoxChoice(None, "ambiguous")


def _yield_to_better(claim: _Claim, others: Sequence[_Claim]) -> BoxChoice:
    index = claim.choice.index
    rivals = [other for other in others if index is not None and other.choice.index == index]
    return _AMBIGUOUS if any(other.rank >= claim.rank for other in rivals) else claim.choice


def _rank(wanted: Name, name: Name) -> tuple[bool, bool, int] | None:
    if not wanted.head or not _same_noun(wanted, name) or _contradict(wanted, name):
        return None
    shared = len(wanted.modifiers & name.modifiers)
    return (wanted.words == name.words, wanted.head == name.head, shared)


def _same_noun(one: Name, other: Name) -> bool:
    if one.head == other.head:
        return True
    groups = load_synonyms().groups
    return any(_is_in(one, group) and _is_in(other, group) for group in groups)


def _is_in(name: Name, group: frozenset[str]) -> bool:
    return any(_ends_with(name, text) for text in group)


def _contradict(one: Name, other: Name) -> bool:
    """Whether both have modifiers of a group and share none of it: red and blue, coke and pepsi."""
    words = load_synonyms().words
    colors, sizes = words["color"], words["size"]
    groups = (colors, (one.modifiers | other.modifiers) - colors - sizes)
    pairs = [(one.modifiers & group, other.modifiers & group) for group in groups]
    pairs.append((_sizes(one.modifiers), _sizes(other.modifiers)))
    return any(left and right and not left & right for left, right in pairs)


def _sizes(modifiers: frozenset[str]) -> frozenset[str]:
    """The size words, each as the first of those that mean the same: big and largest as large."""
    words = load_synonyms().words
    return frozenset(
        next((name for name in ("small", "large") if word in words[name]), word)
        for word in modifiers & words["size"]
    )


def _is_class(name: Name, label: str) -> bool:
    if name.modifiers & load_synonyms().not_with.get(label, frozenset()):
        return False
    return any(_ends_with(name, text) for text in _texts(label))


def _texts(label: str) -> tuple[str, ...]:
    return (label, *load_synonyms().classes.get(label, ()))


def _ends_with(name: Name, text: str) -> bool:
    """Whether `name` is a `text`: the same head noun, and all other words of `text`."""
    wanted = parse_name(text)
    return name.head == wanted.head and wanted.modifiers <= name.modifiers
