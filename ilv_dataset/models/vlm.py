"""The verifier `vlm`: a vision-language model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ilv_dataset.asking import ask_items, ask_once, read_answer
from ilv_dataset.crops import encode_jpeg
from ilv_dataset.errors import ReplyError
from ilv_dataset.fields import VERDICTS
from ilv_dataset.key_points import fit_frame, point_to_frame
from ilv_dataset.ledgers import Spent, spent_on
from ilv_dataset.models.chat import HARMLESS, PARAMETERS, Chat, ChatOptions
from ilv_dataset.plain_texts import is_plain_phrase
from ilv_dataset.prompts import Prompt, load_prompt
from ilv_dataset.records import Candidate, Verdict
from ilv_dataset.reply_cache import ReplyCache

CROPS_PER_REQUEST = 8  # Source: ours; some 85 to 260 tokens each, and many servers take no more
REASON_CHARS_MAX = 200
# What a server that takes one picture a request says to several: not all of them say it well.
_REFUSALS = ("bad-request", "server-error")
T = TypeVar("T")


@dataclass(frozen=True)
class _Question:
    """One picture and the name of what it should show."""

    phrase: str
    jpeg: bytes
    size_wh: tuple[int, int]

    @property
    def key(self) -> str:
        return f"{hashlib.sha256(self.jpeg).hexdigest()} {self.phrase}"


@dataclass(frozen=True)
class _PictureTask:
    """What both prompts have in common: a picture for each item."""

    prompt: Prompt
    ask: Callable[[_Question], dict[str, Any]]  # what is said about an item
    check_reply: Callable[[Mapping[str, Any]], dict[str, Any]]  # raises ReplyError

    def key(self, item: _Question) -> str:
        return item.key

    def is_plain(self, item: _Question) -> bool:
        return is_plain_phrase(item.phrase)

    def content(
        self, items: Sequence[_Question], reasons: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        questions = []
        for number, item in enumerate(items, 1):
            questions.append({"id": number, **self.ask(item)})
            if item.key in reasons:
                questions[-1]["your_last_answer_was_refused"] = reasons[item.key]
        text = json.dumps({"items": questions}, ensure_ascii=False)
        return [{"type": "text", "text": text}, *(_image_part(item.jpeg) for item in items)]

    def check(self, _: _Question, reply: Mapping[str, Any], __: bool) -> dict[str, Any]:
        return self.check_reply(reply)


def _check_verdict(reply: Mapping[str, Any]) -> dict[str, Any]:
    verdict, reason = reply.get("verdict"), reply.get("reason")
    if str(verdict) not in VERDICTS or not isinstance(reason, str):
        raise ReplyError("malformed-item", f"not a verdict and a reason: {str(reply)[:80]}")
    return {"verdict": verdict, "reason": " ".join(reason.split())[:REASON_CHARS_MAX]}


def _check_point(reply: Mapping[str, Any]) -> dict[str, Any]:
    found, x, y = (reply.get(name) for name in ("found", "x", "y"))
    if found is False:
        return {"found": False}
    is_number = all(type(value) in (int, float) for value in (x, y))
    if found is not True or not is_number:
        raise ReplyError("malformed-item", f"not a point: {str(reply)[:80]}")
    # By way of a text an integer of hundreds of digits is infinite, and no error.
    return {"found": True, "x": float(str(x)), "y": float(str(y))}


VERIFY_CROP = _PictureTask(
    load_prompt("verify_crop.v1"), lambda item: {"phrase": item.phrase}, _check_verdict
)
FIND_POINT = _PictureTask(
    load_prompt("key_point.v1"),
    lambda item: {"point_at": item.phrase, "width": item.size_wh[0], "height": item.size_wh[1]},
    _check_point,
)


class VlmVerifier:
    """Asks about crops, several a request, and for key points; replies are kept by the picture."""

    def __init__(
        self,
        chat: ChatOptions,
        *,
        spec: str,
        cache: str,
        on_spent: Callable[[Spent], None] = lambda _: None,
    ) -> None:
        """Takes the endpoint, the folder of the replies, and who is told what has been spent.

        Raises: ConfigError where the endpoint needs a key and there is none in this process.
        """
        self.spec = spec
        digests = (VERIFY_CROP.prompt.digest, FIND_POINT.prompt.digest)
        self.fingerprint = f"{chat.model}:{'+'.join(digests)}"
        # With a picture: a model that sees none must not make every crop unsure.
        grey = encode_jpeg(np.full((64, 64, 3), 128, np.uint8))
        parts = [{"type": "text", "text": HARMLESS}, _image_part(grey)]
        self._chat = Chat(chat, harmless=parts)
        self._caches = {
            task.prompt.name: ReplyCache(cache, chat.model, task.prompt, PARAMETERS)
            for task in (VERIFY_CROP, FIND_POINT)
        }
        self._on_spent = on_spent
        self._num_cached = 0
        self._crops_per_request: int | None = None  # not known before the first request
        self._loop = asyncio.new_event_loop()
        self._starting, self._telling = (
            threading.Lock(),
            threading.Lock(),
        )  # Beam's workers have several threads
        self._is_running = False
        self._is_open = False

    def __call__(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """Judges candidates, those with equal pictures and phrases once.

        Raises: EndpointError, ConfigError, StorageError.
        """
        asked = [_Question(found.phrase, found.jpeg, (224, 224)) for found in candidates]
        answers = self._answer(VERIFY_CROP, asked)
        return [
            Verdict("unsure", f"no usable reply: {answer['fault']}")
            if "fault" in answer
            else Verdict(answer["verdict"], answer["reason"])
            for answer in answers
        ]

    def find_points(
        self, images: Sequence[np.ndarray], phrases: Sequence[str]
    ) -> list[tuple[float, float] | None]:
        """Points at `phrases[i]` in `images[i]`, (H, W, 3) uint8 RGB; pixels of the image.

        Raises: EndpointError, ConfigError, StorageError.
        """
        asked, sizes_wh = [], []
        for image, phrase in zip(images, phrases, strict=True):
            sent = fit_frame(image)
            asked.append(_Question(phrase, encode_jpeg(sent), (sent.shape[1], sent.shape[0])))
            sizes_wh.append((image.shape[1], image.shape[0]))
        answers = self._answer(FIND_POINT, asked)
        return [
            point_to_frame((answer["x"], answer["y"]), sent_wh=question.size_wh, frame_wh=size_wh)
            if answer.get("found")
            else None
            for answer, question, size_wh in zip(answers, asked, sizes_wh, strict=True)
        ]

    def _answer(self, task: _PictureTask, asked: Sequence[_Question]) -> list[Mapping[str, Any]]:
        """The answer to each question, from the cache or from the model."""
        cache = self._caches[task.prompt.name]
        distinct = {question.key: question for question in asked}
        known = {key: read_answer(task, question, cache) for key, question in distinct.items()}
        waiting = [distinct[key] for key, answer in known.items() if answer is None]
        self._num_cached += len(distinct) - len(waiting)
        if waiting:
            try:
                self._run(self._ask(task, waiting, cache))
            finally:
                self._tell()
            known |= {question.key: read_answer(task, question, cache) for question in waiting}
        return [known[question.key] or {"fault": "missing-item"} for question in asked]

    async def _ask(
        self, task: _PictureTask, waiting: Sequence[_Question], cache: ReplyCache
    ) -> None:
        if not self._is_open:
            await self._chat.__aenter__()
            self._is_open = True
        size = 1
        failed: list[tuple[_Question, ReplyError]] = []
        if task is VERIFY_CROP:
            waiting, failed = await self._settle_size(waiting, cache)
            size = self._crops_per_request or 1
        await ask_items(
            waiting, task, chat=self._chat, cache=cache, items_per_request=size, failed=failed
        )

    async def _settle_size(
        self, waiting: Sequence[_Question], cache: ReplyCache
    ) -> tuple[Sequence[_Question], list[tuple[_Question, ReplyError]]]:
        """Finds out with the first crops whether the server takes several.

        Returns: what is not asked yet, and what was without an answer.
        """
        if self._crops_per_request is not None or len(waiting) < 2:
            return waiting, []
        first, rest = waiting[:1], waiting[1:]
        several = [item for item in rest if VERIFY_CROP.is_plain(item)][:CROPS_PER_REQUEST]
        await ask_items(first, VERIFY_CROP, chat=self._chat, cache=cache, items_per_request=1)
        if len(several) < 2:
            return rest, []
        faults = await ask_once(VERIFY_CROP, several, {}, self._chat, cache)
        is_refused = len(faults) == len(several) and faults[0][1].reason in _REFUSALS
        self._crops_per_request = 1 if is_refused else CROPS_PER_REQUEST
        if is_refused:
            return rest, []
        asked = {item.key for item in several}
        return [item for item in rest if item.key not in asked], faults

    def _tell(self) -> None:
        """Says what this process has spent; one thread at a time, so that the last is the most."""
        with self._telling:
            usage, prices = self._chat.usage, self._chat.options.prices
            self._on_spent(spent_on(usage, num_cached=self._num_cached, prices=prices))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs to the end in this verifier's own loop, in a thread that has no other."""
        with self._starting:
            if not self._is_running:
                threading.Thread(target=self._loop.run_forever, daemon=True).start()
                self._is_running = True
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _image_part(jpeg: bytes) -> dict[str, Any]:
    url = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}
