"""`ilv eval phrases` and `ilv phrases`: how right an extractor is, and what an answer takes."""

import json

import fake_openai
import pytest
from click.testing import CliRunner
from converted import run_ilv
from fake_openai import FakeOpenAi

from ilv_dataset.models import chat as chats

CARROT, CUP, DRAWER = "put the carrot on the plate", "lift the red cup", "open the drawer"
GOLD = [
    {"instruction": CARROT, "objects": ["carrot", "plate"]},
    {"instruction": CUP, "objects": ["cup"]},  # not as any extractor reads it
    {"instruction": DRAWER, "objects": [], "surfaces": ["drawer"]},
]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chats, "_BACKOFF_S", 0.01)


@pytest.fixture
def gold(tmp_path):
    path = tmp_path / "gold.jsonl"
    path.write_text("\n".join(map(json.dumps, GOLD)) + "\n\n")
    return path


def at(server):
    return ("--extractor", "llm:fake-model", "--llm-base-url", server.base_url)


def only_error(result):
    assert result.exit_code == 1, result.stderr
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


# Found are carrot, plate and "red cup"; the drawer is neutral. Labelled are carrot, plate and
# "cup": two of three are right either way.
SCORE = """\
{} on 3 instructions
precision  0.667  (2 of 3 found)
recall     0.667  (2 of 3 labelled)
F1         0.667
"""
MISSES = """
1 instructions are not as labelled:
  lift the red cup
    missing  'cup'
    extra    'red cup'
"""


def test_the_grammar_is_scored_and_its_misses_are_listed(gold):
    done = run_ilv("eval", "phrases", "--gold", gold)
    assert done.exit_code == 0
    assert done.stdout == SCORE.format("grammar") + MISSES


def test_a_model_is_scored_with_what_an_answer_takes(gold):
    with FakeOpenAi() as server:
        done = run_ilv("eval", "phrases", "--gold", gold, *at(server))
        assert server.num_requests == 1
        again = run_ilv("eval", "phrases", "--gold", gold, *at(server))
        assert server.num_requests == 1
    [request] = server.requests
    count = fake_openai.count_tokens(request.body["messages"], "")["prompt_tokens"]
    lines = done.stdout.splitlines()
    assert lines[0] == "llm:fake-model on 3 instructions"
    [asked] = [line for line in lines if line.startswith("asked")]
    assert asked.startswith(f"asked      1 requests, {count:,} tokens in, ")
    assert asked.endswith(" tokens a right phrase")
    assert again.stdout == SCORE.format("llm:fake-model") + MISSES


def test_json_is_one_object(gold):
    with FakeOpenAi(fault_for=lambda texts: "refusal" if CUP in texts else None) as server:
        done = run_ilv("eval", "phrases", "--gold", gold, "--json", *at(server))
    found = json.loads(done.stdout)
    assert (found["extractor"], found["num_instructions"]) == ("llm:fake-model", 3)
    assert found["fallbacks"] == {"refused": 1}
    score = found["score"]
    assert (score["num_right"], score["num_predicted"], score["num_gold"]) == (2, 3, 3)
    assert score["f1"] == pytest.approx(2 / 3)
    assert score["misses"] == [{"instruction": CUP, "missing": ["cup"], "extra": ["red cup"]}]
    assert found["usage"]["requests"] == server.num_requests == 4  # together, then each alone
    assert found["usage"]["tokens_in"] > 0


def test_fallbacks_are_told_by_their_reason(gold):
    with FakeOpenAi(fault_for=lambda texts: "invented" if CARROT in texts else None) as server:
        done = run_ilv("eval", "phrases", "--gold", gold, *at(server), "--llm-items", 1)
    assert "fell back  1 on the grammar: phrase-not-in-text" in done.stdout.splitlines()


