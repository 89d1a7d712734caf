"""An OpenAI-compatible server on loopback that answers our prompts by rule, or fails as told.

    python -m tests.fake_openai --port 8000 --latency-ms 500 --fault 429:0.2 --fault truncated

prints its base URL, then a line a request. It speaks chat completions, models and the Batch API.
The last JSON object of a user's message that has the shape of one of our tasks says what to do.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.server
import itertools
import json
import math
import re
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from ilv_dataset.grammar import parse_instruction

CHAT = "/v1/chat/completions"
STATUS_FAULTS = ("429", "500", "503")  # "429:0.2" sends Retry-After: 0.2
WIRE_FAULTS = ("reset", "hang", "slow", "not-json", "html")
ITEM_FAULTS = ("missing", "invented", "extra", "reorder", "obey")  # "missing:0": not the last item
TEXT_FAULTS = ("truncated", "fence", "prose", "huge", "empty", "refusal")
FAULTS = (*STATUS_FAULTS, *WIRE_FAULTS, *ITEM_FAULTS, *TEXT_FAULTS)
STRUCTURED = ("text", "json_object", "json_schema")  # a server that has one has those before it

KINDS = ("instruction", "paragraph", "phrase", "point_at")  # of task: a key of its items
INVENTED = {"phrase": "flux capacitor", "query": "flux capacitor", "kind": "object"}
UNKNOWN_ID = 999_999
HUGE_CHARS = 10_000_000
DRIP_S = 0.2

Json = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What a chat request asks for; `kind` is empty where it is none of our tasks."""

    kind: str = ""
    items: Sequence[Json] = ()
    image_urls: Sequence[str] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(item[self.kind] for item in self.items)


@dataclass(frozen=True)
class ChatRequest:
    """One chat request as it came, or one line of a batch, whose `path` is the batch's id."""

    path: str
    body: Json
    authorization: str
    num_concurrent: int  # this one included
    texts: tuple[str, ...]  # of its items
    time_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Reply:
    """JSON or bytes under a status, or a fault of the wire in their place."""

    payload: Any = None
    status: int = 200
    retry_after: str = ""
    wire_fault: str = ""
    note: str = ""  # for the log


class RefusedError(Exception):
    """A request that gets an error for an answer."""

    def __init__(self, status: int, code: str, message: str, retry_after: str = "") -> None:
        super().__init__(message)
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        self.reply = Reply({"error": error}, status, retry_after, note=code)


