"""The same questions through OpenAI's Batch API: half the price, within a day.

What is under way is written down before and after it is handed in, so a process that is killed
takes it up again; a batch that was handed in and not written down is found by its metadata.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ilv_dataset.asking import give_up, read_reply, split_requests
from ilv_dataset.batches import batched
from ilv_dataset.errors import EndpointError, ReplyError
from ilv_dataset.extraction.tasks import TextTask
from ilv_dataset.formats import atomic, files
from ilv_dataset.models.chat import PARAMETERS, Chat, chat_request, decode_completion
from ilv_dataset.reply_cache import ReplyCache

REQUESTS_MAX = 20_000  # a batch; Source: OpenAI's limits are 50,000 and 200 MB
_ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_METADATA = "ilv_dataset"  # the digest of what was asked
_POLL_S, _POLL_MAX_S = 0.5, 60.0
_ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass(frozen=True)
class OpenBatch:
    """One batch under way."""

    task: str  # its prompt and digest
    requests: list[list[str]]  # texts asked about together; request N has the custom_id str(N)
    reasons: dict[str, str] = field(default_factory=dict)  # of texts that are asked again
    batch_id: str | None = None  # None until it is handed in

    @property
    def is_last(self) -> bool:
        """Whether what fails now is given up."""
        return bool(self.reasons)

    @property
    def digest(self) -> str:
        """Tells this batch from all others."""
        return hashlib.sha256(json.dumps([self.task, self.requests]).encode()).hexdigest()[:32]


class BatchAsker:
    """Asks about texts in batches, one batch at a time."""

    def __init__(self, chat: Chat, *, folder: str, out: str) -> None:
        """Args: `folder` is that of the replies; the state lies beside them."""
        self._chat = chat
        self._state_path = files.join_path(folder, "open-batch.json")
        self._out = out

    async def ask(
        self,
        texts: Sequence[str],
        task: TextTask,
        *,
        cache: ReplyCache,
        items_per_request: int,
        on_settled: Callable[[int], None],
    ) -> None:
        """As `ask_items`, within a day; the state of a killed run is taken up first.

        Raises: EndpointError, ConfigError, StorageError.
        """
        again: dict[str, ReplyError] = {}

        async def finish(batch: OpenBatch) -> None:
            batch = await self._hand_in(batch, task)
            faults = await self._collect(batch, task, cache)
            for text, error in faults.items():
                if batch.is_last:
                    give_up(text, error, self._chat, cache)
                else:
                    again[text] = error
            on_settled(sum(map(len, batch.requests)) - len(set(faults) & set(again)))
            files.remove_tree(self._state_path)

        taken_up: set[str] = set()
        before = self._read_state(task)
        if before is not None:
            taken_up = {text for request in before.requests for text in request}
            await finish(before)
        rest = (text for text in texts if text not in taken_up)
        for requests in batched(split_requests(rest, task, items_per_request), REQUESTS_MAX):
            await finish(OpenBatch(_name(task), list(requests)))
        for some in batched(list(again.items()), REQUESTS_MAX):
            reasons = {text: f"{error.reason}: {error}" for text, error in some}
            await finish(OpenBatch(_name(task), [[text] for text in reasons], reasons))

    async def _hand_in(self, batch: OpenBatch, task: TextTask) -> OpenBatch:
        """The batch with its number at the endpoint; it is handed in where it was not yet."""
        if batch.batch_id is not None:
            return batch
        chat = self._chat
        found = None
        if self._read_state(task) == batch:  # it may have been handed in before a kill
            page = await chat.call(lambda: chat.client.batches.list(limit=100))
            same = [b for b in page.data if (b.metadata or {}).get(_METADATA) == batch.digest]
            found = same[0] if same else None
        if found is None:
            chat.spend(len(batch.requests))
            self._write_state(batch)
            content = "".join(
                json.dumps(self._line(number, request, batch, task), ensure_ascii=False) + "\n"
                for number, request in enumerate(batch.requests)
            )
            file = ("requests.jsonl", content.encode())
            handed = await chat.call(lambda: chat.client.files.create(file=file, purpose="batch"))
            found = await chat.call(
                lambda: chat.client.batches.create(
                    input_file_id=handed.id,
                    endpoint=_ENDPOINT,
                    completion_window="24h",
                    metadata={_METADATA: batch.digest},
                )
            )
        batch = replace(batch, batch_id=found.id)
        self._write_state(batch)
        return batch

    def _line(
        self, number: int, request: Sequence[str], batch: OpenBatch, task: TextTask
    ) -> dict[str, Any]:
        body = chat_request(
            task.prompt,
            task.content(request, batch.reasons),
            self._chat.options.model,
            "json_schema",
            PARAMETERS,
        )
        return {"custom_id": str(number), "method": "POST", "url": _ENDPOINT, "body": body}

    async def _collect(
        self, batch: OpenBatch, task: TextTask, cache: ReplyCache
    ) -> dict[str, ReplyError]:
        """Waits for the end, keeps what is good, and returns the other texts, and why."""
        ended = await self._wait(str(batch.batch_id))
        if ended.status == "failed" or (ended.status != "completed" and not ended.output_file_id):
            files.remove_tree(self._state_path)
            errors = getattr(ended.errors, "data", None) or []
            said = errors[0].message if errors else ended.status
            raise EndpointError(f"batch {ended.id} has failed: {said}; run again to ask anew")
        missing = ReplyError("server-error", f"batch {ended.id} holds no reply to it")
        faults = {text: missing for request in batch.requests for text in request}
        client = self._chat.client
        if not ended.output_file_id:
            return faults
        content = await self._chat.call(lambda: client.files.content(ended.output_file_id))
        for line in content.text.splitlines():
            number, body = _read_line(line)
            if number is not None and 0 <= number < len(batch.requests):
                request = batch.requests[number]
                for text in request:
                    faults.pop(text, None)
                faults |= self._read_body(body, request, task, cache)
        return faults

    def _read_body(
        self, body: object, request: Sequence[str], task: TextTask, cache: ReplyCache
    ) -> dict[str, ReplyError]:
        reply = decode_completion(json.dumps(body).encode())
        try:
            if reply is None:
                raise ReplyError("server-error", "not a chat completion")
            self._chat.count(reply)
            if reply.fault:
                raise ReplyError(reply.fault, f"the reply is of no use: {reply.fault}")
            return dict(read_reply(task, request, reply, cache))
        except ReplyError as error:
            return dict.fromkeys(request, error)

    async def _wait(self, batch_id: str) -> Any:
        poll_s = _POLL_S
        while True:
            found = await self._chat.call(lambda: self._chat.client.batches.retrieve(batch_id))
            if found.status in _ENDED:
                return found
            await asyncio.sleep(poll_s)
            poll_s = min(2 * poll_s, _POLL_MAX_S)

    def _read_state(self, task: TextTask) -> OpenBatch | None:
        """What a run before this one left under way; None where it is of another prompt."""
        if not files.exists(self._state_path):
            return None
        try:
            batch = OpenBatch(**json.loads(files.read_bytes(self._state_path)))
        except (TypeError, ValueError):
            return None
        return batch if batch.task == _name(task) else None

    def _write_state(self, batch: OpenBatch) -> None:
        atomic.write_json(self._state_path, asdict(batch), out=self._out)


def _name(task: TextTask) -> str:
    return f"{task.prompt.name}:{task.prompt.digest}"


def _read_line(line: str) -> tuple[int | None, object]:
    """(number of the request, body of its reply) of one line of a batch's output."""
    try:
        content: Mapping[str, Any] = json.loads(line)
        return int(content["custom_id"]), (content.get("response") or {}).get("body")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None, None
