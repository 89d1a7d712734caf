"""The Batch API on a real HTTP server: what is handed in, taken up again, and never twice."""

import json
import subprocess
import sys
import threading
from collections import Counter
from urllib.parse import urlsplit

import fake_openai
import pytest
from fake_openai import FakeOpenAi, RefusedError
from killing import killed_at_end

from ilv_dataset.errors import ConfigError, EndpointError
from ilv_dataset.extraction import batch_api
from ilv_dataset.extraction.extractor import LlmExtractor
from ilv_dataset.llm_options import LlmOptions
from ilv_dataset.models import chat as chats
from ilv_dataset.reply_cache import ReplyCache

CUP, DRAWER = "lift the red cup", "open the drawer"
CARROT, BANANA = "put the carrot on the plate", "take the banana"
FOUR = (CUP, DRAWER, CARROT, BANANA)  # in the order in which they are asked about
PHRASES = {CUP: ["red cup"], DRAWER: ["drawer"], CARROT: ["carrot", "plate"], BANANA: ["banana"]}
PARAGRAPH = (
    "Pick up the white mug and put it on the plate. Open the gripper first, lower it over the mug "
    "with great care, close it around the handle, lift it up and do not let anything fall."
)
SUMMARY = "Pick up the white mug and put it on the plate."
ILV = (sys.executable, "-c", "from ilv_dataset.cli import main; main()")


class Refusing(FakeOpenAi):
    """Refuses what is about the banana."""

    def complete(self, body):
        if BANANA in body["messages"][1]["content"]:
            raise RefusedError(400, "content_filter", "not about bananas")
        return super().complete(body)


class Holding(FakeOpenAi):
    """Does what it is asked, and keeps back the reply to one kind of call."""

    held = ""  # start of "POST /v1/batches"

    def __post_init__(self):
        super().__post_init__()
        self.reached, self.released = threading.Event(), threading.Event()

    def reply(self, method, url, headers, body):
        reply = super().reply(method, url, headers, body)
        if self.held and f"{method} {urlsplit(url).path}".startswith(self.held):
            self.reached.set()
            self.released.wait(30)
        return reply


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(chats, "_BACKOFF_S", 0.01)
    monkeypatch.setattr(batch_api, "_POLL_S", 0.005)


@pytest.fixture
def run(tmp_path):
    """Asks about instructions in batches; returns their rows and the extractor."""

    def run(server, *instructions, model="fake-model", out="out", batch=True, **options):
        given = LlmOptions(base_url=server.base_url, batch=batch, **{"timeout": 30, **options})
        extractor = LlmExtractor(model, given, out=str(tmp_path / out))
        extractor.ask(instructions)
        rows = {row.instruction: row for row in extractor.parse_all(instructions)}
        return rows, extractor

    return run


def server_of(kind=FakeOpenAi, **options):
    return kind(**{"batch_polls": 1, **options})


def num_batches(server):
    return server.calls.count("POST /v1/batches 200")


def batches_of(server):
    """The lines of each batch, in the order of the lines."""
    found = {}
    for line in server.batch_requests:
        found.setdefault(line.path, []).insert(0, line.texts)
    return list(found.values())


def asked_of(server):
    return Counter(text for line in server.batch_requests for text in line.texts)


def states(tmp_path):
    return list(tmp_path.glob("*/.cache/batches/*.json"))


def check(rows, fallbacks=()):
    fallbacks = dict(fallbacks)
    for text, row in rows.items():
        assert [found.phrase for found in row.objects] == PHRASES[text]
        assert row.extractor == ("grammar" if text in fallbacks else "llm")
        assert row.fallback == fallbacks.get(text, "")


def test_a_batch_gives_what_the_direct_way_gives(run, tmp_path):
    with server_of(batch_polls=3) as server:
        rows, extractor = run(server, *FOUR, PARAGRAPH, items=2)
        direct, _ = run(server, *FOUR, PARAGRAPH, items=2, out="direct", batch=False)
    check({text: rows[text] for text in FOUR})
    assert rows[PARAGRAPH].text == SUMMARY
    assert rows == direct
    assert batches_of(server) == [[(PARAGRAPH,)], [(SUMMARY, CUP), (DRAWER, CARROT), (BANANA,)]]
    assert num_batches(server) == 2
    assert extractor.num_settled == extractor.num_texts == 6
    assert states(tmp_path) == []


