"""The command line with a vision-language model behind a real HTTP server on loopback."""

import io
import json
import math
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from builders import (
    DATASET,
    MARKED,
    VERSION,
    convert,
    make_episode,
    read_table,
    read_tree,
    write_tfds_folder,
)
from converted import only_error, run_ilv
from fake_openai import FakeOpenAi, read_message
from killing import killed_at_end, wait_until
from PIL import Image

from ilv_dataset.models import loading

CAMERA = "observation/image"
ILV = (sys.executable, "-c", "from ilv_dataset.cli import main; main()")
VLM = ("--verifier", "vlm:fake-model")
NUM_SHARDS, NUM_EPISODES = 6, 2  # a shard
# A frame goes out 17.5 times as large: 64 x 48 -> 1120 x 840. The middle of the plate, (44, 32):
ON_PLATE = (770, 560)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """One episode, of which the frames of steps 0 and 5 are probed."""
    return write_tfds_folder(tmp_path_factory.mktemp("data"), {"train": [[make_episode(6)]]})


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """No two frames alike, so no two crops."""
    shards = [
        [make_episode(1, seed=NUM_EPISODES * n + m) for m in range(NUM_EPISODES)]
        for n in range(NUM_SHARDS)
    ]
    return write_tfds_folder(tmp_path_factory.mktemp("many"), {"train": shards})


def at(server):
    return (*VLM, "--vlm-base-url", server.base_url)


def is_orange(jpeg):
    red, _, blue = np.asarray(Image.open(io.BytesIO(jpeg)))[112, 112].astype(int)
    return red - blue > 100


def wants_white(phrase, jpeg):
    """What the detector calls a carrot is not one: what is white is."""
    if phrase == "carrot" and is_orange(jpeg):
        return "mismatch", "an orange block"
    return "match", f"a {phrase}"


def only_row(out):
    [row] = read_table(out / DATASET / VERSION / "episodes")
    return row


def objects_of(row):
    return {found["phrase"]: found for found in row["objects"]}


def tried(found):
    return [
        (one["method"], one["frame_index"], one["verdict"], one["reason"], one.get("point_xy"))
        for one in json.loads(found["verdicts"])
    ]


def pictures(server):
    """How often each picture went out with its phrase."""
    found = Counter()
    for request in server.requests:
        text, urls = read_message(request.body["messages"][1])
        items = json.loads(text)["items"]
        found.update(
            (item.get("phrase", item.get("point_at")), url)
            for item, url in zip(items, urls, strict=True)
        )
    return found


def test_a_mismatch_is_repaired_at_the_key_point_and_judged_again(data, tmp_path):
    with FakeOpenAi(verdict=wants_white, key_point=lambda *_: ON_PLATE) as server:
        done = convert(data, tmp_path, *at(server), "--formats", "parquet,rlds")
    assert done.exit_code == 0, done.stderr
    row = only_row(tmp_path)
    assert (row["status"], row["interleaved"]) == ("interleaved", "put <image> on <image>")
    carrot, plate = objects_of(row)["carrot"], objects_of(row)["plate"]
    assert (carrot["method"], carrot["verdict"], carrot["verifier"]) == (
        "repair", "match", "vlm:fake-model",
    )  # fmt: skip
    assert tried(carrot) == [
        ("detect", 0, "mismatch", "an orange block", None),
        ("detect", 5, "mismatch", "an orange block", None),
        ("repair", 0, "match", "a carrot", [44.0, 32.0]),
        ("repair", 5, "match", "a carrot", [44.0, 32.0]),
    ]
    assert json.loads(carrot["frames_tried"]) == {
        "detect": {CAMERA: [0, 5]},
        "repair": {CAMERA: [0, 5]},
    }
    assert carrot["frame_index"] == 0
    assert not is_orange(row["images"][0]["bytes"])
    assert (plate["method"], plate["verdict"]) == ("detect", "match")
    assert tried(plate) == [("detect", 0, "match", "a plate", None)]
    asked = Counter(phrase for phrase, _ in pictures(server))
    assert asked == {"carrot": 6, "plate": 1}  # two crops, two frames, two crops
    assert set(pictures(server).values()) == {1}


def test_run_json_says_what_the_verifier_was_asked(data, tmp_path):
    path = tmp_path / DATASET / VERSION / "run.json"
    with FakeOpenAi(verdict=wants_white, key_point=lambda *_: ON_PLATE) as server:
        priced = (*at(server), "--llm-prices", 5, 5, "--vlm-prices", 1_000_000, 0)
        assert convert(data, tmp_path, *priced).exit_code == 0
        before = path.read_bytes()
        assert convert(data, tmp_path, *priced).exit_code == 0
    [(role, spent)] = json.loads(before)["llm"].items()
    assert (role, spent["requests"], spent["cache_hits"]) == ("verifier", server.num_requests, 0)
    assert spent["cost"] == spent["tokens_in"] > 0
    assert path.read_bytes() == before
    assert run_ilv("validate", tmp_path).exit_code == 0


