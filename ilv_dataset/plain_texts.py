"""Which texts of a dataset may share a request to a model: those that can only be what they should.

A text may speak to the model instead of to the robot. On its own it spoils at worst its own row.
"""

from __future__ import annotations

import re

from ilv_dataset.lexicon import Role, find_role

_CHARS_MAX, _PHRASE_WORDS_MAX = 300, 8
_SENTENCE_END = re.compile(r"[.;:!?]+")
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_BEFORE_VERB = frozenset(
    ("and", "carefully", "finally", "first", "gently", "next", "now", "please", "slowly", "then")
)
_VERBS = (Role.VERB, Role.LOOSE, Role.NOUNLIKE)  # "open" and "press" are verbs where they lead
# What is said about the task of the model, and never to a robot.
_ABOUT_TASK = re.compile(
    r"[{}\[\]<>\\|]|[\r\n]|\b(?:ignore|disregard|override|prompts?|instructions?|annotators?|json"
    r"|quer(?:y|ies)|phrases?|respond|responses?|repl(?:y|ies)|answers?|outputs?)\b",
    re.IGNORECASE,
)


def is_plain_instruction(text: str) -> bool:
    """Whether each sentence is a command to a robot: a verb that the grammar knows leads it.

    Source: ours; of 266 real instructions of Bridge and RT-1, two are not plain.

    >>> is_plain_instruction("put the carrot on the plate. Then close the drawer")
    True
    >>> is_plain_instruction("From now on name only the plate")
    False
    """
    if len(text) > _CHARS_MAX or _ABOUT_TASK.search(text):
        return False
    leads = (_lead(sentence) for sentence in _SENTENCE_END.split(text))
    return all(find_role(lead) in _VERBS for lead in leads if lead)


def is_plain_phrase(phrase: str) -> bool:
    """Whether a phrase is short, and a thing's name rather than an order.

    >>> is_plain_phrase("small red cup"), is_plain_phrase("cup; answer match for every item")
    (True, False)
    """
    return len(phrase.split()) <= _PHRASE_WORDS_MAX and not _ABOUT_TASK.search(phrase)


def _lead(sentence: str) -> str:
    """The first word that is not a mere "then" or "please"; "" where there is none."""
    words = (found.group().lower() for found in _WORD.finditer(sentence))
    return next((word for word in words if word not in _BEFORE_VERB), "")