def test_the_calls_are_one_that_settles_what_is_taken_then_files_and_polls(run):
    with server_of(batch_polls=2) as server:
        run(server, *FOUR)
        assert server.calls == [
            "POST /v1/chat/completions 200",
            "POST /v1/files 200",
            "POST /v1/batches 200",
            "GET /v1/batches/batch_2 200",
            "GET /v1/batches/batch_2 200",
            "GET /v1/files/file-3/content 200",
        ]
        run(server, *FOUR)
    assert len(server.calls) == 6


def test_a_line_is_what_the_server_takes(run):
    """A batch that is wholly refused would cost a day."""
    with server_of(structured="json_object", refuse_temperature=True) as server:
        rows, _ = run(server, CUP)
    [line] = server.batch_requests
    assert line.body["response_format"] == {"type": "json_object"}
    assert "temperature" not in line.body
    check(rows)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"api_key": "sk-right"}, "HTTP 401"),
        ({"models": ("a",)}, "the model `fake-model` does not exist; it has a"),
    ],
)
def test_a_wrong_key_or_model_is_found_out_before_anything_is_handed_in(run, options, says):
    with server_of(**options) as server, pytest.raises(ConfigError, match=says):
        run(server, *FOUR)
    assert num_batches(server) == 0


def test_usage_is_counted(run):
    with server_of() as server:
        rows, extractor = run(server, *FOUR, items=2)
    usage = extractor.usage
    assert usage.requests == 3  # two lines, and the request that settles
    settling = server.requests[0].body["messages"]
    extra = fake_openai.count_tokens(settling, "{}")
    tokens_in = sum(row.tokens_in for row in rows.values())
    tokens_out = sum(row.tokens_out for row in rows.values())
    assert tokens_in > 1000
    assert usage.tokens_in == tokens_in + extra["prompt_tokens"]
    assert usage.tokens_out == tokens_out + 1


@pytest.mark.parametrize(
    ("fault", "reason", "says"),
    [
        ("invented", "phrase-not-in-text", "phrase-not-in-text: 'flux capacitor' is not in"),
        ("refusal", "refused", "refused: the reply is of no use: refused"),
        ("empty", "empty-reply", "empty-reply: "),
        ("500", "server-error", "server-error: HTTP 500: as the script says"),
        ("hang", "server-error", "server-error: this line was not answered"),
    ],
)
def test_what_fails_is_handed_in_once_more_alone_with_the_reason(run, fault, reason, says):
    with server_of(fault_for=lambda texts: fault if BANANA in texts else None) as server:
        rows, _ = run(server, *FOUR, items=2)
        check(rows, {BANANA: reason})
        again = [(BANANA,)] if fault == "invented" else [(CARROT,), (BANANA,)]
        assert batches_of(server) == [[(CUP, DRAWER), (CARROT, BANANA)], again]
        # Results, and so what failed, come in no order of theirs.
        [line] = [line for line in server.batch_requests if line.texts == (BANANA,)]
        [item] = json.loads(line.body["messages"][1]["content"])["items"]
        assert item["your_last_answer_was_refused"].startswith(says)
        before = list(server.calls)
        assert run(server, *FOUR, items=2)[0] == rows
        # What may be the server's own fault is asked about again, by a run without a table.
        assert (server.calls == before) == (reason != "server-error")


def test_what_fails_once_only_is_right_the_second_time(run):
    faults = iter(["missing"])
    with server_of(fault_for=lambda texts: next(faults, None) if texts else None) as server:
        rows, _ = run(server, *FOUR)
    check(rows)
    assert batches_of(server) == [[FOUR], [(BANANA,)]]


def test_a_line_that_the_server_refuses_is_a_bad_request(run):
    with server_of(Refusing) as server:
        rows, _ = run(server, *FOUR, items=1)
    check(rows, {BANANA: "bad-request"})
    assert asked_of(server) == {CUP: 1, DRAWER: 1, CARROT: 1, BANANA: 2}
    assert num_batches(server) == 2


