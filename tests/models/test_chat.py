"""One endpoint, asked by the real client: what it is sent, and when it is given up."""

import asyncio
import contextlib
import itertools
import math
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from fake_openai import FakeOpenAi, RefusedError

from ilv_dataset.errors import ConfigError, EndpointError, IlvError, ReplyError
from ilv_dataset.models import chat as chats
from ilv_dataset.models.chat import Chat, ChatOptions
from ilv_dataset.models.endpoints import api_key, shown_url
from ilv_dataset.models.http_texts import is_http_url, retry_after_s
from ilv_dataset.prompts import Prompt

KEY = "sk-live-0123456789"
PROMPT = Prompt("find.v1", "Find it, in JSON.", '{"type": "object"}')
ONE = '{"items": [{"id": 1, "instruction": "lift the cup"}]}'
ANSWER = (
    '{"items": [{"id": 1, "objects": '
    '[{"phrase": "cup", "query": "cup", "kind": "container"}]}]}'
)  # fmt: skip
BACKOFF_S = 0.02


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch):
    monkeypatch.setattr(chats, "_BACKOFF_S", BACKOFF_S)


class Refusing(FakeOpenAi):
    """Refuses what holds the word POISON; `status` 0 cannot be."""

    status = 400
    code = "content_filter"
    message = f"not with Bearer {KEY}"

    def complete(self, body):
        if "POISON" in body["messages"][1]["content"]:
            raise RefusedError(self.status, self.code, self.message)
        return super().complete(body)


async def ask_in_turn(chat, contents):
    """The reply to each, or its error."""
    found = []
    for content in contents:
        try:
            found.append(await chat.ask(PROMPT, content))
        except IlvError as error:
            found.append(error)
    return found


def ask(server, *contents, at_once=False, **options):
    """The replies, or errors, one after another; the chat itself for a look at its account."""
    return ask_url(server.base_url, *contents, at_once=at_once, **options)


def ask_url(url, *contents, at_once=False, **options):
    async def run():
        async with Chat(ChatOptions("fake-model", url, **options)) as chat:
            if at_once:
                asked = [chat.ask(PROMPT, content) for content in contents]
                return await asyncio.gather(*asked, return_exceptions=True), chat
            return await ask_in_turn(chat, contents), chat

    return asyncio.run(run())


def gaps_s(server):
    return [b.time_s - a.time_s for a, b in itertools.pairwise(server.requests)]


def formats(server):
    found = [request.body.get("response_format", {}) for request in server.requests]
    return [one.get("type", "text") for one in found]


def one_line(error, kind):
    assert type(error) is kind
    assert "\n" not in str(error)
    assert len(str(error)) < 400
    return str(error)


def test_a_request_carries_prompt_schema_and_temperature():
    with FakeOpenAi() as server:
        [reply], _ = ask(server, ONE)
    assert (reply.text, reply.fault) == (ANSWER, "")
    assert server.requests[0].body == {
        "model": "fake-model",
        "messages": [
            {"role": "system", "content": "Find it, in JSON."},
            {"role": "user", "content": ONE},
        ],
        "temperature": 0,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "find_v1", "strict": True, "schema": {"type": "object"}},
        },
    }


def test_tokens_are_those_that_the_server_counts():
    with FakeOpenAi() as server:  # four characters a token: 17 + 53 in, 90 out
        [reply, _], chat = ask(server, ONE, ONE)
    assert (len(PROMPT.text + ONE), len(ANSWER)) == (70, 91)
    assert (reply.tokens_in, reply.tokens_out) == (18, 23)
    usage = chat.usage
    assert (usage.requests, usage.tokens_in, usage.tokens_out, usage.tokens) == (2, 36, 46, 82)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    ("structured", "sent"),
    [
        ("json_schema", ["json_schema"] * 3),
        ("ignored", ["json_schema"] * 3),
        ("json_object", ["json_schema"] + ["json_object"] * 3),
        ("text", ["json_schema", "json_object"] + ["text"] * 3),
    ],
)
def test_what_the_server_takes_is_found_out_once(structured, sent, at_once):
    with FakeOpenAi(structured=structured) as server:
        replies, _ = ask(server, ONE, ONE, ONE, at_once=at_once)
    assert [reply.text for reply in replies] == [ANSWER] * 3
    assert formats(server) == sent


