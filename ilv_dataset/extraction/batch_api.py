"""The same questions through OpenAI's Batch API: half the price, within a day.

What is under way is written down before and after it is handed in, so a process that is killed
takes it up again; a batch that was handed in and not written down is found by its metadata.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any, Literal

from ilv_dataset.asking import give_up, read_reply, split_requests
from ilv_dataset.errors import EndpointError, ReplyError
from ilv_dataset.extraction.tasks import TextTask
from ilv_dataset.formats import atomic, files
from ilv_dataset.models.chat import Chat
from ilv_dataset.models.chat_bodies import decode_completion
from ilv_dataset.reply_cache import ReplyCache

REQUESTS_MAX = 20_000  # a batch; Source: OpenAI's limits are 50,000 and 200 MB
_ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_METADATA = "ilv_dataset"  # the digest of what was asked
_POLL_S, _POLL_MAX_S = 0.5, 60.0
_FILE_TIMEOUT_S = 900.0  # for 100 MB, up or down
_ENDED = ("completed", "failed", "expired", "cancelled")
_USELESS = ("failed", "expired", "cancelling", "cancelled")
_REFUSED = (400, 413, 422)  # HTTP statuses that are the request's own fault
_NO_BATCHES = "it has no Batch API; leave --llm-batch out"


@dataclass(frozen=True)
class OpenBatch:
    """One batch under way."""

    task: str  # the model, and the prompt and its digest
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
        asked = [self.task, self.requests, self.reasons]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]


class BatchAsker:
    """Asks about texts in batches, one batch at a time."""

    def __init__(self, chat: Chat, *, out: str) -> None:
        """Args: `out` is the output folder, which keeps what is under way."""
        self._chat = chat
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
        """As `ask_items`, within a day; the batch of a killed run is taken up first.

        Raises: EndpointError, ConfigError, StorageError.
        """
        again: dict[str, ReplyError] = {}
        wanted = set(texts)

        async def finish(batch: OpenBatch) -> None:
            faults = await self._collect(batch, task, cache)
            if batch.is_last and faults and not self._chat.has_succeeded:
                await self._chat.settle(task.prompt)
            for text, error in faults.items():
                if batch.is_last:
                    give_up(text, error, self._chat, cache)
                else:
                    again[text] = error
            settled = {text for request in batch.requests for text in request} - again.keys()
            on_settled(len(settled & wanted))
            files.remove_tree(self._state_path(task))

        taken_up: set[str] = set()
        before, is_damaged = self._read_state(task)
        if before is not None and (found := await self._find(before)) is not None:
            taken_up = {text for request in found.requests for text in request}
            await finish(found)

        rest = split_requests((t for t in texts if t not in taken_up), task, items_per_request)
        while some := self._take(rest):
            batch = OpenBatch(self._name(task), some)
            found = await self._find(batch) if is_damaged else None
            await finish(found or await self._hand_in(batch, task))
        alone = iter([[text] for text in again])
        while some := self._take(alone):
            reasons = {text: f"{again[text].reason}: {again[text]}" for [text] in some}
            await finish(await self._hand_in(OpenBatch(self._name(task), some, reasons), task))

    def _take(self, requests: Iterator[list[str]]) -> list[list[str]]:
        """The requests of the next batch: what the budget has left, but one at least."""
        left = self._chat.budget.num_requests_left
        num = REQUESTS_MAX if left is None else max(1, min(left, REQUESTS_MAX))
        return list(islice(requests, num))

    async def _find(self, batch: OpenBatch) -> OpenBatch | None:
        """A batch with its number at the endpoint; None where it was never handed in."""
        if batch.batch_id is not None:
            return batch

        async def look() -> str | None:
            async for found in self._chat.client.batches.list(limit=100):
                is_same = (found.metadata or {}).get(_METADATA) == batch.digest
                if is_same and found.status not in _USELESS:
                    return found.id
            return None

        batch_id = await self._chat.call(look, missing=_NO_BATCHES, timeout_s=_FILE_TIMEOUT_S)
        return replace(batch, batch_id=batch_id) if batch_id else None

    async def _hand_in(self, batch: OpenBatch, task: TextTask) -> OpenBatch:
        """Hands a batch in; returns it with its number at the endpoint."""
        chat = self._chat
        chat.budget.spend(len(batch.requests))
        if not chat.has_succeeded:  # a batch of what the server does not take would cost a day
            await chat.settle(task.prompt)
        self._write_state(batch, task)
        content = "".join(
            json.dumps(self._line(number, request, batch, task), ensure_ascii=False) + "\n"
            for number, request in enumerate(batch.requests)
        )
        file = ("requests.jsonl", content.encode())
        handed = await chat.call(
            lambda: chat.client.files.create(file=file, purpose="batch", timeout=_FILE_TIMEOUT_S),
            missing=_NO_BATCHES,
            timeout_s=_FILE_TIMEOUT_S,
        )
        found = await chat.call(
            lambda: chat.client.batches.create(
                input_file_id=handed.id,
                endpoint=_ENDPOINT,
                completion_window="24h",
                metadata={_METADATA: batch.digest},
            ),
            missing=_NO_BATCHES,
        )
        batch = replace(batch, batch_id=found.id)
        self._write_state(batch, task)
        return batch

    def _line(
        self, number: int, request: Sequence[str], batch: OpenBatch, task: TextTask
    ) -> dict[str, Any]:
        body = self._chat.request(task.prompt, task.content(request, batch.reasons))
        return {"custom_id": str(number), "method": "POST", "url": _ENDPOINT, "body": body}

    async def _collect(
        self, batch: OpenBatch, task: TextTask, cache: ReplyCache
    ) -> dict[str, ReplyError]:
        """Waits for the end, keeps what is good, and returns the other texts, and why.

        Raises: EndpointError where the batch ended before all of it was answered.
        """
        ended = await self._wait(batch, task)
        waiting = dict(enumerate(batch.requests))
        faults: dict[str, ReplyError] = {}
        for number, response, _ in await self._read_file(ended.output_file_id):
            if request := waiting.pop(number, None):
                faults |= self._read_body(response.get("body"), request, task, cache)
        if waiting and ended.status != "completed":
            files.remove_tree(self._state_path(task))
            errors = getattr(ended.errors, "data", None) or []
            said = f": {self._chat.quote(errors[0].message)}" if errors else ""
            raise EndpointError(
                f"batch {ended.id} has {ended.status}{said}, {len(waiting):,} of "
                f"{len(batch.requests):,} requests unanswered; run again to ask about these"
            )
        for number, response, error in await self._read_file(ended.error_file_id):
            faults |= dict.fromkeys(waiting.pop(number, ()), self._read_fault(response, error))
        missing = ReplyError("server-error", f"batch {ended.id} holds no reply to it")
        return faults | {text: missing for request in waiting.values() for text in request}

    async def _read_file(
        self, file_id: str | None
    ) -> list[tuple[int, Mapping[str, Any], Mapping[str, Any]]]:
        """Lines of a batch's output, or of its errors: number of the request, response, error."""
        if not file_id:
            return []
        client = self._chat.client
        content = await self._chat.call(
            lambda: client.files.content(file_id, timeout=_FILE_TIMEOUT_S),
            missing=f"there is no file {file_id}",
            timeout_s=_FILE_TIMEOUT_S,
        )
        # Not splitlines: a reply may hold what only Unicode calls the end of a line.
        return [line for raw in content.content.split(b"\n") if (line := _read_line(raw))]

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

    def _read_fault(self, response: Mapping[str, Any], error: Mapping[str, Any]) -> ReplyError:
        """What a line of the file of errors says."""
        status, body = response.get("status_code"), response.get("body")
        inner = body.get("error") if isinstance(body, dict) else None
        message = (inner if isinstance(inner, dict) else error).get("message")
        said = f"HTTP {status}: " if status else ""
        kind = "bad-request" if status in _REFUSED else "server-error"
        return ReplyError(kind, said + self._chat.quote(message or "no reason is given"))

    async def _wait(self, batch: OpenBatch, task: TextTask) -> Any:
        """The batch at its end."""
        batch_id, poll_s = str(batch.batch_id), _POLL_S
        missing = (
            f"there is no batch {batch_id}; where it has been deleted, delete "
            f"{self._state_path(task)} as well"
        )
        while True:
            found = await self._chat.call(
                lambda: self._chat.client.batches.retrieve(batch_id), missing=missing
            )
            if found.status in _ENDED:
                return found
            await asyncio.sleep(poll_s)
            poll_s = min(2 * poll_s, _POLL_MAX_S)

    def _name(self, task: TextTask) -> str:
        return f"{self._chat.options.model}:{task.prompt.name}:{task.prompt.digest}"

    def _state_path(self, task: TextTask) -> str:
        """A file for each endpoint, model and prompt: none takes up, or loses, another's batch."""
        asked = f"{self._chat.options.base_url} {self._name(task)}"
        name = hashlib.sha256(asked.encode()).hexdigest()[:16]
        return files.join_path(self._out, ".cache", "batches", f"{name}.json")

    def _read_state(self, task: TextTask) -> tuple[OpenBatch | None, bool]:
        """(what a run before this one left under way, whether that cannot be read)."""
        path = self._state_path(task)
        if not files.exists(path):
            return None, False
        try:
            state = json.loads(files.read_bytes(path))
            requests = [[str(text) for text in request] for request in state["requests"]]
            reasons = {str(text): str(reason) for text, reason in state["reasons"].items()}
            batch_id = state["batch_id"]
            is_ours = state["task"] == self._name(task) and isinstance(batch_id, str | None)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None, True
        if not is_ours:
            return None, True
        return OpenBatch(self._name(task), requests, reasons, batch_id), False

    def _write_state(self, batch: OpenBatch, task: TextTask) -> None:
        atomic.write_json(self._state_path(task), asdict(batch), out=self._out)


def _read_line(line: bytes) -> tuple[int, Mapping[str, Any], Mapping[str, Any]] | None:
    """(number of the request, response, error) of one line; None where it is none of ours."""
    try:
        content = json.loads(line)
        found = [content.get(name) or {} for name in ("response", "error")]
        if not all(isinstance(part, dict) for part in found):
            return None
        return int(content["custom_id"]), found[0], found[1]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