def test_one_instruction_that_is_always_refused_does_not_hold_up_a_run_that_is_taken_up(
    run, monkeypatch
):
    """The process that gives it up has itself had no answer from the server."""
    with server_of(Refusing) as server:
        with monkeypatch.context() as patch:
            patch.setattr(batch_api, "give_up", interrupt)
            with pytest.raises(KeyboardInterrupt):
                run(server, *FOUR, items=1)
        rows, _ = run(server, *FOUR, items=1)
    check(rows, {BANANA: "bad-request"})
    assert num_batches(server) == 2


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("newline", ["\u2028", "\x85"])
def test_a_reply_may_hold_what_unicode_calls_the_end_of_a_line(run, monkeypatch, newline):
    made = fake_openai.make_result

    def make(*arguments):
        result = made(*arguments)
        result["response"]["body"]["note"] = newline
        return result

    dumps = json.dumps
    monkeypatch.setattr(fake_openai, "make_result", make)
    monkeypatch.setattr(
        fake_openai.json, "dumps", lambda *a, **k: dumps(*a, **{**k, "ensure_ascii": False})
    )
    with server_of() as server:
        check(run(server, *FOUR)[0])
    assert num_batches(server) == 1


def test_lines_that_are_none_of_ours_are_left_aside(run, monkeypatch):
    keep = fake_openai.Batches._keep
    junk = b'not json\n[]\n{"custom_id": "99"}\n{"custom_id": null}\n{"custom_id": "0"\n'
    junk += b'{"custom_id": "0", "response": 5}\n' + b"[" * 5000 + b"\n"

    def spoil(self, content):
        return keep(self, junk + content if content.startswith(b'{"id"') else content)

    monkeypatch.setattr(fake_openai.Batches, "_keep", spoil)
    with server_of() as server:
        check(run(server, *FOUR, items=1)[0])
    assert num_batches(server) == 1


def test_a_batch_that_expires_keeps_what_came_and_the_rest_is_asked_by_the_next_run(run, tmp_path):
    with server_of(batch_end="expired") as server:
        with pytest.raises(EndpointError, match=r"batch_2 has expired, 2 of 4 requests unanswered"):
            run(server, *FOUR, items=1)
        assert states(tmp_path) == []
        server.batch_end = "completed"
        check(run(server, *FOUR, items=1)[0])
    assert asked_of(server) == dict.fromkeys(FOUR, 1)
    assert num_batches(server) == 2


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_batch_that_comes_to_nothing_is_one_line_and_is_handed_in_anew(
    run, end, tmp_path, monkeypatch
):
    create = fake_openai.Batches._create

    def create_and_end(self, wanted):
        batch = create(self, wanted)
        cancels = end == "cancelled" and self._fake.batch_end == end
        batch["status"] = "cancelling" if cancels else batch["status"]
        return batch

    monkeypatch.setattr(fake_openai.Batches, "_create", create_and_end)
    with server_of(batch_end=end) as server:
        with pytest.raises(EndpointError) as error:
            run(server, *FOUR, items=2)
        because = ": the file is not valid" if end == "failed" else ""
        assert str(error.value) == (
            f"batch batch_2 has {end}{because}, 2 of 2 requests unanswered; "
            "run again to ask about these"
        )
        assert states(tmp_path) == []
        server.batch_end = "completed"
        check(run(server, *FOUR, items=2)[0])
    assert num_batches(server) == 2


def test_a_failed_batch_of_the_same_requests_is_not_taken_for_the_new_one(
    run, tmp_path, monkeypatch
):
    with server_of(batch_end="failed") as server:
        with pytest.raises(EndpointError):
            run(server, *FOUR)
        server.batch_end = "completed"
        with monkeypatch.context() as patch:  # stopped right before it is handed in anew
            patch.setattr(chats.Chat, "call", interrupt)
            with pytest.raises(KeyboardInterrupt):
                run(server, *FOUR)
        assert len(states(tmp_path)) == 1
        check(run(server, *FOUR)[0])
    assert num_batches(server) == 2


# --- killed

# What the killed process was waiting for -> how many batches there were by then.
MOMENTS = {
    "POST /v1/files": 0,
    "POST /v1/batches": 1,  # handed in, and not written down
    "GET /v1/batches/": 1,
    "GET /v1/files/": 1,
}


