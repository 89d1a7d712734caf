"""What is known about a phrase: head noun, detector query, score against gold, JSON form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from ilv_dataset.lexicon import Role, find_role, load_lexicon, singular
from ilv_dataset.records import ParsedInstruction, Phrase

_WORD = re.compile(r"[^\W_]+(?:['\u2019\-][^\W_]+)*")
_POSSESSIVE = re.compile(r"['\u2019]s\b")
# A quotation mark, but not the apostrophe inside a word.
QUOTE = re.compile(r"[\"`\u201c\u201d]|(?<![^\W_])['\u2018\u2019]|['\u2018\u2019](?![^\W_])")
_ALTERNATIVE = re.compile(r" or | ?/ ?")
_OTHER_BEFORE = re.compile(r"\b(?:an)?other\s+\Z", re.IGNORECASE)
_LONGEST_OTHER = 16  # code points with the spaces behind it; bounds the search
# "yellow egg shape" is about an egg.
_EMPTY_HEADS = frozenset(("shape", "shaped"))


@dataclass(frozen=True)
class PhraseScore:
    """How predicted phrases agree with gold ones, over all instructions (micro average)."""

    precision: float
    recall: float
    f1: float
    num_predicted: int
    num_gold: int
    num_right: int
    misses: tuple[PhraseMiss, ...]


@dataclass(frozen=True)
class PhraseMiss:
    """One instruction whose phrases are not the gold ones."""

    instruction: str
    missing: tuple[str, ...]
    extra: tuple[str, ...]


def split_modifiers(phrase: str) -> tuple[tuple[str, ...], str]:
    """The modifiers and the head noun of a phrase, lower-case, the head in the singular.

    >>> split_modifiers("Green rice chip bags")
    (('green', 'rice', 'chip'), 'bag')
    >>> split_modifiers("top shelf of fridge"), split_modifiers("piece of toast")
    ((('top',), 'shelf'), ((), 'toast'))
    """
    words = _WORD.findall(_POSSESSIVE.sub("", phrase.lower().replace("\u2019", "'")))
    words = _before_link(words)
    while len(words) > 1 and words[-1] in _EMPTY_HEADS:
        words = words[:-1]
    if not words:
        return (), phrase.strip().lower()
    modifiers = tuple(word for word in words[:-1] if find_role(word) >= Role.POSITION)
    return modifiers, singular(words[-1])


def head_noun(phrase: str) -> str:
    """The noun that says what the thing is, lower-case and singular.

    >>> head_noun("pot or pan"), head_noun("red CUPS"), head_noun("yellow egg shape")
    ('pot', 'cup', 'egg')
    """
    return split_modifiers(phrase)[1]


def _before_link(words: list[str]) -> list[str]:
    """The words of the head: before "of" and "or", but behind "piece of"."""
    for at, word in enumerate(words[1:-1], 1):
        if word == "of":
            is_measure = singular(words[at - 1]) in load_lexicon().sets["measure"]
            return words[at + 1 :] if is_measure else words[:at]
        if word == "or" and find_role(words[at - 1]) is Role.NOUN:
            return words[:at]
    return words


def make_query(phrase: str) -> str:
    """What a detector is asked: lower case, without possessives, brand names described.

    >>> make_query("dog's bowl"), make_query("pot or pan"), make_query("7up can")
    ('dog bowl', 'pot', 'white soda can')
    """
    query = QUOTE.sub(" ", _POSSESSIVE.sub("", phrase.lower())).replace("_", " ")
    query = " ".join(query.split())
    if _ALTERNATIVE.search(query):
        left, right = _ALTERNATIVE.split(query, 1)
        query = left if find_role(left.rpartition(" ")[2]) is Role.NOUN else right
    queries = load_lexicon().queries
    if query in queries:
        return queries[query]
    words = query.split(" ")
    # The longest name at the end of the phrase: "crushed coke can". No name is of more words.
    for at in range(max(1, len(words) - 3), len(words)):
        name = " ".join(words[at:])
        if name in queries:
            return " ".join((*words[:at], queries[name]))
    return query or phrase


def find_indistinct(text: str, phrases: Sequence[Phrase]) -> frozenset[int]:
    """Positions of phrases that no detector can tell apart: "the carrot" and "the other carrot".

    >>> first, second = Phrase("cup", 4, 7, "cup", "object"), Phrase("cup", 21, 24, "cup", "object")
    >>> sorted(find_indistinct("put cup beside other cup", (first, second)))
    [0, 1]
    """
    others = {
        phrase.query
        for phrase in phrases
        if _OTHER_BEFORE.search(text[max(0, phrase.start - _LONGEST_OTHER) : phrase.start])
    }
    return frozenset(at for at, phrase in enumerate(phrases) if phrase.query in others)


def score_phrases(
    predicted: Mapping[str, Set[str]],
    gold: Mapping[str, Set[str]],
    *,
    neutral: Mapping[str, Set[str]] | None = None,
) -> PhraseScore:
    """Scores the distinct phrases of each instruction against the gold ones, exactly.

    Args:
        predicted: instruction -> phrases found in it.
        gold: instruction -> phrases that should be found; its keys say what is scored.
        neutral: instruction -> phrases that are neither right nor wrong, such as surfaces.
    """
    num_predicted = num_gold = num_right = 0
    misses: list[PhraseMiss] = []
    for instruction, wanted in gold.items():
        ignored = (neutral or {}).get(instruction, frozenset())
        found = set(predicted.get(instruction, ())) - set(ignored)
        num_predicted += len(found)
        num_gold += len(wanted)
        num_right += len(found & wanted)
        if found != wanted:
            missing, extra = tuple(sorted(wanted - found)), tuple(sorted(found - wanted))
            misses.append(PhraseMiss(instruction, missing, extra))
    precision = num_right / num_predicted if num_predicted else 1.0
    recall = num_right / num_gold if num_gold else 1.0
    f1 = 2 * num_right / (num_predicted + num_gold) if num_predicted + num_gold else 1.0
    return PhraseScore(precision, recall, f1, num_predicted, num_gold, num_right, tuple(misses))


def encode_parsed(parsed: ParsedInstruction) -> dict[str, Any]:
    """One JSON object of `ilv phrases`, as schemas/phrases.v1.json describes it."""
    return {
        "instruction": parsed.instruction,
        "objects": [asdict(found) for found in parsed.objects],
    }