def test_a_temperature_that_is_refused_is_left_out_from_then_on():
    with FakeOpenAi(refuse_temperature=True, structured="json_object") as server:
        ask(server, ONE, ONE)
    sent = [request.body.get("temperature") for request in server.requests]
    assert sent == [0, None, None, None]
    assert formats(server) == ["json_schema", "json_schema", "json_object", "json_object"]


def test_one_request_that_is_refused_does_not_stop_the_others():
    with Refusing() as server:
        [refused, *others, again], _ = ask(server, f"{ONE} POISON", ONE, ONE, f"{ONE} POISON")
    assert (refused.reason, again.reason) == ("bad-request", "bad-request")
    assert [reply.text for reply in others] == [ANSWER] * 2
    assert server.num_requests == 7  # three formats and a harmless one, then one each


def test_a_server_that_refuses_every_request_is_one_line():
    class RefusingAll(Refusing):
        def complete(self, body):
            raise RefusedError(422, "no", "no such thing")

    with RefusingAll() as server:
        found, _ = ask(server, ONE, ONE, ONE, at_once=True)
    for error in found:
        assert "refuses every request: HTTP 422: no such thing" in one_line(error, ConfigError)
    assert server.num_requests == 6


@pytest.mark.parametrize(
    ("options", "model", "says"),
    [
        ({"api_key": "sk-right"}, "fake-model", "HTTP 401: the key in OPENAI_API_KEY is refused"),
        ({"forbidden": True}, "fake-model", "HTTP 403: this key may not use this endpoint"),
        ({"models": ("b", "a")}, "c", "HTTP 404: the model `c` does not exist; it has a, b"),
        ({"models": ()}, "c", "does not exist; it has no models"),
    ],
)
def test_a_wrong_key_or_model_stops_all_at_once_with_one_line(monkeypatch, options, model, says):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    async def run(url):
        async with Chat(ChatOptions(model, url)) as chat:
            asked = [chat.ask(PROMPT, ONE) for _ in range(5)]
            return await asyncio.gather(*asked, return_exceptions=True)

    with FakeOpenAi(**options) as server:
        found = asyncio.run(run(server.base_url))
    for error in found:
        line = one_line(error, ConfigError)
        assert line.startswith(f"{server.base_url}: ")
        assert says in line
        assert KEY not in line
    assert server.num_requests == 1


def test_a_wrong_path_says_how_an_endpoint_mostly_ends():
    with FakeOpenAi(has_batches=False) as server:
        [error], _ = ask_url(server.base_url.removesuffix("/v1"), ONE)
    assert "is --llm-base-url right? It mostly ends in /v1" in one_line(error, ConfigError)


@pytest.mark.parametrize("status", [400, 402, 403, 404, 418, 429, 500])
def test_no_message_repeats_the_key_that_the_server_does(monkeypatch, status):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(Refusing, "status", status)
    monkeypatch.setattr(Refusing, "code", "insufficient_quota" if status == 429 else "no")
    with Refusing() as server:
        [error], _ = ask(server, f"{ONE} POISON")
    assert server.requests[0].authorization == f"Bearer {KEY}"
    assert "not with Bearer ***" in str(error)
    while error is not None:
        assert KEY not in str(error) or not isinstance(error, IlvError)
        error = error.__cause__


def test_a_page_that_holds_the_key_is_not_quoted_with_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for before in range(64, 81, 4):
        found, _ = serve([http(200, "x" * before + KEY)] * 12, ONE)
        assert "***" in str(found[0])
        assert KEY[:6] not in str(found[0])


