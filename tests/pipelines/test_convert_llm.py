"""The command line with a language model behind a real HTTP server on loopback."""

import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.internal import pickler
from builders import DATASET, MARKED, VERSION, make_episode, make_job, read_table, write_tfds_folder
from converted import only_error, run_ilv
from fake_openai import FakeOpenAi
from killing import killed_at_end, wait_until

from ilv_dataset.llm_options import LlmOptions
from ilv_dataset.models import chat as chats
from ilv_dataset.pipelines import parse_instructions
from ilv_dataset.pipelines.convert import Run
from ilv_dataset.shards.instructions import replace_instructions

CUP, CARROT, PLATE = "lift the red cup", "put the carrot on the plate", "lift the plate"
BANANA = "take the banana"
KEY = "sk-live-0123456789abcdef"
MODEL = ("--extractor", "llm:fake-model")
ILV = (sys.executable, "-c", "from ilv_dataset.cli import main; main()")
LOUD = "import logging; logging.basicConfig(level=logging.DEBUG)"
LOUD_ILV = (sys.executable, "-c", f"{LOUD}; {ILV[-1]}")
TOY = "toy_dataset"  # known by nobody: what `auto` means there is not what it means for the demo


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two shards; the banana is in the second alone."""
    folder = tmp_path_factory.mktemp("data")
    shards = [
        [make_episode(seed=1, instruction=CARROT), make_episode(seed=2, instruction=PLATE)],
        [make_episode(seed=3, instruction=CARROT), make_episode(seed=4, instruction=BANANA)],
    ]
    for name in (DATASET, TOY):
        write_tfds_folder(folder, {"train": shards}, name=name)
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(chats, "_BACKOFF_S", 0.01)
    options = LlmOptions.chat
    monkeypatch.setattr(
        LlmOptions, "chat", lambda self, model: replace(options(self, model), patience_s=0.3)
    )


def ilv(command, data, out, *arguments, dataset="demo"):
    named = MARKED if dataset == "demo" else (dataset,)
    return run_ilv(command, *named, "--data-dir", data, "--out", out, *arguments)


def at(server):
    return (*MODEL, "--llm-base-url", server.base_url)


def table(out, dataset=DATASET):
    path = out / dataset / VERSION / "instructions" / "instructions.parquet"
    return {row["instruction"]: row for row in read_table(path)}


def extractors(out, dataset=DATASET):
    return {row["extractor"] for row in table(out, dataset).values()}


def asked_of(server):
    return Counter(text for request in server.requests for text in request.texts)


def ground_states(out):
    folder = out / DATASET / VERSION
    paths = sorted([*folder.glob("episodes/*"), *folder.glob(".state/ground/*")])
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def test_the_plan_says_where_and_how_much_is_asked(data, out):
    with FakeOpenAi() as server:
        done = ilv("convert", data, out, *at(server), "--dry-run", "--llm-items", 3)
    [line] = [line for line in done.stderr.splitlines() if line.startswith("extractor")]
    assert f"llm:fake-model at {server.base_url}" in line
    assert "at most 4 items in 2 requests" in line
    assert server.calls == []


def test_parse_asks_once_and_the_table_says_by_whom(data, out):
    with FakeOpenAi() as server:
        done = ilv("parse", data, out, *at(server), "--llm-prices", 1, 10)
    assert done.exit_code == 0
    assert server.calls == ["POST /v1/chat/completions 200"]
    assert asked_of(server) == {CARROT: 1, PLATE: 1, BANANA: 1}
    rows = table(out)
    assert list(rows) == [PLATE, CARROT, BANANA]
    row = rows[CARROT]
    assert [found["phrase"] for found in row["objects"]] == ["carrot", "plate"]
    assert (row["extractor"], row["model"], row["fallback"]) == ("llm", "fake-model", "")
    assert re.search(
        r"extract: 3 of 3 instructions, .*; 1 requests, \d+ tokens in, \d+ out, 0\.00 spent, "
        r"0 cached",
        done.stderr,
    )


def test_run_json_has_the_account_and_a_second_run_changes_nothing(data, out):
    path = out / DATASET / VERSION / "run.json"
    with FakeOpenAi(faults=["500"]) as server:
        arguments = (*at(server), "--llm-prices", 1_000_000, 0, "--formats", "parquet,rlds")
        assert ilv("convert", data, out, *arguments).exit_code == 0
        before = path.read_bytes()
        assert ilv("convert", data, out, *arguments).exit_code == 0
    rows = table(out).values()
    tokens_in = sum(row["tokens_in"] for row in rows)
    assert json.loads(before)["llm"] == {
        "extractor": {
            "requests": 2,
            "tokens_in": tokens_in,
            "tokens_out": sum(row["tokens_out"] for row in rows),
            "cache_hits": 0,
            "cost": tokens_in,
        }
    }
    assert path.read_bytes() == before
    assert server.num_requests == 2
    assert extractors(out) == {"llm"}


def test_a_run_without_a_model_has_no_account_of_one(data, out):
    assert ilv("convert", data, out).exit_code == 0
    assert "llm" not in json.loads((out / DATASET / VERSION / "run.json").read_text())


def test_a_key_and_an_endpoint_alone_change_nothing(data, out, monkeypatch):
    with FakeOpenAi() as server:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        done = ilv("parse", data, out, dataset=TOY)
    assert "extractor  grammar\n" in done.stderr
    assert (done.exit_code, server.calls, extractors(out, TOY)) == (0, [], {"grammar"})


def test_the_demo_uses_the_grammar_unless_told(data, out, monkeypatch):
    with FakeOpenAi() as server:
        monkeypatch.setenv("ILV_LLM_MODEL", "fake-model")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        done = ilv("parse", data, out)
        assert (done.exit_code, server.calls, extractors(out)) == (0, [], {"grammar"})
        ilv("parse", data, out, "--extractor", "llm", "--overwrite")
    assert (server.num_requests, extractors(out)) == (1, {"llm"})


def test_a_model_and_an_endpoint_may_come_from_the_environment(data, out, monkeypatch):
    with FakeOpenAi() as server:
        monkeypatch.setenv("ILV_LLM_MODEL", "fake-model")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        done = ilv("parse", data, out, dataset=TOY)
    assert f"extractor  llm:fake-model at {server.base_url}" in done.stderr
    assert (done.exit_code, server.num_requests, extractors(out, TOY)) == (0, 1, {"llm"})


def test_a_second_dataset_with_the_same_instructions_asks_nothing(data, out):
    with FakeOpenAi() as server:
        ilv("parse", data, out, *at(server))
        ilv("parse", data, out, *at(server), dataset=TOY)
    assert server.num_requests == 1
    assert table(out, TOY) == table(out)


def test_without_the_cache_folder_the_table_is_the_cache(data, out):
    with FakeOpenAi(fault_for=lambda texts: "refusal" if PLATE in texts else None) as server:
        ilv("parse", data, out, *at(server))
        before, num_requests = table(out), server.num_requests
        shutil.rmtree(out / ".cache")
        (out / DATASET / VERSION / ".state" / "instructions" / "all.json").unlink()
        assert ilv("parse", data, out, *at(server)).exit_code == 0
    assert server.num_requests == num_requests
    assert table(out) == before
    assert before[PLATE]["fallback"] == "refused"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"api_key": "sk-right"}, "HTTP 401: the key in OPENAI_API_KEY is refused"),
        ({"forbidden": True}, "HTTP 403"),
        ({"models": ("a", "b")}, "the model `fake-model` does not exist; it has a, b"),
    ],
)
def test_a_wrong_key_or_model_is_one_line(data, out, options, says):
    with FakeOpenAi(**options) as server:
        line = only_error(ilv("parse", data, out, *at(server)))
    assert says in line
    assert server.num_requests == 1


def test_another_model_needs_no_overwrite_where_the_first_has_answered_nothing(data, out):
    with FakeOpenAi(models=("fake-model",)) as server:
        wrong = ("--extractor", "llm:fake-modle", "--llm-base-url", server.base_url)
        assert "`fake-modle` does not exist" in only_error(ilv("parse", data, out, *wrong))
        assert ilv("parse", data, out, *at(server)).exit_code == 0
        line = only_error(ilv("parse", data, out, *wrong))
    assert "is of another run: --extractor was 'llm:fake-model:" in line
    assert extractors(out) == {"llm"}


def test_openai_without_a_key_is_one_line_before_any_work(data, out):
    line = only_error(ilv("parse", data, out, *MODEL))
    assert "https://api.openai.com/v1 needs a key in OPENAI_API_KEY" in line
    assert not out.exists()


def test_an_endpoint_that_is_down_is_one_line_and_the_same_command_goes_on(data, out):
    with FakeOpenAi() as server:
        port = server._server.server_address[1]
    line = only_error(ilv("convert", data, out, *at(server)))
    assert line.startswith(f"Error: {server.base_url} cannot be reached (")
    assert line.endswith("run again to go on")
    assert not (out / DATASET / VERSION / "instructions").exists()
    with FakeOpenAi(port=port) as server:
        assert ilv("convert", data, out, *at(server)).exit_code == 0
    assert server.num_requests == 1
    assert extractors(out) == {"llm"}
    usage = json.loads((out / DATASET / VERSION / "run.json").read_text())["llm"]["extractor"]
    assert usage["requests"] > 1  # those that found nobody are counted as well


def test_a_budget_ends_with_1_and_the_same_command_goes_on(data, out):
    with FakeOpenAi() as server:
        arguments = (*at(server), "--llm-items", 1, "--llm-max-requests", 2)
        line = only_error(ilv("parse", data, out, *arguments))
        assert line == "Error: --llm-max-requests 2 are spent; run again to go on"
        assert server.num_requests == 2
        assert ilv("parse", data, out, *arguments).exit_code == 0
    assert asked_of(server) == {CARROT: 1, PLATE: 1, BANANA: 1}


def test_retried_fallbacks_ground_only_the_shards_concerned(data, out):
    with FakeOpenAi(fault_for=lambda texts: "refusal" if BANANA in texts else None) as server:
        assert ilv("convert", data, out, *at(server)).exit_code == 0
        assert table(out)[BANANA]["fallback"] == "refused"
        before = ground_states(out)
        assert ilv("convert", data, out, *at(server), "--retry-fallbacks").exit_code == 0
        assert ground_states(out) == before  # it fell back again
        server.fault_for = lambda texts: None
        num_requests = server.num_requests
        assert ilv("convert", data, out, *at(server), "--retry-fallbacks").exit_code == 0
    assert server.num_requests == num_requests + 1
    assert (table(out)[BANANA]["extractor"], table(out)[BANANA]["fallback"]) == ("llm", "")
    after = ground_states(out)
    changed = {name.partition(".")[0] for name in before if after[name] != before[name]}
    assert changed == {"train-00001-of-00002"}
    assert (out / DATASET / VERSION / "run.json").is_file()


def test_a_retry_that_is_stopped_half_way_leaves_no_old_grounding(data, out, monkeypatch):
    def replace_and_stop(rows, *, job):
        replace_instructions(rows, job=job)
        raise KeyboardInterrupt

    with FakeOpenAi(fault_for=lambda texts: "refusal" if BANANA in texts else None) as server:
        ilv("convert", data, out, *at(server))
        server.fault_for = lambda texts: None
        before = ground_states(out)
        with monkeypatch.context() as patch:
            patch.setattr("ilv_dataset.extraction.run.replace_instructions", replace_and_stop)
            assert ilv("convert", data, out, *at(server), "--retry-fallbacks").exit_code == 130
        assert table(out)[BANANA]["fallback"] == ""
        assert ilv("convert", data, out, *at(server)).exit_code == 0
    after = ground_states(out)
    changed = {name.partition(".")[0] for name in before if after[name] != before[name]}
    assert changed == {"train-00001-of-00002"}


def holds_key(content):
    return KEY.encode() in content or KEY[:12].encode() in content


def files_with_key(folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert paths
    return [path for path in paths if holds_key(path.read_bytes()) or KEY in path.name]


@pytest.mark.parametrize(("command", "right_key"), [("convert", KEY), ("parse", "sk-right")])
def test_the_key_is_in_no_file_and_in_nothing_that_is_printed(data, out, command, right_key):
    """In a process of its own, with all that is logged; the server repeats a key it refuses."""
    with FakeOpenAi(api_key=right_key) as server:
        arguments = [command, *MARKED, "--data-dir", str(data), "--out", str(out), *at(server)]
        environment = {**os.environ, "OPENAI_API_KEY": KEY}
        done = subprocess.run([*LOUD_ILV, *arguments], capture_output=True, env=environment)
    assert server.requests[0].authorization == f"Bearer {KEY}"
    assert done.returncode == (0 if right_key == KEY else 1)
    assert b"/chat/completions" in done.stderr  # in the log
    assert not holds_key(done.stdout + done.stderr)
    assert files_with_key(out) == []


def test_the_key_is_in_no_traceback(data, out, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("ilv_dataset.asking.decode_items", lambda text: 1 / 0)
    with FakeOpenAi() as server, pytest.raises(ZeroDivisionError) as error:
        ilv("parse", data, out, *at(server))
    assert not holds_key("".join(traceback.format_exception(error.value)).encode())


def test_the_key_does_not_travel_to_the_workers(data, out, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    job = make_job(data, out, extractor="llm:fake-model")
    llm = LlmOptions(base_url="http://localhost:1/v1")
    root = beam.Pipeline()
    parse_instructions.build(root, job, job.shards)
    graph = root.to_runner_api().SerializeToString()
    run = Run(job, ("parquet",), (), llm)
    for content in (graph, pickle.dumps(run), pickler.dumps(run), repr(run).encode()):
        assert len(content) > 100
        assert not holds_key(content)


@pytest.fixture
def killed_run(tmp_path, out):
    """Runs 30 requests of 2 instructions, 4 at once; the first run is killed, and the next ends it.

    Returns the instructions that went out twice, and how many requests there were.
    """

    def run(is_killed_when):
        texts = [f"put the red cup into bowl {number}" for number in range(60)]
        shards = [[make_episode(1, instruction=text) for text in texts]]
        data = write_tfds_folder(tmp_path / "data", {"train": shards})
        with FakeOpenAi(latency_s=0.05, num_answered_max=20) as server:
            options = (*at(server), "--llm-items", "2", "--llm-concurrency", "4")
            command = [*ILV, "parse", *MARKED, "--data-dir", str(data), "--out", str(out), *options]
            with killed_at_end(command, stderr=subprocess.DEVNULL) as process:
                wait_until(process, lambda: is_killed_when(server))
            assert process.returncode == -9
            time.sleep(0.1)  # what was under way is counted, and answered to nobody
            assert server.num_requests <= 20 + 4
            server.num_answered_max = math.inf
            assert ilv("parse", data, out, *options).exit_code == 0
        assert set(asked_of(server)) == set(texts)
        assert set(asked_of(server).values()) <= {1, 2}
        assert (len(table(out)), extractors(out)) == (60, {"llm"})
        for path in Path(out, ".cache").rglob("*.json"):
            assert json.loads(path.read_bytes())  # none is half-written
        return [text for text, num in asked_of(server).items() if num == 2], server.num_requests

    return run


def test_a_run_that_is_killed_asks_again_only_what_was_under_way_or_being_read(killed_run):
    twice, num_requests = killed_run(lambda server: server.num_requests >= 14)
    assert len(twice) <= (4 + 4) * 2  # as many replies may be being read as requests are under way
    assert num_requests <= 30 + 4 + 4


def test_a_run_that_is_killed_asks_again_what_was_under_way(killed_run, out):
    def is_all_kept(server):
        sizes = [path.stat().st_size for path in Path(out, ".cache").rglob("*.json")]
        return sum(size > 0 for size in sizes) == 20 * 2 and server.num_requests == 20 + 4

    twice, num_requests = killed_run(is_all_kept)
    assert (len(twice), num_requests) == (4 * 2, 30 + 4)
