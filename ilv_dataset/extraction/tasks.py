"""What a language model is asked, and what of its answers is accepted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ilv_dataset.errors import ReplyError
from ilv_dataset.grammar import parse_instruction
from ilv_dataset.phrases import head_noun, make_query
from ilv_dataset.plain_texts import is_plain_instruction
from ilv_dataset.prompts import Prompt, load_prompt
from ilv_dataset.records import Phrase
from ilv_dataset.replies import check_summary, match_phrases

PARAGRAPH_WORDS_MIN = 30  # Source: ours; Bridge and RT-1 have up to 23


@dataclass(frozen=True)
class TextTask:
    """One prompt about texts, and how the items of its replies are checked."""

    prompt: Prompt
    field: str  # of an item, that holds the text
    checked: Callable[[str, Mapping[str, Any], bool], dict[str, Any]]

    def key(self, item: str) -> str:
        """The text itself."""
        return item

    def is_plain(self, item: str) -> bool:
        """Whether a text may share a request with others."""
        return is_plain_instruction(item)

    def check(self, item: str, reply: Mapping[str, Any], is_alone: bool) -> dict[str, Any]:
        """The answer as it is kept.

        Raises: ReplyError.
        """
        return self.checked(item, reply, is_alone)

    def content(self, items: Sequence[str], reasons: Mapping[str, str]) -> str:
        """The user message that asks about some texts, numbered from 1.

        Args:
            reasons: what was wrong with the last answer about a text.
        """
        questions: list[dict[str, Any]] = []
        for number, text in enumerate(items, 1):
            questions.append({"id": number, self.field: text})
            if text in reasons:
                questions[-1]["your_last_answer_was_refused"] = reasons[text]
        return json.dumps({"items": questions}, ensure_ascii=False)


def is_paragraph(instruction: str) -> bool:
    """Whether an instruction is so long that it is summarised first."""
    return len(instruction.split()) >= PARAGRAPH_WORDS_MIN


def _check_objects(text: str, item: Mapping[str, Any], is_alone: bool) -> dict[str, Any]:
    """The objects of one item as they are kept.

    Nothing found where the grammar finds something, and a query that has nothing of its phrase,
    are taken only from an answer about this text alone: so an instruction that takes the model
    over can neither empty nor rename those that it shared a request with.
    """
    phrases = match_phrases(text, item.get("objects"))
    if not is_alone:
        if not phrases and parse_instruction(text).objects:
            raise ReplyError("no-objects", "no object, though the grammar finds one")
        for found in phrases:
            if not _is_about(found):
                message = f"query {found.query!r} has nothing of {found.phrase!r}"
                raise ReplyError("unrelated-query", message)
    return {"objects": [asdict(phrase) for phrase in phrases]}


def _is_about(found: Phrase) -> bool:
    """Whether a query has a word of its phrase, or of what the grammar would ask for."""
    known = f"{found.phrase} {make_query(found.phrase)}".lower().split()
    words = {*known, head_noun(found.phrase)}
    return bool(words & {*found.query.split(), head_noun(found.query)})


def _check_summary(_: str, item: Mapping[str, Any], __: bool) -> dict[str, Any]:
    return {"summary": check_summary(item.get("summary"))}


FIND_OBJECTS = TextTask(load_prompt("noun_phrases.v1"), "instruction", _check_objects)
SUMMARISE = TextTask(load_prompt("summarise.v1"), "paragraph", _check_summary)