@pytest.mark.parametrize("key", ["sk-tést", "sk-a\nb", "sk-\0"])
def test_a_key_that_cannot_be_one_is_refused_unseen(monkeypatch, key):
    with contextlib.suppress(ValueError):  # no environment holds the last
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(ConfigError) as error:
            Chat(ChatOptions("m", "http://localhost:1/v1"))
        assert str(error.value) == "the key in OPENAI_API_KEY has characters that no key has"


def test_a_key_is_sent_without_the_line_break_of_its_file(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    with FakeOpenAi(api_key=KEY) as server:
        [reply], _ = ask(server, ONE)
    assert reply.text == ANSWER


def test_openai_needs_a_key_and_a_server_of_ones_own_does_not():
    with pytest.raises(ConfigError, match="needs a key in OPENAI_API_KEY; for a server of your"):
        api_key("https://api.openai.com/v1")
    assert shown_url("http://me:s3cret@host:8000/v1") == "http://host:8000/v1"
    assert api_key("http://localhost:8000/v1")


@pytest.mark.parametrize("url", ["", "localhost:8000/v1", "ftp://x", "http://", "http://[x", "x"])
def test_what_is_no_url_is_one_line(url):
    with pytest.raises(ConfigError, match="no URL: "):
        Chat(ChatOptions("m", url))
    assert not is_http_url("http://host:port")
    assert is_http_url("https://user@host.example:8443/a/v1")


@pytest.mark.parametrize("fault", ["500", "reset", "not-json", "html"])
def test_a_fault_is_tried_again(fault):
    with FakeOpenAi(faults=[None, fault, fault]) as server:
        replies, chat = ask(server, ONE, ONE)
    assert [reply.text for reply in replies] == [ANSWER] * 2
    assert chat.usage.requests == server.num_requests == 4


@pytest.mark.parametrize(
    ("fault", "reason", "says"),
    [
        ("500", "server-error", "HTTP 500: as the script says"),
        ("html", "server-error", "not a chat completion: <html>Sign in to the network</html>"),
        ("not-json", "server-error", 'not a chat completion: {"choices": ['),
        ("reset", "server-error", ""),
        ("hang", "timed-out", "no reply in 0.5 s"),
        ("slow", "timed-out", "no reply in 0.5 s"),
    ],
)
def test_a_request_that_always_fails_is_given_up_after_three(fault, reason, says):
    with FakeOpenAi(faults=[None, fault, fault, fault]) as server:
        limit = {"timeout_s": 0.5} if reason == "timed-out" else {}
        [_, error, reply], _ = ask(server, ONE, ONE, ONE, **limit)
    assert (type(error), error.reason) == (ReplyError, reason)
    assert says in str(error)
    assert reply.text == ANSWER
    assert server.num_requests == 5


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("huge", "reply-too-large"), ("refusal", "refused"), ("empty", "empty-reply")],
)
def test_a_reply_of_no_use_is_not_asked_for_again(fault, reason):
    with FakeOpenAi(faults=[fault]) as server:
        [error, reply], chat = ask(server, ONE, ONE)
    assert (type(error), error.reason) == (ReplyError, reason)
    assert reply.text == ANSWER
    assert chat.usage.requests == server.num_requests == 2


def test_eight_requests_in_a_row_that_fail_stop_the_run():
    with FakeOpenAi(faults=[None, *["500"] * 30]) as server:
        found, _ = ask(server, *[ONE] * 11)
    assert [type(error) for error in found[1:]] == [ReplyError] * 7 + [EndpointError] * 3
    assert "8 requests in a row failed, the last with: HTTP 500" in str(found[-1])
    assert server.num_requests == 1 + 8 * 3 + 1  # the last with nothing in it that may be at fault