def read_message(message: Json) -> tuple[str, list[str]]:
    """Its text and the URLs of its pictures."""
    parts = message.get("content") or ""
    if isinstance(parts, str):
        return parts, []
    text = "".join(part["text"] for part in parts if part["type"] == "text")
    return text, [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def read_task(messages: Sequence[Json]) -> Task:
    """The last task that the user's messages hold."""
    task = Task()
    for message in messages:
        text, image_urls = read_message(message)
        for question in iterate_objects(text) if message["role"] == "user" else ():
            items = question.get("items", [question])
            first = items[0] if isinstance(items, list) and items else None
            for kind in KINDS:
                if isinstance(first, dict) and kind in first:
                    task = Task(kind, items, image_urls)
    return task


def iterate_objects(text: str) -> Iterator[Json]:
    """The JSON objects of a text, the outermost only."""
    at = text.find("{")
    while at >= 0:
        end = at + 1
        with contextlib.suppress(ValueError):
            value, end = json.JSONDecoder().raw_decode(text, at)
            yield value
        at = text.find("{", end)


def decode_images(image_urls: Sequence[str], *, num_wanted: int) -> list[bytes]:
    heads = [url.partition(";base64,")[0] for url in image_urls]
    if len(heads) != num_wanted or not all(head.startswith("data:image/") for head in heads):
        message = f"expected {num_wanted} pictures as data: URLs, got {heads}"
        raise RefusedError(400, "invalid_image_url", message)
    return [base64.b64decode(url.partition(";base64,")[2], validate=True) for url in image_urls]


def find_objects(instruction: str) -> list[Json]:
    found = parse_instruction(instruction).objects
    return [{"phrase": one.phrase, "query": one.query, "kind": one.kind} for one in found]


def check_fault(fault: str | None) -> None:
    if fault is not None and fault.partition(":")[0] not in FAULTS:
        raise ValueError(f"expected a fault among {', '.join(FAULTS)}, got {fault!r}")


def spoil_answer(answer: Json, task: Task, fault: str, at: int) -> Json:
    """The answer with items wrong as one of ITEM_FAULTS says; another leaves it as it is."""
    if "items" not in answer:
        return answer
    items = list(answer["items"])
    if fault == "missing":
        del items[at]
    elif fault == "extra":
        items.append({**items[-1], "id": UNKNOWN_ID})
    elif fault == "reorder":
        items.reverse()
    elif fault == "invented" and "objects" in items[at]:
        items[at] = {**items[at], "objects": [*items[at]["objects"], INVENTED]}
    elif fault == "obey" and any("ignore" in text.lower() for text in task.texts):
        items = [{**item, "objects": []} for item in items]
    return {"items": items}


def spoil_content(content: str, fault: str) -> str | None:
    """The text of the reply as one of TEXT_FAULTS leaves it."""
    spoilt = {
        "truncated": content[: len(content) // 2],
        "fence": f"```json\n{content}\n```",
        "prose": f"Sure! Here you go: {content} Hope it helps",
        "empty": "",
        "refusal": None,
    }
    return "x" * HUGE_CHARS if fault == "huge" else spoilt.get(fault, content)


def make_completion(body: Json, answer: Json, fault: str) -> Json:
    whole = json.dumps(answer, ensure_ascii=False)
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    fitting = whole[: limit * 4] if limit else whole
    content = spoil_content(fitting, fault)
    refusal = "I cannot help with that." if content is None else None
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content, "refusal": refusal},
        "finish_reason": "length" if fault == "truncated" or fitting != whole else "stop",
    }
    about = {"id": "chatcmpl-fake", "object": "chat.completion", "created": int(time.time())}
    usage = count_tokens(body["messages"], content or "")
    return {**about, "model": body["model"], "choices": [choice], "usage": usage}


