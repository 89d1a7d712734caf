"""One OpenAI-compatible endpoint: asks, waits, tries again, counts, and knows when to stop.

The key comes from OPENAI_API_KEY alone; it is in no option, message or file of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from ilv_dataset.errors import ConfigError, EndpointError, IlvError, ReplyError
from ilv_dataset.models.budgets import Budget, Prices, Usage
from ilv_dataset.models.chat_bodies import Content, Reply, chat_request, decode_completion
from ilv_dataset.models.endpoints import KEY_VARIABLE, OPENAI_URL, api_key, shown_url
from ilv_dataset.models.faults import Fault, Unsupported
from ilv_dataset.models.http_texts import http_error, retry_after_s
from ilv_dataset.prompts import Prompt

PARAMETERS: Mapping[str, Any] = {"temperature": 0}  # part of every cache key
REPLY_BYTES_MAX = 4 << 20  # Source: ours; twenty times the longest honest reply
TRIES_MAX = 3  # of a request that the endpoint, being alive, cannot answer
FAILURES_MAX = 8  # requests in a row; then it is not the requests' fault
PATIENCE_S = 30.0  # without a sign of life
BUSY_PATIENCE_S = 600.0  # with nothing but "busy"
_BACKOFF_S, _BACKOFF_MAX_S = 0.5, 8.0
_BUSY = (429, 503)
_UNPAID = 402
_REFUSED_KEY = f"the key in {KEY_VARIABLE} is refused"
# What a server may be able to do, best first; it is found out with the first request.
_FORMATS = ("json_schema", "json_object", "text")
HARMLESS = '{"items": []}'  # nothing in it can be refused

T = TypeVar("T")


@dataclass(frozen=True)
class ChatOptions:
    """Where a model is asked, and how much; nothing in it changes what it answers."""

    model: str
    base_url: str = OPENAI_URL
    concurrency: int = 16
    timeout_s: float = 60.0
    max_requests: int | None = None
    max_tokens: int | None = None
    prices: Prices | None = None
    patience_s: float = PATIENCE_S


class Chat:
    """Asks one model; use it in `async with`, from one event loop."""

    def __init__(self, options: ChatOptions, *, harmless: Content = HARMLESS) -> None:
        """Takes the endpoint, and what tells one bad request from a server that refuses all.

        Raises: ConfigError where the endpoint needs a key and there is none.
        """
        self.options = options
        self._harmless = harmless
        self.budget = Budget(max_requests=options.max_requests, max_tokens=options.max_tokens)
        self.has_succeeded = False
        self._key = api_key(options.base_url)
        self.url = shown_url(options.base_url)  # as messages name it
        self._format: str | None = None
        self._trying = _FORMATS[0]  # the format that is being found out about
        self._prompt: Prompt | None = None  # of the last request
        self._parameters = dict(PARAMETERS)
        self._num_failed = 0  # in a row
        self._end: IlvError | None = None  # why nothing more can be asked

    async def __aenter__(self) -> Self:
        from openai import AsyncOpenAI

        self.client = AsyncOpenAI(
            api_key=self._key,
            base_url=self.options.base_url,
            max_retries=0,
            timeout=self.options.timeout_s,
        )
        self._settling = asyncio.Lock()
        self._slots = asyncio.Semaphore(self.options.concurrency)
        self._clock = asyncio.get_running_loop().time
        self._alive_at = self._paused_until = self._clock()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    async def ask(self, prompt: Prompt, content: Content) -> Reply:
        """One reply to one request.

        Raises: ReplyError where this request cannot be answered; EndpointError where none can,
            or the budget is spent; ConfigError where the model or the key is refused.
        """
        self._prompt = prompt
        try:
            async with self._slots:
                if self._format is None:
                    async with self._settling:  # the others wait until it is known what is taken
                        if self._format is None:
                            return await self._settle(prompt, content)
                send = functools.partial(self._send, prompt, content, self._format)
                return await self._persist(send)
        except Unsupported as error:
            raise ReplyError("bad-request", str(error)) from error
        except (ConfigError, EndpointError) as error:
            self._end = error
            raise

    async def _settle(self, prompt: Prompt, content: Content) -> Reply:
        """The first reply; where it is refused, finds out whether all are or it alone."""
        try:
            return await self._find_format(prompt, content)
        except Unsupported as error:
            try:
                await self._find_format(prompt, self._harmless)
            except Unsupported:
                url = self.url
                raise ConfigError(f"{url} refuses every request: {error}") from error
            raise

    async def _find_format(self, prompt: Prompt, content: Content) -> Reply:
        """A reply in the best format that the server takes, which then is known."""
        refused = ""
        for kind in _FORMATS:
            self._trying = kind
            for _ in range(2):
                try:
                    reply = await self._persist(
                        functools.partial(self._send, prompt, content, kind)
                    )
                except Unsupported as error:
                    refused = str(error)
                    if "temperature" not in refused or not self._parameters:
                        break
                    self._parameters = {}
                except ReplyError as error:
                    # Servers that cannot give a format may just break down over it.
                    if self.has_succeeded or error.reason != "server-error" or kind == _FORMATS[-1]:
                        self._format = kind if self.has_succeeded else None
                        raise
                    break
                else:
                    self._format = kind
                    return reply
        raise Unsupported(refused)

    async def settle(self, prompt: Prompt) -> None:
        """Finds out with a small request what the server takes; the budget leaves it out.

        Raises: EndpointError, ConfigError.
        """
        with self.budget.free(), contextlib.suppress(ReplyError):
            await self.ask(prompt, self._harmless)

    def request(self, prompt: Prompt, content: Content) -> dict[str, Any]:
        """The body of a request as the server takes it, as far as that is known."""
        kind = self._format or _FORMATS[0]
        return chat_request(prompt, content, self.options.model, kind, self._parameters)

    async def call(
        self, make: Callable[[], Awaitable[T]], *, missing: str, timeout_s: float | None = None
    ) -> T:
        """What another request to the endpoint gives, with the same patience; it is not counted.

        Args:
            missing: what to say where the endpoint has no such thing.

        Raises: EndpointError, ConfigError.
        """
        self._alive_at = self._clock()  # nobody has asked it since the last sign of life
        try:
            return await self._persist(lambda: self._attempt(make, timeout_s))
        except (Unsupported, ReplyError) as error:
            raise EndpointError(f"{self.url}: {error}; run again to go on") from error
        except ConfigError as error:
            if getattr(error.__cause__, "status_code", None) != 404:
                raise
            raise ConfigError(f"{self.url}: {missing}") from error

    async def _persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Tries until there is a reply, or it is clear that there will be none."""
        failed_at, tries, num_faults = math.inf, 0, 0
        while True:
            await self._wait_for_pause()
            if self._end is not None:  # those that waited need not find out for themselves
                raise self._end
            try:
                return await attempt()
            except Fault as fault:
                failed_at = min(failed_at, self._clock())
                tries += 0 if fault.is_busy else 1
                await self._judge(fault, tries, failed_at)
                backoff_s = min(_BACKOFF_S * 2 ** min(num_faults, 9), _BACKOFF_MAX_S)
                num_faults += 1
                wait_s = backoff_s * random.uniform(0.5, 1)
                if fault.wait_s:  # 0 would be no wait at all, again and again
                    self._paused_until = max(self._paused_until, self._clock() + fault.wait_s)
                    wait_s = 0.0
                await asyncio.sleep(wait_s)

    async def _wait_for_pause(self) -> None:
        while (left_s := self._paused_until - self._clock()) > 0:
            await asyncio.sleep(left_s + random.uniform(0, 0.1 * left_s))  # not all at once

    @property
    def usage(self) -> Usage:
        """What has been asked so far."""
        return self.budget.usage

    def count(self, reply: Reply) -> None:
        """Counts a reply that has come: a sign of life."""
        self.budget.count(tokens_in=reply.tokens_in, tokens_out=reply.tokens_out)
        self._alive_at, self._num_failed, self.has_succeeded = self._clock(), 0, True

    async def _judge(self, fault: Fault, tries: int, failed_at: float) -> None:
        """Returns where it is worth while to try again.

        Args:
            failed_at: when this request failed first; what others were answered since then says
                that the endpoint is well.
        """
        url, silent_s = self.url, self._clock() - self._alive_at
        if fault.is_busy:
            # A proxy with nothing behind it says 503 for ever.
            is_there = self.has_succeeded or fault.wait_s or fault.reason == "busy"
            patience_s = BUSY_PATIENCE_S if is_there else self.options.patience_s
            if (fault.wait_s or 0.0) > BUSY_PATIENCE_S or silent_s > patience_s:
                raise EndpointError(f"{url} is busy ({fault}); run again later to go on") from fault
            return
        if tries >= TRIES_MAX and (self._alive_at > failed_at or await self._answers()):
            self._num_failed += 1
            if self._num_failed >= FAILURES_MAX or not self.has_succeeded:
                await self._ask_harmless()
            if self._num_failed >= FAILURES_MAX:
                raise EndpointError(
                    f"{url}: {FAILURES_MAX} requests in a row failed, the last with: {fault}; "
                    "run again to go on"
                ) from fault
            raise ReplyError(fault.reason, str(fault)) from fault
        if silent_s > self.options.patience_s and not await self._answers():
            raise EndpointError(f"{url} cannot be reached ({fault}); run again to go on") from fault

    async def _ask_harmless(self) -> None:
        """An answer to it says that the requests are at fault and not the endpoint: see `count`."""
        with contextlib.suppress(Fault, Unsupported, ReplyError):
            if self._prompt is not None:
                await self._send(self._prompt, self._harmless, self._format or self._trying)

    async def _answers(self) -> bool:
        """Whether the endpoint is there at all, whatever it says."""
        import openai

        try:
            await self.client.models.list(timeout=min(10.0, self.options.timeout_s))
        except openai.APIStatusError as error:
            return error.status_code < 500
        except openai.APIError:
            return False
        return True

    async def _send(self, prompt: Prompt, content: Content, kind: str) -> Reply:
        """One attempt to get a reply.

        Raises: Fault, Unsupported, ReplyError, ConfigError, EndpointError.
        """
        with self.budget.sending():
            received = await self._attempt(lambda: self._receive(prompt, content, kind))
        reply = decode_completion(received)
        if reply is None:
            begin = received[:1000].decode("utf-8", "replace")
            raise Fault("server-error", f"not a chat completion: {self.quote(begin)}")
        self.count(reply)
        if reply.fault:  # the same request would only get the same again
            raise ReplyError(reply.fault, f"the reply is of no use: {reply.fault}")
        return reply

    async def _receive(self, prompt: Prompt, content: Content, kind: str) -> bytes:
        body = chat_request(prompt, content, self.options.model, kind, self._parameters)
        # What does not change goes round the client's own encoding: 1 ms of it a request.
        request = self.client.chat.completions.with_streaming_response.create(
            model=body.pop("model"), messages=body.pop("messages"), extra_body=body
        )
        received = bytearray()
        async with request as response:
            try:
                async for chunk in response.iter_bytes():
                    received += chunk
                    if len(received) > REPLY_BYTES_MAX:
                        raise ReplyError("reply-too-large", f"over {REPLY_BYTES_MAX:,} bytes")
            except http_error(response.http_response) as error:
                raise Fault("server-error", self.quote(error)) from error
        return bytes(received)

    async def _attempt(self, make: Callable[[], Awaitable[T]], timeout_s: float | None = None) -> T:
        """One request in bounded time; what can go wrong with it becomes an error of ours."""
        import openai

        limit_s = max(timeout_s or 0.0, self.options.timeout_s)
        try:
            async with asyncio.timeout(limit_s):
                return await make()
        except (TimeoutError, openai.APITimeoutError) as error:
            raise Fault("timed-out", f"no reply in {limit_s:g} s") from error
        except openai.APIStatusError as error:
            raise await self._refusal(error) from error
        except openai.APIError as error:
            raise Fault("server-error", self.quote(error.__cause__ or error)) from error

    async def _refusal(self, error: Any) -> Exception:
        """What an HTTP status means to us; `error` is an openai.APIStatusError."""
        status, message = error.status_code, f"HTTP {error.status_code}: {self.quote(error)}"
        if error.code == "insufficient_quota" or status == _UNPAID:
            return EndpointError(f"{self.url}: {message}")
        if status in _BUSY:
            reason = "busy" if status == 429 else "overloaded"
            return Fault(reason, message, retry_after_s(error.response.headers))
        if status == 401:  # what servers say here mostly quotes the key
            return ConfigError(f"{self.url}: HTTP 401: {_REFUSED_KEY}")
        if status == 403:
            return ConfigError(f"{self.url}: {message}")
        if status == 404:
            return ConfigError(f"{self.url}: {message}; {await self._names()}")
        if status in (400, 413, 422):
            return Unsupported(message)
        return Fault("server-error", message)

    async def _names(self) -> str:
        """What may help where nothing was found: the models that are there."""
        import openai

        try:
            names = sorted([model.id async for model in self.client.models.list()])
        except openai.APIError:
            return "is --llm-base-url right? It mostly ends in /v1"
        return f"it has {', '.join(names[:8]) or 'no models'}"

    def quote(self, error: Any) -> str:
        """What an error says, on one line, without the key."""
        body = getattr(error, "body", None)
        said = body.get("message") if isinstance(body, dict) else None
        text = " ".join(str(said or error).split()).replace(self._key, "***")
        return text[:200] or type(error).__name__