def test_requests_that_are_at_fault_themselves_do_not_stop_the_run():
    with FakeOpenAi(fault_for=lambda texts: "500" if texts else None) as server:
        found, chat = ask(server, *[ONE] * 17)
    assert {(type(error), error.reason) for error in found} == {(ReplyError, "server-error")}
    assert chat.has_succeeded
    assert server.num_requests == 17 * 3 + 3  # after the first, the ninth, and the seventeenth


def test_a_busy_server_is_asked_again_after_growing_waits():
    with FakeOpenAi(faults=["429", "503", "429", "429"]) as server:
        [reply], _ = ask(server, ONE)
    assert reply.text == ANSWER
    assert len(gaps_s(server)) == 4  # more than the three tries of another fault
    for number, gap_s in enumerate(gaps_s(server)):
        assert gap_s >= BACKOFF_S * 2**number / 2


def test_retry_after_holds_for_all_requests():
    with FakeOpenAi(faults=[None, "429:0.4"]) as server:
        replies, _ = ask(server, ONE, at_once=True)
        replies, _ = ask(server, *[ONE] * 4)
    assert [reply.text for reply in replies] == [ANSWER] * 4
    begun, *others = (request.time_s for request in server.requests[1:])
    assert min(others) - begun >= 0.4
    assert min(others) - begun < 1.4


def test_retry_after_may_be_a_date():
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)  # 1 s to 2 s from now
    with FakeOpenAi(faults=[f"429:{format_datetime(until, usegmt=True)}"]) as server:
        [reply], _ = ask(server, ONE)
    assert reply.text == ANSWER
    assert 0.8 <= gaps_s(server)[0] < 3