@pytest.mark.parametrize("held", MOMENTS)
def test_a_killed_process_is_taken_up_and_nothing_is_handed_in_twice(run, tmp_path, held):
    source = tmp_path / "commands.txt"
    source.write_text("\n".join(FOUR))
    with server_of(Holding) as server:
        server.held = held
        options = ("--extractor", "llm:fake-model", "--llm-base-url", server.base_url)
        command = [*ILV, "phrases", str(source), *options, "--llm-batch", "--llm-items", "2"]
        with killed_at_end(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
            assert server.reached.wait(60)
        assert process.returncode == -9
        server.held = ""
        server.released.set()
        assert num_batches(server) == MOMENTS[held]
        rows, extractor = run(server, *FOUR, items=2)
    check(rows)
    assert num_batches(server) == 1
    assert asked_of(server) == dict.fromkeys(FOUR, 1)
    assert server.num_requests == (2 if MOMENTS[held] == 0 else 1)  # each settles before handing in
    assert extractor.usage.tokens_in > 0
    assert states(tmp_path) == []


def test_a_process_that_stops_while_replies_are_written_down_asks_nothing_twice(
    run, tmp_path, monkeypatch
):
    write, left = ReplyCache.write, iter(range(2))

    def write_two(self, asked, answer):
        if next(left, None) is None:
            raise KeyboardInterrupt
        write(self, asked, answer)

    with server_of() as server:
        with monkeypatch.context() as patch:
            patch.setattr(ReplyCache, "write", write_two)
            with pytest.raises(KeyboardInterrupt):
                run(server, *FOUR)
        rows, extractor = run(server, *FOUR)
    check(rows)
    assert num_batches(server) == 1
    assert asked_of(server) == dict.fromkeys(FOUR, 1)
    assert (extractor.num_texts, extractor.num_cached, extractor.num_settled) == (4, 2, 4)


def test_the_second_question_is_taken_up_as_well(run, monkeypatch):
    """Of one item a request both batches are of the same requests, but for the reason."""
    with server_of(fault_for=lambda texts: "invented" if texts else None) as server:
        write, num = batch_api.BatchAsker._write_state, []

        def stop_at_the_fourth(self, batch, task):
            num.append(batch)
            if len(num) == 4:  # the second batch is handed in, and not written down
                raise KeyboardInterrupt
            write(self, batch, task)

        with monkeypatch.context() as patch:
            patch.setattr(batch_api.BatchAsker, "_write_state", stop_at_the_fourth)
            with pytest.raises(KeyboardInterrupt):
                run(server, CUP, items=1)
        rows, _ = run(server, CUP, items=1)
    check(rows, {CUP: "phrase-not-in-text"})
    assert num_batches(server) == 2


def test_a_run_with_other_instructions_takes_up_the_batch_too(run, monkeypatch):
    with server_of() as server:
        with monkeypatch.context() as patch:
            patch.setattr(batch_api.BatchAsker, "_wait", interrupt)
            with pytest.raises(KeyboardInterrupt):
                run(server, CUP, DRAWER)
        rows, extractor = run(server, DRAWER, CARROT)
        check(rows)
        check(run(server, *FOUR[:3])[0])
    assert batches_of(server) == [[(CUP, DRAWER)], [(CARROT,)]]
    assert extractor.num_settled == extractor.num_texts == 2


def stop_while_polling(run, server, monkeypatch, **options):
    with monkeypatch.context() as patch:
        patch.setattr(batch_api.BatchAsker, "_wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(server, *FOUR, **options)


def test_the_batch_of_another_model_is_neither_taken_nor_lost(run, tmp_path, monkeypatch):
    with server_of(models=("fake-model", "other")) as server:
        stop_while_polling(run, server, monkeypatch)
        rows, _ = run(server, *FOUR, model="other")
        assert {row.model for row in rows.values()} == {"other"}
        assert num_batches(server) == 2
        assert len(states(tmp_path)) == 1
        check(run(server, *FOUR)[0])
    assert num_batches(server) == 2
    assert [line.body["model"] for line in server.batch_requests] == ["other", "fake-model"]


def test_the_batch_of_another_prompt_is_not_taken(run, tmp_path, monkeypatch):
    with server_of() as server:
        stop_while_polling(run, server, monkeypatch)
        [path] = states(tmp_path)
        state = json.loads(path.read_text())
        path.write_text(json.dumps({**state, "task": "fake-model:noun_phrases.v1:0"}))
        check(run(server, *FOUR[:2])[0])
    assert num_batches(server) == 2
    assert states(tmp_path) == []


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"requests": 5}', "null", "[" * 5000])
def test_a_damaged_state_is_made_good_by_the_metadata_of_the_batch(
    run, tmp_path, monkeypatch, content
):
    with server_of() as server:
        stop_while_polling(run, server, monkeypatch)
        [path] = states(tmp_path)
        path.write_text(content)
        check(run(server, *FOUR)[0])
    assert num_batches(server) == 1
    assert states(tmp_path) == []


def test_a_batch_that_is_no_longer_there_is_one_line_that_says_what_to_do(
    run, tmp_path, monkeypatch
):
    with server_of() as server:
        stop_while_polling(run, server, monkeypatch)
        [path] = states(tmp_path)
        path.write_text(path.read_text().replace("batch_2", "batch_x"))
        with pytest.raises(ConfigError, match=r"there is no batch batch_x; .* delete .*\.json"):
            run(server, *FOUR)
        path.unlink()
        check(run(server, *FOUR)[0])


def test_a_batch_is_found_behind_a_hundred_newer_ones(run, monkeypatch):
    with server_of() as server:
        write = batch_api.BatchAsker._write_state
        with monkeypatch.context() as patch:
            patch.setattr(
                batch_api.BatchAsker,
                "_write_state",
                lambda *a: interrupt() if a[1].batch_id else write(*a),
            )
            with pytest.raises(KeyboardInterrupt):
                run(server, *FOUR)
        [ours] = server._batches._batches.values()
        others = {
            f"batch_{n}": {**ours, "id": f"batch_{n}", "metadata": None} for n in range(9, 150)
        }
        server._batches._batches.update(others)
        check(run(server, *FOUR)[0])
    assert num_batches(server) == 1


# --- limits


def test_a_server_without_batches_is_one_line(run, tmp_path):
    with server_of(has_batches=False) as server:
        with pytest.raises(ConfigError) as error:
            run(server, *FOUR)
        says = f"{server.base_url}: it has no Batch API; leave --llm-batch out"
        assert str(error.value) == says
        check(run(server, *FOUR, batch=False)[0])


def test_a_budget_of_requests_cuts_the_batches_and_the_same_command_goes_on(run):
    with server_of() as server:
        for num_left in (3, 2, 1):
            spent = "--llm-max-requests 1 are spent; run again to go on"
            with pytest.raises(EndpointError, match=spent):
                run(server, *FOUR, items=1, max_requests=1)
            assert sum(asked_of(server).values()) == 4 - num_left
        check(run(server, *FOUR, items=1, max_requests=1)[0])
    assert asked_of(server) == dict.fromkeys(FOUR, 1)
    assert num_batches(server) == 4


def test_more_requests_than_a_batch_takes_make_several(run, monkeypatch):
    monkeypatch.setattr(batch_api, "REQUESTS_MAX", 3)
    with server_of() as server:
        check(run(server, *FOUR, items=1)[0])
    assert batches_of(server) == [[(CUP,), (DRAWER,), (CARROT,)], [(BANANA,)]]


def test_a_busy_moment_after_hours_of_polling_is_waited_for(run, monkeypatch):
    """Patience counts from the poll, not from the last reply that was paid for."""
    monkeypatch.setattr(chats, "BUSY_PATIENCE_S", 0.3)
    monkeypatch.setattr(batch_api, "_POLL_S", 0.5)
    monkeypatch.setattr(batch_api, "_POLL_MAX_S", 0.5)
    polls = iter(["", "", "429"])
    reply = FakeOpenAi.reply

    def busy_once(self, method, url, headers, body):
        if method == "GET" and "/batches/" in url and next(polls, ""):
            return RefusedError(429, "busy", "slow down").reply
        return reply(self, method, url, headers, body)

    monkeypatch.setattr(FakeOpenAi, "reply", busy_once)
    with server_of(batch_polls=3) as server:
        check(run(server, *FOUR)[0])


def test_a_bucket_keeps_the_state_as_well(bucket, monkeypatch):
    def asking(server):
        given = LlmOptions(base_url=server.base_url, batch=True, timeout=1)
        extractor = LlmExtractor("fake-model", given, out="mem://bucket/out")
        extractor.ask(FOUR)
        return {row.instruction: row for row in extractor.parse_all(FOUR)}

    with server_of() as server:
        with monkeypatch.context() as patch:
            patch.setattr(batch_api.BatchAsker, "_wait", interrupt)
            with pytest.raises(KeyboardInterrupt):
                asking(server)
        assert len([path for path in bucket if "/batches/" in path]) == 1
        check(asking(server))
    assert num_batches(server) == 1
    assert [path for path in bucket if "/batches/" in path] == []