def test_all_right_and_nothing_labelled(tmp_path):
    path = tmp_path / "gold.jsonl"
    path.write_text(json.dumps({"instruction": CUP, "objects": ["red cup"]}))
    done = run_ilv("eval", "phrases", "--gold", path)
    assert "F1         1.000" in done.stdout
    assert "not as labelled" not in done.stdout
    path.write_text(json.dumps({"instruction": "go home", "objects": []}))
    assert "precision  1.000  (0 of 0 found)" in run_ilv("eval", "phrases", "--gold", path).stdout


@pytest.mark.parametrize(
    "content",
    [
        b"not json",
        b'{"instruction": "lift the cup"}',
        b'{"objects": ["cup"]}',
        b'["lift the cup"]',
        b'{"instruction": "lift the cup", "objects": "cup"}',
        b'{"instruction": "lift the cup", "objects": [["cup"]]}',
        b'{"instruction": "lift the cup", "objects": {"cup": 1}}',
        b'{"instruction": "lift the cup", "objects": [], "surfaces": "cup"}',
        b"\xff\xfe\x00",
        b"null",
    ],
)
def test_a_file_that_is_no_gold_is_one_line(tmp_path, content):
    path = tmp_path / "gold.jsonl"
    path.write_bytes(content)
    line = only_error(run_ilv("eval", "phrases", "--gold", path))
    assert line.startswith(f"Error: {path}: not a file of labelled instructions: ")


def test_an_empty_file_is_one_line(tmp_path):
    path = tmp_path / "gold.jsonl"
    path.write_text("\n")
    line = only_error(run_ilv("eval", "phrases", "--gold", path))
    assert line == f"Error: {path}: no labelled instructions in it"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "Missing option '--gold'"),
        (("--gold", "none.jsonl"), 2, "'none.jsonl' does not exist"),
        (("--gold", "."), 2, "is a directory"),
        (("--gold", "gold.jsonl", "--extractor", "nltk"), 1, "no extractor 'nltk'"),
        (("--gold", "gold.jsonl", "--extractor", "llm"), 1, "name the model"),
        (("--gold", "gold.jsonl", "--extractor", "llm:m"), 1, "needs a key in OPENAI_API_KEY"),
    ],
)
def test_wrong_use(gold, arguments, code, says):
    done = run_ilv("eval", "phrases", *arguments)
    assert done.exit_code == code
    assert says in " ".join(done.stderr.split())
    assert done.stdout == ""


@pytest.mark.parametrize("dataset", ["bridge", "rt1"])
def test_the_dev_gold_can_be_scored(shared_data, dataset):
    path = shared_data / "gold" / f"{dataset}_instructions.dev.jsonl"
    found = json.loads(run_ilv("eval", "phrases", "--gold", path, "--json").stdout)
    assert found["score"]["f1"] >= 0.97


# --- ilv phrases


def phrases(text, *arguments):
    from ilv_dataset.cli import main

    return CliRunner().invoke(main, ["phrases", *arguments], input=text)


def test_phrases_of_a_model_are_printed_in_the_order_of_the_lines():
    with FakeOpenAi() as server:
        done = phrases(f"{CUP}\n\n{CARROT}\n{CUP}\n", *at(server))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["instruction"] for row in rows] == [CUP, "", CARROT, CUP]
    assert rows[0]["objects"] == [
        {"phrase": "red cup", "start": 9, "end": 16, "query": "red cup", "kind": "container"}
    ]
    assert [found["phrase"] for found in rows[2]["objects"]] == ["carrot", "plate"]
    assert (rows[1]["objects"], rows[3]) == ([], rows[0])
    assert [request.texts for request in server.requests] == [(CUP, CARROT)]


def test_phrases_of_a_model_are_as_the_grammar_prints_them():
    with FakeOpenAi() as server:
        by_model = phrases(f"{CUP}\n{CARROT}\n", *at(server))
    assert by_model.stdout == phrases(f"{CUP}\n{CARROT}\n", "--extractor", "grammar").stdout


def test_phrases_without_an_endpoint_is_one_line():
    with FakeOpenAi(forbidden=True) as server:
        done = phrases(CUP, *at(server))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "HTTP 403" in done.stderr
    assert len(done.stderr.splitlines()) == 1