def test_retry_after_0_is_no_leave_to_hammer():
    with FakeOpenAi(faults=["429:0"] * 4) as server:
        ask(server, ONE)
    assert sum(gaps_s(server)) >= BACKOFF_S * (1 + 2 + 4 + 8) / 2


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("-3", 0),
        ("Wed, 21 Oct 2015 07:28:10 GMT", 10),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:28:10 -0000", 10),
        ("Wed, 21 Oct 2015 08:28:10 +0100", 10),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_counts_from_the_date_of_the_reply(value, wait_s):
    headers = {"retry-after": value, "date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert retry_after_s(headers) == wait_s
    assert retry_after_s({"date": headers["date"]}) is None
    assert math.isinf(retry_after_s({"retry-after": "inf"}))


@pytest.mark.parametrize("fault", ["429:601", "503:inf"])
def test_a_server_that_asks_for_more_than_ten_minutes_stops_the_run(fault):
    with FakeOpenAi(faults=[fault]) as server:
        [error], _ = ask(server, ONE)
    assert "is busy (HTTP" in one_line(error, EndpointError)
    assert "run again later to go on" in str(error)


@pytest.mark.parametrize(("status", "code"), [(429, "insufficient_quota"), (402, "unpaid")])
def test_an_account_that_is_empty_stops_at_once(monkeypatch, status, code):
    monkeypatch.setattr(Refusing, "status", status)
    monkeypatch.setattr(Refusing, "code", code)
    with Refusing() as server:
        [reply, error, after], _ = ask(server, ONE, f"{ONE} POISON", ONE)
    assert reply.text == ANSWER
    assert f"HTTP {status}" in one_line(error, EndpointError)
    assert str(after) == str(error)
    assert server.num_requests == 2


def test_a_budget_of_requests_is_not_overdrawn_by_tries():
    with FakeOpenAi(faults=["500", None, "500"]) as server:
        [reply, error], chat = ask(server, ONE, ONE, max_requests=3)
    assert reply.text == ANSWER
    line = one_line(error, EndpointError)
    assert line == "--llm-max-requests 3 are spent; run again to go on"
    assert chat.usage.requests == server.num_requests == 3


@pytest.mark.parametrize("at_once", [False, True])
def test_a_budget_of_tokens_stops_what_would_go_beyond(at_once):
    with FakeOpenAi(latency_s=0.05) as server:  # 41 tokens a request
        found, chat = ask(server, *[ONE] * 6, max_tokens=100, at_once=at_once)
    assert [type(one).__name__ for one in found] == ["Reply"] * 3 + ["EndpointError"] * 3
    assert str(found[-1]) == "--llm-max-tokens 100 are spent; run again to go on"
    assert (chat.usage.tokens, server.num_requests) == (123, 3)


def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_an_endpoint_that_is_not_there_is_one_line_after_some_patience():
    begun = time.monotonic()
    url = f"http://127.0.0.1:{closed_port()}/v1"
    found, chat = ask_url(url, *[ONE] * 5, at_once=True, patience_s=0.3)
    assert 0.3 <= time.monotonic() - begun < 5
    for error in found:
        line = one_line(error, EndpointError)
        assert line.startswith(f"{url} cannot be reached (")
        assert line.endswith("run again to go on")
    assert chat.usage.requests > 3


def test_an_endpoint_that_says_nothing_is_waited_for_once_and_not_by_each():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        begun = time.monotonic()
        found, _ = ask_url(url, *[ONE] * 16, at_once=True, patience_s=0.4, timeout_s=0.3)
    assert {type(error) for error in found} == {EndpointError}
    assert time.monotonic() - begun < 3


def test_an_endpoint_that_comes_up_late_is_waited_for(monkeypatch):
    monkeypatch.setattr(chats, "_BACKOFF_S", 0.1)

    async def run(port):
        options = ChatOptions("fake-model", f"http://127.0.0.1:{port}/v1", patience_s=20)
        async with Chat(options) as chat:
            asked = asyncio.create_task(chat.ask(PROMPT, ONE))
            await asyncio.sleep(0.3)
            with FakeOpenAi(port=port):
                return (await asked).text

    assert asyncio.run(run(closed_port())) == ANSWER


def http(status, body, *, length=None):
    head = f"HTTP/1.1 {status} X\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n{body}".encode()


def serve(replies, *contents, **options):
    """Asks a server that sends these bytes to chat requests, one after another, and hangs up."""
    waiting = iter(replies)

    async def run():
        async def answer(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            is_chat = head.startswith(b"POST")
            writer.write(next(waiting) if is_chat else http(200, '{"data": []}'))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, Chat(ChatOptions("m", f"http://127.0.0.1:{port}/v1", **options)) as chat:
            return await ask_in_turn(chat, contents), chat

    return asyncio.run(run())


COMPLETION = '{"choices": [{"message": {"content": "yes"}}]}'


@pytest.mark.parametrize(
    "fault",
    [
        http(200, COMPLETION[:9], length=len(COMPLETION)),
        b"",
        b"no HTTP at all\r\n\r\n",
        http(200, COMPLETION).replace(b"text/plain", b"text/plain\r\nContent-Encoding: gzip"),
        http(200, "[" * 100_000),
        http(200, '{"choices": []}'),
        http(200, '{"choices": [{"message": null}]}'),
        http(200, '{"error": "overloaded"}'),
        http(200, '{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "x"}}'),
        http(502, "<html>Bad gateway</html>"),
    ],
    ids=[
        "hangs up", "empty", "not HTTP", "not gzip", "deep", "no choice", "no message", "error",
        "no number", "502",
    ],
)  # fmt: skip
def test_a_reply_that_breaks_off_or_is_none_is_tried_again(fault):
    [reply], chat = serve([fault, http(200, COMPLETION)], ONE)
    assert (reply.text, reply.tokens_in, reply.tokens_out) == ("yes", 0, 0)
    assert chat.usage.requests == 2


def test_a_reply_may_lack_its_usage():
    [reply], chat = serve([http(200, COMPLETION)], ONE)
    assert (reply.text, chat.usage.tokens) == ("yes", 0)
