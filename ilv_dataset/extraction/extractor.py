"""The extractor `llm`: a language model behind a cache, with the grammar to fall back on."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ilv_dataset.asking import ask_items, read_answer, split_requests
from ilv_dataset.batches import batched
from ilv_dataset.extraction.batch_api import BatchAsker
from ilv_dataset.extraction.tasks import FIND_OBJECTS, SUMMARISE, TextTask, is_paragraph
from ilv_dataset.fields import IMAGE_PLACEHOLDER
from ilv_dataset.formats import files
from ilv_dataset.grammar import parse_instruction
from ilv_dataset.ledgers import spent_on
from ilv_dataset.llm_options import LlmOptions
from ilv_dataset.models.budgets import Usage
from ilv_dataset.models.chat import PARAMETERS, Chat
from ilv_dataset.records import ParsedInstruction, Phrase
from ilv_dataset.reply_cache import ReplyCache

_TEXTS_AT_ONCE = 1024  # looked up together, in threads where the cache is behind a scheme


class LlmExtractor:
    """Asks only what the cache does not hold; then makes rows of what it holds.

    Attributes:
        num_texts: summaries and instructions that are wanted.
        num_cached: of these, how many were known before.
        num_settled: how many are known by now.
        usage: of the model, so far.
    """

    def __init__(
        self,
        model: str,
        options: LlmOptions,
        *,
        out: str,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Takes `say`, which is told once how much there is to ask."""
        self.num_texts = self.num_cached = self.num_settled = 0
        self.usage = Usage()
        self._model = model
        self._options = options
        self._out = out
        self._say = say
        self._cache_folder = options.cache_folder(out)
        self._caches = {
            task.field: ReplyCache(self._cache_folder, model, task.prompt, PARAMETERS)
            for task in (FIND_OBJECTS, SUMMARISE)
        }

    @property
    def spent(self) -> dict[str, float]:
        """The account of what was asked so far."""
        return spent_on(self.usage, num_cached=self.num_cached, prices=self._options.prices)

    def ask(self, instructions: Sequence[str]) -> None:
        """Asks about distinct instructions; afterwards `parse` knows all of them.

        Raises: EndpointError where the endpoint fails or the budget is spent; ConfigError;
            StorageError. What has been answered is kept.
        """
        asyncio.run(self._ask(instructions))

    def parse(self, instruction: str) -> ParsedInstruction:
        """The row of one instruction that was asked about.

        Raises: StorageError.
        """
        row, text = parse_instruction(instruction), instruction
        if not _is_asked(instruction):
            return row
        digest, answers = FIND_OBJECTS.prompt.digest, []
        if is_paragraph(instruction):
            digest += f"+{SUMMARISE.prompt.digest}"
            answers.append(self._answer(SUMMARISE, instruction))
            text = answers[-1].get("summary", "")
        if text:
            answers.append(self._answer(FIND_OBJECTS, text))
            row = _make_row(instruction, text, answers[-1])
        return replace(
            row,
            model=self._model,
            prompt_digest=digest,
            fallback=answers[-1].get("fault", ""),
            tokens_in=sum(answer.get("tokens_in", 0) for answer in answers),
            tokens_out=sum(answer.get("tokens_out", 0) for answer in answers),
        )

    def parse_all(self, instructions: Sequence[str]) -> Iterator[ParsedInstruction]:
        """The rows of many instructions, in their order, some in memory at a time."""
        for some in batched(instructions, _TEXTS_AT_ONCE):
            yield from files.map_files(self.parse, some, root=self._cache_folder)

    def remember(self, rows: Iterable[ParsedInstruction]) -> None:
        """Puts into the cache what the table of an earlier run knows."""
        for some in batched(rows, _TEXTS_AT_ONCE):
            files.map_files(self._remember_row, some, root=self._cache_folder)

    async def _ask(self, instructions: Sequence[str]) -> None:
        asked = [text for text in instructions if _is_asked(text)]
        async with Chat(self._options.chat(self._model)) as chat:
            self.usage = chat.usage
            paragraphs = list(filter(is_paragraph, asked))
            await self._settle(SUMMARISE, paragraphs, chat)
            texts = [text for text in asked if not is_paragraph(text)]
            if paragraphs:
                texts = sorted({*texts, *map(self._text, paragraphs)} - {""})
            await self._settle(FIND_OBJECTS, texts, chat)

    async def _settle(self, task: TextTask, texts: Sequence[str], chat: Chat) -> None:
        """Asks about those of the texts that the cache does not know."""
        known = [
            known
            for some in batched(texts, _TEXTS_AT_ONCE)
            for known in files.map_files(
                lambda text: self._is_known(task, text), some, root=self._cache_folder
            )
        ]
        waiting = [text for text, is_known in zip(texts, known, strict=True) if not is_known]
        self.num_texts += len(texts)
        self.num_cached += len(texts) - len(waiting)
        self._note_settled(len(texts) - len(waiting))
        if waiting:
            num_requests = sum(1 for _ in split_requests(waiting, task, self._options.items))
            self._say(
                f"{task.field}s  {len(texts):,} distinct, {len(texts) - len(waiting):,} cached; "
                f"to ask: {len(waiting):,} items in {num_requests:,} requests, and at most each "
                "item once more, alone"
            )
        ask = (
            BatchAsker(chat, out=self._out).ask
            if self._options.batch
            else functools.partial(ask_items, chat=chat)
        )
        await ask(
            waiting,
            task,
            cache=self._caches[task.field],
            items_per_request=self._options.items,
            on_settled=self._note_settled,
        )

    def _note_settled(self, num: int) -> None:
        self.num_settled += num

    def _is_known(self, task: TextTask, text: str) -> bool:
        answer = self._read(task, text)
        is_fallback = answer is not None and "fault" in answer
        return answer is not None and not (is_fallback and self._options.retry_fallbacks)

    def _text(self, instruction: str) -> str:
        """What is searched for objects: the instruction, or its summary; "" where that failed."""
        if not is_paragraph(instruction):
            return instruction
        return self._answer(SUMMARISE, instruction).get("summary", "")

    def _answer(self, task: TextTask, text: str) -> Mapping[str, Any]:
        return self._read(task, text) or {"fault": "missing-item"}

    def _read(self, task: TextTask, text: str) -> Mapping[str, Any] | None:
        return read_answer(task, text, self._caches[task.field])

    def _remember_row(self, row: ParsedInstruction) -> None:
        digest, summarised = FIND_OBJECTS.prompt.digest, SUMMARISE.prompt.digest
        is_summarised = row.prompt_digest == f"{digest}+{summarised}"
        if row.model != self._model or not (is_summarised or row.prompt_digest == digest):
            return
        objects = [asdict(found) for found in row.objects]
        answer = {"fault": row.fallback} if row.fallback else {"objects": objects}
        if is_summarised and row.fallback and row.text == row.instruction:
            self._remember(SUMMARISE, row.instruction, answer)
            return
        if is_summarised:
            self._remember(SUMMARISE, row.instruction, {"summary": row.text})
        tokens = {"tokens_in": row.tokens_in, "tokens_out": row.tokens_out}
        self._remember(FIND_OBJECTS, row.text, {**answer, **tokens})

    def _remember(self, task: TextTask, asked: str, answer: Mapping[str, Any]) -> None:
        cache = self._caches[task.field]
        if cache.read(asked) is None:
            cache.write(asked, {"asked": asked, **answer})


def _is_asked(instruction: str) -> bool:
    """Whether a model is asked; what is no instruction at all is rejected without."""
    return bool(instruction.strip()) and IMAGE_PLACEHOLDER not in instruction


def _make_row(instruction: str, text: str, answer: Mapping[str, Any]) -> ParsedInstruction:
    """The row of a text as a model answered, or as the grammar reads it where that failed."""
    if "objects" not in answer:
        return replace(parse_instruction(text), instruction=instruction)
    objects = tuple(Phrase(**found) for found in answer["objects"])
    reason = "" if objects else "no-object-phrase"
    status = "rejected" if reason else "parsed"
    return ParsedInstruction(instruction, text, objects, status, reason, extractor="llm")