def test_a_repair_that_is_refused_stays_text_with_the_reason(data, tmp_path):
    def refuse(phrase, jpeg):
        return ("mismatch", "a block") if phrase == "carrot" else ("match", "a plate")

    with FakeOpenAi(verdict=refuse, key_point=lambda *_: ON_PLATE) as server:
        assert convert(data, tmp_path, *at(server)).exit_code == 0
    row = only_row(tmp_path)
    assert row["interleaved"] == "put the carrot on <image>"
    carrot = objects_of(row)["carrot"]
    assert (carrot["grounded"], carrot["reason"]) == (False, "rejected-by-verifier")
    assert (carrot["verdict"], carrot["verifier"]) == ("mismatch", "vlm:fake-model")
    assert [one[:3] for one in tried(carrot)] == [
        ("detect", 0, "mismatch"),
        ("detect", 5, "mismatch"),
        ("repair", 0, "mismatch"),
        ("repair", 5, "mismatch"),
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"key_point": lambda *_: None}, "rejected-by-verifier"),
        ({"key_point": lambda *_: (5000, -3)}, "rejected-by-verifier"),
        ({"fault_for": lambda texts: "refusal" if "carrot" in texts else None}, "unsure"),
    ],
)
def test_what_no_key_point_is_found_for_stays_text(data, tmp_path, options, says):
    with FakeOpenAi(**{"verdict": wants_white, **options}) as server:
        assert convert(data, tmp_path, *at(server)).exit_code == 0
    row = only_row(tmp_path)
    carrot = objects_of(row)["carrot"]
    assert (carrot["grounded"], carrot["reason"]) == (False, says)
    assert [one[0] for one in tried(carrot)] == ["detect", "detect"]
    assert json.loads(carrot["frames_tried"])["repair"] == {CAMERA: [0, 5]}
    assert row["interleaved"] == "put the carrot on <image>"


def test_what_was_written_is_valid_and_a_second_run_asks_nothing(data, tmp_path):
    with FakeOpenAi(verdict=wants_white, key_point=lambda *_: ON_PLATE) as server:
        arguments = (*at(server), "--formats", "parquet,rlds")
        convert(data, tmp_path, *arguments)
        before, num_requests = read_tree(tmp_path), server.num_requests
        assert convert(data, tmp_path, *arguments).exit_code == 0
        assert (read_tree(tmp_path), server.num_requests) == (before, num_requests)
        again = convert(data, tmp_path, *at(server), "--overwrite", "--picture-kinds", "object")
        assert again.exit_code == 0
        assert server.num_requests == num_requests  # another grounding, of the same pictures
    valid = run_ilv("validate", tmp_path)
    assert valid.exit_code == 0, valid.output


@pytest.mark.parametrize("verifier", ["none", "agreement"])
def test_the_other_verifiers_ask_nothing(data, tmp_path, verifier):
    with FakeOpenAi() as server:
        arguments = ("--verifier", verifier, "--vlm-base-url", server.base_url)
        assert convert(data, tmp_path, *arguments).exit_code == 0
    assert server.calls == []
    assert {found["verifier"] for found in only_row(tmp_path)["objects"]} == {verifier}


def test_extractor_and_verifier_may_be_at_two_endpoints(data, tmp_path):
    with FakeOpenAi(models=("text",)) as texts, FakeOpenAi(models=("sees",)) as sees:
        done = convert(
            data, tmp_path, "--extractor", "llm:text", "--llm-base-url", texts.base_url,
            "--verifier", "vlm:sees", "--vlm-base-url", sees.base_url,
        )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert f"verifier   vlm:sees at {sees.base_url}" in done.stderr
    assert {request.body["model"] for request in texts.requests} == {"text"}
    assert {request.body["model"] for request in sees.requests} == {"sees"}
    assert sum(pictures(sees).values()) == 2


# --- killed, and several workers


def written(out):
    """All that a run writes but for the replies and the account, which depend on what it did."""
    tree = {
        name: data
        for name, data in read_tree(out).items()
        if not name.startswith(".cache/") and "/.state/spent/" not in name
    }
    run = json.loads(tree.pop(f"{DATASET}/{VERSION}/run.json", "{}"))
    return {**tree, "run.json": {key: part for key, part in run.items() if key != "llm"}}


@pytest.fixture(scope="module")
def uninterrupted(many, tmp_path_factory):
    """(the tree, requests, pictures) of one run with one worker."""
    out = tmp_path_factory.mktemp("whole")
    with FakeOpenAi(verdict=wants_white, key_point=lambda *_: ON_PLATE) as server:
        assert convert(many, out, *at(server)).exit_code == 0
    return written(out), server.num_requests, pictures(server)