def count_tokens(messages: Sequence[Json], content: str) -> Json:
    """Four characters a token, rounded up, and 85 tokens a picture."""
    texts, image_urls = zip(*map(read_message, messages), strict=True)
    prompt = -(-sum(map(len, texts)) // 4) + 85 * sum(map(len, image_urls))
    completion = -(-len(content) // 4)
    total = prompt + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}


@dataclass(kw_only=True)
class FakeOpenAi:
    """Serves from a thread while its context is open, and raises there what broke in it."""

    models: Sequence[str] | None = ("fake-model",)  # None: any model, and no /v1/models
    structured: str = "json_schema"  # or "json_object", "text", "ignored"
    api_key: str | None = None  # None: any, or none
    forbidden: bool = False
    max_images: int | None = None  # a request
    refuse_temperature: bool = False
    has_batches: bool = True
    batch_polls: int = 3  # which poll finds it ended; validating, then in_progress before that
    batch_end: str = "completed"  # or "failed", or "expired" with half of the lines answered
    latency_s: float = 0.0  # of a chat request
    faults: Sequence[str | None] = ()  # one for each chat request that is not refused
    num_answered_max: float = math.inf  # chat requests that come after so many hang
    fault_for: Callable[[Sequence[str]], str | None] = lambda texts: None
    verdict: Callable[[str, bytes], tuple[str, str]] = lambda phrase, jpeg: ("match", "looks right")
    key_point: Callable[[str, bytes, int, int], tuple[int, int] | None] = (
        lambda phrase, jpeg, width, height: (width // 2, height // 2)
    )
    port: int = 0  # 0: a free one
    is_recording: bool = True  # False keeps counts alone, for long runs
    log: Callable[[str], None] = lambda line: None  # gets a line a request

    base_url: str = field(init=False, default="")
    requests: list[ChatRequest] = field(init=False, default_factory=list)
    batch_requests: list[ChatRequest] = field(init=False, default_factory=list)
    calls: list[str] = field(init=False, default_factory=list)  # all: "GET /v1/models 200"
    errors: list[BaseException] = field(init=False, default_factory=list)
    num_requests: int = field(init=False, default=0)  # chat requests
    num_concurrent: int = field(init=False, default=0)
    max_concurrent: int = field(init=False, default=0)
    stopped: threading.Event = field(init=False, default_factory=threading.Event)

    def __post_init__(self) -> None:
        for fault in self.faults:
            check_fault(fault)
        if self.structured not in (*STRUCTURED, "ignored"):
            raise ValueError(f"structured must be ignored or among {STRUCTURED}")
        self._faults = iter(self.faults)
        self._batches = Batches(self)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._server = Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.stop()
        if self.errors and error is None:
            raise self.errors[0]

    def stop(self) -> None:
        """Ends every connection; what still waits for a reply gets none."""
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reply(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        path = urlsplit(url).path
        authorization = headers.get("Authorization", "")
        try:
            if (method, path) == ("POST", CHAT):
                reply = self._chat(json.loads(body), authorization)
            else:
                self._check_key(authorization)
                reply = self._route(method, url, headers.get("Content-Type", ""), body)
        except RefusedError as refused:
            reply = refused.reply
        line = f"{method} {path} {reply.wire_fault or reply.status}"
        if self.is_recording:
            self.calls.append(line)
        self.log(f"{line} {reply.note}")
        return reply

    def _route(self, method: str, url: str, content_type: str, body: bytes) -> Reply:
        if (method, url) == ("GET", "/v1/models") and self.models is not None:
            about = {"object": "model", "created": 0, "owned_by": "us"}
            models = [{"id": name, **about} for name in self.models]
            return Reply({"object": "list", "data": models})
        if not self.has_batches:
            raise RefusedError(404, "not_found", f"no {url} here")
        return self._batches.reply(method, url, content_type, body)

    def _chat(self, body: Json, authorization: str) -> Reply:
        leaves_at = time.monotonic() + self.latency_s
        with self._lock:
            self.num_requests += 1
            self.num_concurrent += 1
            self.max_concurrent = max(self.max_concurrent, self.num_concurrent)
            self.record(self.requests, CHAT, body, authorization)
            is_held = self.num_requests > self.num_answered_max
        try:
            self._check_key(authorization)
            return Reply(wire_fault="hang") if is_held else self.complete(body)
        finally:
            self.stopped.wait(leaves_at - time.monotonic())  # the answer took a part of it to make
            # Before the reply leaves, so that the client's next one is not counted with it.
            with self._lock:
                self.num_concurrent -= 1

    def record(self, to: list[ChatRequest], path: str, body: Json, authorization: str) -> None:
        if self.is_recording:
            texts = read_task(body["messages"]).texts
            to.append(ChatRequest(path, body, authorization, self.num_concurrent, texts))

    def complete(self, body: Json) -> Reply:
        """Answers the body of a chat request, or of a line of a batch."""
        self._check_body(body)
        task = read_task(body["messages"])
        with self._lock:
            scripted = next(self._faults, None)
        fault = scripted or self.fault_for(task.texts)
        check_fault(fault)
        name, _, detail = (fault or "").partition(":")
        note = f"{len(task.texts)} items {name}".rstrip()
        if name in STATUS_FAULTS:
            raise RefusedError(int(name), f"scripted_{name}", "as the script says", detail)
        if name in WIRE_FAULTS:
            return Reply(wire_fault=name, note=note)
        answer = spoil_answer(self._answer(task), task, name, int(detail or -1))
        return Reply(make_completion(body, answer, name), note=note)

    def _check_key(self, authorization: str) -> None:
        """Repeats the key that came, as some servers do: ours must not print it."""
        if self.api_key is not None and authorization != f"Bearer {self.api_key}":
            raise RefusedError(401, "invalid_api_key", f"incorrect API key: {authorization}")
        if self.forbidden:
            raise RefusedError(403, "forbidden", "this key may not use this endpoint")

    def _check_body(self, body: Json) -> None:
        texts, image_urls = zip(*map(read_message, body["messages"]), strict=True)
        num_images = sum(map(len, image_urls))
        if self.models is not None and body["model"] not in self.models:
            message = f"the model `{body['model']}` does not exist"
            raise RefusedError(404, "model_not_found", message)
        if body.get("stream"):
            raise RefusedError(400, "unsupported_value", "Unsupported value: 'stream'")
        if self.refuse_temperature and "temperature" in body:
            raise RefusedError(400, "unsupported_value", "Unsupported value: 'temperature'")
        if self.max_images is not None and num_images > self.max_images:
            message = f"at most {self.max_images} image(s) a prompt, got {num_images}"
            raise RefusedError(400, "too_many_images", message)
        wanted = body.get("response_format", {}).get("type", "text")
        if self.structured == "ignored":
            return
        if wanted not in STRUCTURED[: STRUCTURED.index(self.structured) + 1]:
            message = f"Unsupported value: 'response_format' of type '{wanted}'"
            raise RefusedError(400, "unsupported_value", message)
        if wanted == "json_object" and "json" not in "".join(texts).lower():
            raise RefusedError(400, "invalid_value", "'messages' must contain the word 'json'")

    def _answer(self, task: Task) -> Json:
        if not task.kind:
            return {}
        if task.kind == "point_at":
            [item], [image] = task.items, decode_images(task.image_urls, num_wanted=1)
            found = self.key_point(item["point_at"], image, item["width"], item["height"])
            x, y = found or (0, 0)
            answer = {"found": found is not None, "x": x, "y": y}
            return {"items": [{"id": item["id"], **answer}]} if "id" in item else answer
        if task.kind == "instruction":
            answers = [{"objects": find_objects(text)} for text in task.texts]
        elif task.kind == "paragraph":
            answers = [{"summary": re.split(r"(?<=[.!?])\s", text)[0]} for text in task.texts]
        else:
            images = decode_images(task.image_urls, num_wanted=len(task.items))
            told = map(self.verdict, task.texts, images)
            answers = [{"verdict": verdict, "reason": reason} for verdict, reason in told]
        pairs = zip(task.items, answers, strict=True)
        return {"items": [{"id": item["id"], **answer} for item, answer in pairs]}


class Batches:
    """The files and batches of one server."""

    def __init__(self, fake: FakeOpenAi) -> None:
        self._fake = fake
        self._files: dict[str, bytes] = {}
        self._batches: dict[str, Json] = {}  # as the API shows them
        self._num_polls: dict[str, int] = {}
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def reply(self, method: str, url: str, content_type: str, body: bytes) -> Reply:
        path = urlsplit(url).path
        with self._lock:
            match method, path.split("/")[2:]:
                case "POST", ["files"]:
                    return Reply(self._upload(content_type, body))
                case "GET", ["files", name, "content"] if name in self._files:
                    return Reply(self._files[name])
                case "POST", ["batches"]:
                    return Reply(self._create(json.loads(body)))
                case "GET", ["batches"]:
                    return Reply(self._list(parse_qs(urlsplit(url).query)))
                case "GET", ["batches", name] if name in self._batches:
                    return Reply({**self._poll(self._batches[name])})
                case "POST", ["batches", name, "cancel"] if name in self._batches:
                    self._batches[name]["status"] = "cancelling"
                    return Reply({**self._batches[name]})
        raise RefusedError(404, "not_found", f"no {method} {path} here")

    def _upload(self, content_type: str, body: bytes) -> Json:
        """Reads a multipart form; the parts are between marks, and end in a line break."""
        mark = b"--" + content_type.partition("boundary=")[2].strip('"').encode()
        fields = {}
        for part in body.split(mark)[1:-1]:
            head, _, content = part.removesuffix(b"\r\n").partition(b"\r\n\r\n")
            [name] = re.findall(rb' name="([^"]*)"', head)
            fields[name] = content
        if fields[b"purpose"] != b"batch":
            raise RefusedError(400, "invalid_purpose", f"got {fields[b'purpose']!r}")
        return self._keep(fields[b"file"])

    def _keep(self, content: bytes) -> Json:
        name = f"file-{next(self._ids)}"
        self._files[name] = content
        about = {"id": name, "object": "file", "bytes": len(content), "created_at": 0}
        return {**about, "filename": f"{name}.jsonl", "purpose": "batch", "status": "processed"}

    def _create(self, wanted: Json) -> Json:
        if wanted["input_file_id"] not in self._files or wanted["endpoint"] != CHAT:
            raise RefusedError(400, "invalid_request", f"no such file or endpoint: {wanted}")
        name = f"batch_{next(self._ids)}"
        about = {"id": name, "object": "batch", "created_at": int(time.time()), "metadata": None}
        self._batches[name] = {**about, **wanted, "status": "validating"}
        self._num_polls[name] = 0
        return self._batches[name]

    def _list(self, query: Mapping[str, list[str]]) -> Json:
        """One page, the newest first."""
        names = list(self._batches)[::-1]
        first = names.index(query["after"][0]) + 1 if "after" in query else 0
        end = first + int(query.get("limit", ["20"])[0])
        page = [self._batches[name] for name in names[first:end]]
        return {"object": "list", "data": page, "has_more": end < len(names)}

    def _poll(self, batch: Json) -> Json:
        self._num_polls[batch["id"]] += 1
        if batch["status"] == "cancelling":
            self._end(batch, "cancelled", share=0.0)
        elif batch["status"] in ("validating", "in_progress"):
            if self._num_polls[batch["id"]] >= self._fake.batch_polls:
                end = self._fake.batch_end
                self._end(batch, end, share=0.5 if end == "expired" else 1.0)
            elif self._num_polls[batch["id"]] > 1:
                batch["status"] = "in_progress"
        return batch

    def _end(self, batch: Json, status: str, *, share: float) -> None:
        """Answers a share of the lines; the results do not come in the order of the lines."""
        lines = [json.loads(line) for line in self._files[batch["input_file_id"]].splitlines()]
        is_valid = len({line["custom_id"] for line in lines}) == len(lines) > 0
        batch["status"] = status if is_valid else "failed"
        if batch["status"] == "failed":
            error = {"code": "invalid_input", "message": "the file is not valid", "line": 1}
            batch["errors"] = {"object": "list", "data": [error]}
            return
        num_answered = int(len(lines) * share)
        outcomes: dict[str, list[Json]] = {"output_file_id": [], "error_file_id": []}
        for at, line in reversed(list(enumerate(lines))):
            reply = self._complete(batch, line) if at < num_answered else Reply(wire_fault=status)
            is_right = not reply.wire_fault and reply.status == 200
            found = make_result(f"batch_req_{at}", line["custom_id"], reply)
            outcomes["output_file_id" if is_right else "error_file_id"].append(found)
        for key, found in outcomes.items():
            if found:
                content = "".join(json.dumps(one) + "\n" for one in found).encode()
                batch[key] = self._keep(content)["id"]
        completed, failed = map(len, outcomes.values())
        batch["request_counts"] = {"total": len(lines), "completed": completed, "failed": failed}

    def _complete(self, batch: Json, line: Json) -> Reply:
        self._fake.record(self._fake.batch_requests, batch["id"], line["body"], "")
        try:
            return self._fake.complete(line["body"])
        except RefusedError as refused:
            return refused.reply


def make_result(request_id: str, custom_id: str, reply: Reply) -> Json:
    """One line of the output or error file."""
    about = {"id": request_id, "custom_id": custom_id}
    if reply.wire_fault:
        error = {"code": f"batch_{reply.wire_fault}", "message": "this line was not answered"}
        return {**about, "response": None, "error": error}
    response = {"status_code": reply.status, "request_id": request_id, "body": reply.payload}
    return {**about, "response": response, "error": None}


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection, which stays open over many requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        num_bytes = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(num_bytes)
        if len(body) < num_bytes:  # the client is gone
            return
        reply = self.server.fake.reply(self.command, self.path, self.headers, body)
        if reply.wire_fault:
            self._fail(reply.wire_fault)
        elif isinstance(reply.payload, bytes):
            self._send(200, "application/octet-stream", reply.payload)
        else:
            content = json.dumps(reply.payload).encode()
            headers = [f"Retry-After: {reply.retry_after}"] if reply.retry_after else []
            self._send(reply.status, "application/json", content, *headers)

    do_GET = do_POST

    def _fail(self, fault: str) -> None:
        self.close_connection = fault in ("reset", "hang", "slow")
        if fault == "not-json":
            self._send(200, "application/json", b'{"choices": [')
        elif fault == "html":
            self._send(200, "text/html", b"<html>Sign in to the network</html>")
        elif fault == "reset":  # closing without lingering sends RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()
        elif fault == "hang":
            self.server.fake.stopped.wait()
        elif fault == "slow":
            self._send(200, "application/json", b"", num_bytes=HUGE_CHARS)
            while not self.server.fake.stopped.wait(DRIP_S):
                self.wfile.write(b" ")

    def _send(
        self, status: int, kind: str, content: bytes, *headers: str, num_bytes: int | None = None
    ) -> None:
        """Sends head and content at once: two packets would cost a round trip more."""
        length = len(content) if num_bytes is None else num_bytes
        first = f"HTTP/1.1 {status} {self.responses[status][0]}"
        lines = (first, f"Content-Type: {kind}", f"Content-Length: {length}", *headers, "", "")
        self.wfile.write("\r\n".join(lines).encode() + content)

    def log_message(self, format: str, *args: object) -> None:
        """The log is FakeOpenAi's."""


class Server(socketserver.ThreadingTCPServer):  # HTTPServer would look up the name of the machine
    """A thread a connection; none of them keeps it from stopping."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, fake: FakeOpenAi) -> None:
        super().__init__(("127.0.0.1", fake.port), Handler)
        self.fake = fake
        self._connections: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps what broke, but for a client that went away."""
        error = sys.exception()
        if error and not isinstance(error, ConnectionError) and not self.fake.stopped.is_set():
            self.fake.errors.append(error)
            super().handle_error(request, client_address)


def write_line(line: str) -> None:
    sys.stdout.write(f"{line.rstrip()}\n")
    sys.stdout.flush()


def main() -> None:
    options = parse_options()
    mismatches, pairs = options.pop("mismatch"), options.pop("fault_for")
    server = FakeOpenAi(
        **options,
        fault_for=lambda texts: next((f for word, f in pairs if word in " ".join(texts)), None),
        verdict=lambda phrase, _: ("mismatch" if phrase in mismatches else "match", "as told"),
        is_recording=False,
        log=write_line,
    )
    with server, contextlib.suppress(KeyboardInterrupt):
        write_line(server.base_url)
        threading.Event().wait()


def parse_options() -> Json:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fake_openai",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Faults: {', '.join(FAULTS)}; 429:SECONDS has Retry-After, missing:0 says which.",
    )
    add = parser.add_argument
    add("--port", type=int, default=0)
    add("--latency-ms", type=float, default=0, help="of a chat request")
    add("--models", nargs="*", default=["fake-model"], help="none: any, and no /v1/models")
    add("--structured", default="json_schema", choices=(*STRUCTURED, "ignored"))
    add("--api-key", help="refuse every other one")
    add("--forbidden", action="store_true")
    add("--max-images", type=int)
    add("--refuse-temperature", action="store_true")
    add("--batch-polls", type=int, default=3)
    add("--fault", dest="faults", action="append", default=[], help="of the next request")
    add("--fault-for", action="append", default=[], nargs=2, metavar=("WORD", "FAULT"))
    add("--mismatch", action="append", default=[], metavar="PHRASE", help="fails the verifier")
    options = vars(parser.parse_args())
    latency_s = options.pop("latency_ms") / 1000
    return {**options, "models": options["models"] or None, "latency_s": latency_s}


if __name__ == "__main__":
    main()
