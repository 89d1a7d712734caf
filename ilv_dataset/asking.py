"""Asks a model about many items at once: each is answered, asked once more, or given up.

Everything accepted is in the cache as soon as its reply is read, so a run that is killed asks again
what had no good answer yet, what was under way, and what was being read: these two are at most as
many requests as `ask_items` has workers. What an item is, a task says: a text, or a picture and its
name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ilv_dataset.errors import EndpointError, IlvError, ReplyError
from ilv_dataset.fields import REPLY_FAULTS
from ilv_dataset.models.chat import Chat
from ilv_dataset.models.chat_bodies import Content, Reply
from ilv_dataset.prompts import Prompt
from ilv_dataset.replies import decode_items
from ilv_dataset.reply_cache import ReplyCache

# Faults of the endpoint rather than of the item: without one success they settle nothing.
_SERVER_FAULTS = ("bad-request", "server-error", "timed-out")
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Task(Protocol[T_contra]):
    """One prompt: how items are put into a request, and what of a reply is accepted."""

    @property
    def prompt(self) -> Prompt:
        """The system message, and the schema of the reply."""
        ...

    def key(self, item: T_contra) -> str:
        """What the answer is kept by; equal for equal items."""
        ...

    def is_plain(self, item: T_contra) -> bool:
        """Whether an item may share a request with others."""
        ...

    def content(self, items: Sequence[T_contra], reasons: Mapping[str, str]) -> Content:
        """The user message about some items, numbered from 1.

        Args:
            reasons: by key, what was wrong with the last answer about an item.
        """
        ...

    def check(self, item: T_contra, reply: Mapping[str, Any], is_alone: bool) -> dict[str, Any]:
        """The answer as it is kept.

        Raises: ReplyError where it is not usable.
        """
        ...


async def ask_items(
    items: Iterable[T],
    task: Task[T],
    *,
    chat: Chat,
    cache: ReplyCache,
    items_per_request: int,
    failed: Sequence[tuple[T, ReplyError]] = (),
    on_settled: Callable[[int], None] = lambda _: None,
) -> None:
    """Asks about distinct items that the cache does not hold; afterwards it holds all of them.

    An item whose answer fails is asked once more, alone, with the reason; where that fails too it
    is kept with its `fault`, so that it is not asked for ever.

    Args:
        failed: items that have been asked once, and why there was no answer.
        on_settled: told how many items are settled, each time some are.

    Raises: EndpointError where the endpoint fails or the budget is spent, once what is under way
        has come; ConfigError; StorageError.
    """
    again: list[tuple[T, ReplyError]] = list(failed)

    async def ask_first(batch: Sequence[T]) -> None:
        faults = await ask_once(task, batch, {}, chat, cache)
        again.extend(faults)
        on_settled(len(batch) - len(faults))

    async def ask_last(fault: tuple[T, ReplyError]) -> None:
        item, error = fault
        reasons = {task.key(item): f"{error.reason}: {error}"}
        for _, last in await ask_once(task, [item], reasons, chat, cache):
            give_up(task.key(item), last, chat, cache)
        on_settled(1)

    # The chat bounds what is under way; the others read replies and get requests ready.
    num_workers = 2 * chat.options.concurrency
    await _in_parallel(ask_first, split_requests(items, task, items_per_request), num_workers)
    await _in_parallel(ask_last, iter(again), num_workers)


def split_requests(items: Iterable[T], task: Task[T], items_per_request: int) -> Iterator[list[T]]:
    """Items that are asked about together; one that is not plain is alone."""
    plain: list[T] = []
    for item in items:
        if task.is_plain(item):
            plain.append(item)
        else:
            yield [item]
        if len(plain) == items_per_request:
            yield plain
            plain = []
    if plain:
        yield plain


async def ask_once(
    task: Task[T],
    batch: Sequence[T],
    reasons: Mapping[str, str],
    chat: Chat,
    cache: ReplyCache,
) -> list[tuple[T, ReplyError]]:
    """Asks one request; returns the items whose answers are no good, and why."""
    try:
        reply = await chat.ask(task.prompt, task.content(batch, reasons))
        return await asyncio.to_thread(read_reply, task, batch, reply, cache)
    except ReplyError as error:
        return [(item, error) for item in batch]


def read_answer(task: Task[T], item: T, cache: ReplyCache) -> dict[str, Any] | None:
    """What is kept about an item, checked again, for the folder may be anyone's; None: ask.

    Raises: StorageError.
    """
    kept = cache.read(task.key(item))
    if kept is None:
        return None
    if str(kept.get("fault")) in REPLY_FAULTS:
        return {"fault": kept["fault"]}
    try:
        tokens = {name: int(kept.get(name, 0)) for name in ("tokens_in", "tokens_out")}
        return {**task.check(item, kept, True), **tokens}
    except (ReplyError, TypeError, ValueError):
        return None


def read_reply(
    task: Task[T], batch: Sequence[T], reply: Reply, cache: ReplyCache
) -> list[tuple[T, ReplyError]]:
    """Keeps what is good of one reply; returns the items whose answers are not, and why.

    Raises: ReplyError where nothing of it is; StorageError.
    """
    found = decode_items(reply.text)
    answers: dict[str, dict[str, Any]] = {}
    faults: list[tuple[T, ReplyError]] = []
    for position, item in enumerate(batch):
        try:
            if position + 1 not in found:
                raise ReplyError("missing-item", "the reply lacks the item, or has it twice")
            answer = task.check(item, found[position + 1], len(batch) == 1)
        except ReplyError as error:
            faults.append((item, error))
        else:
            key = task.key(item)
            answers[key] = {"asked": key, **answer, **_share(reply, position, len(batch))}
    cache.write_all(answers)
    return faults


def give_up(key: str, error: ReplyError, chat: Chat, cache: ReplyCache) -> None:
    """Keeps why there is no answer about an item, so that it is not asked for ever.

    What may be the endpoint's own fault is kept for this run alone.

    Raises: EndpointError where it is the endpoint that has never answered; StorageError.
    """
    if error.reason in _SERVER_FAULTS and not chat.has_succeeded:
        raise EndpointError(f"{chat.url} has answered nothing yet ({error}); run again to go on")
    answer = {"asked": key, "fault": error.reason, "message": str(error)[:200]}
    if error.reason in _SERVER_FAULTS:
        cache.passing[key] = answer
    else:
        cache.write(key, answer)


def _share(reply: Reply, position: int, num: int) -> dict[str, Any]:
    """An item's part of the tokens of a request; the parts add up to the whole."""
    return {
        name: total // num + (position < total % num)
        for name, total in (("tokens_in", reply.tokens_in), ("tokens_out", reply.tokens_out))
    }


async def _in_parallel(do: Callable[[T], Awaitable[None]], works: Iterator[T], num: int) -> None:
    """Does works, `num` at a time; after an error of ours none is begun, and it is raised."""
    errors: list[IlvError] = []

    async def work_off() -> None:
        for work in works:
            try:
                await do(work)
            except IlvError as error:
                errors.append(error)
            if errors:
                return

    await asyncio.gather(*(work_off() for _ in range(num)))
    if errors:
        raise errors[0]