def test_a_run_that_is_killed_asks_again_only_what_was_under_way(many, uninterrupted, tmp_path):
    tree, num_whole, sent = uninterrupted
    # Of each of 12 episodes: 2 crops, 1 frame with a key point, 1 crop there.
    assert sum(sent.values()) == 12 * 4
    settings = {"verdict": wants_white, "key_point": lambda *_: ON_PLATE, "latency_s": 0.05}
    with FakeOpenAi(**settings, num_answered_max=num_whole * 3 // 4) as server:
        paths = ("--data-dir", str(many), "--out", str(tmp_path))
        command = [*ILV, "convert", *MARKED, *paths, *at(server)]
        with killed_at_end(command, stderr=subprocess.DEVNULL) as process:
            wait_until(process, lambda: server.num_requests >= num_whole // 2)
        assert process.returncode == -9
        time.sleep(0.1)  # what was under way is counted, and answered to nobody
        before = server.num_requests
        assert num_whole // 2 <= before < num_whole
        server.num_answered_max = math.inf
        done = convert(many, tmp_path, *at(server))
        assert done.exit_code == 0, done.stderr
    found = pictures(server)
    assert found.keys() == sent.keys()
    twice = [key for key, num in found.items() if num == 2]
    assert max(found.values()) <= 2
    assert len(twice) <= 2 * NUM_EPISODES  # a shard's: one was being asked about
    assert written(tmp_path) == tree


def test_two_workers_ground_the_same_rows_as_one(many, uninterrupted, tmp_path):
    tree, _, sent = uninterrupted
    with FakeOpenAi(verdict=wants_white, key_point=lambda *_: ON_PLATE) as server:
        run = (*MARKED, "--data-dir", many, "--out", tmp_path, *at(server))
        assert run_ilv("parse", *run).exit_code == 0
        assert server.calls == []
        done = run_ilv("ground", *run, "--", "--direct_num_workers=2")
    assert done.exit_code == 0, done.stderr
    found = {name: data for name, data in written(tmp_path).items() if "/episodes/" in name}
    assert len(found) == NUM_SHARDS
    assert found.items() <= tree.items()
    assert pictures(server) == sent


def test_a_server_that_takes_one_picture_a_request_makes_the_same_rows(
    many, uninterrupted, tmp_path
):
    tree, num_whole, _ = uninterrupted
    settings = {"verdict": wants_white, "key_point": lambda *_: ON_PLATE, "max_images": 1}
    with FakeOpenAi(**settings) as server:
        assert convert(many, tmp_path, *at(server)).exit_code == 0
    assert written(tmp_path) == tree
    assert num_whole < 12 * 4
    assert server.calls.count("POST /v1/chat/completions 400") == 1
    assert server.num_requests == 12 * 4 + 1


# --- wrong use


def test_openai_without_a_key_is_one_line_before_any_work(data, tmp_path):
    line = only_error(convert(data, tmp_path / "out", *VLM))
    assert "https://api.openai.com/v1 needs a key in OPENAI_API_KEY" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"api_key": "sk-right"}, "HTTP 401: the key in OPENAI_API_KEY is refused"),
        ({"models": ("a", "b")}, "the model `fake-model` does not exist; it has a, b"),
        ({"max_images": 0}, "refuses every request: HTTP 400: at most 0 image(s)"),
    ],
)
def test_an_endpoint_that_refuses_is_one_line_and_the_same_command_goes_on(
    data, tmp_path, options, says
):
    with FakeOpenAi(**options) as server:
        assert says in only_error(convert(data, tmp_path, *at(server)))
        server.api_key, server.models, server.max_images = None, None, None
        loading.forget_models()  # as another process would begin
        again = convert(data, tmp_path, *at(server))
    assert again.exit_code == 0, again.stderr


def test_dataflow_is_told_that_the_workers_need_the_key(data, tmp_path):
    remote = ("--dry-run", "--", "--runner=DataflowRunner")
    wanted = "key        OPENAI_API_KEY must be in the workers' environment: it is not sent there"
    assert wanted in convert(data, tmp_path, *VLM, *remote).stderr.splitlines()
    assert "OPENAI_API_KEY" not in convert(data, tmp_path, *remote).stderr
    with FakeOpenAi() as server:
        local = convert(data, tmp_path, *at(server), "--dry-run")
    assert "OPENAI_API_KEY" not in local.stderr


# --- real shards


def test_real_shards_are_verified_and_repaired(shared_data, tmp_path):
    pytest.importorskip("onnxruntime")
    weights = shared_data / "weights" / "yolov8n-seg_int8.onnx"
    with FakeOpenAi() as server:
        done = run_ilv(
            "convert", "fractal", "--max-episodes", 2, "--out", tmp_path, *at(server),
            "--data-dir", shared_data / "rlds" / "fractal20220817_data" / "0.1.0",
            "--detector", f"yolo:{weights}",
        )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    [folder] = tmp_path.glob("fractal*/*")
    rows = read_table(folder / "episodes")
    assert len(rows) == 2
    looked = [found for row in rows for found in row["objects"] if found["frames_tried"]]
    repaired = [found for found in looked if found["method"] == "repair"]
    assert repaired
    for found in repaired:  # at the middle of a frame of 320 x 256, told so by the server
        assert {one[0] for one in tried(found)} == {"repair"}
        assert {tuple(one[4]) for one in tried(found)} == {(160.0, 128.0)}
        assert 1 <= len(json.loads(found["frames_tried"])["repair"][CAMERA]) <= 3
    asked = pictures(server)
    assert set(asked.values()) == {1}
    valid = run_ilv("validate", tmp_path)
    assert valid.exit_code == 0, valid.output
