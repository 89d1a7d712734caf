"""The commands as a user types them: what they print, and with which exit code they end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from builders import MARKED
from click.testing import CliRunner, Result

from ilv_dataset.cli import main


def run(*args: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], input=stdin)


def test_phrases_prints_one_object_a_line() -> None:
    result = run("phrases", stdin=b"put the carrot on the plate\n\nopen the drawer")
    first, empty, last = map(json.loads, result.stdout.splitlines())
    assert result.exit_code == 0
    assert set(first) == {"instruction", "objects"}
    assert first["objects"] == [
        {"phrase": "carrot", "start": 8, "end": 14, "query": "carrot", "kind": "object"},
        {"phrase": "plate", "start": 22, "end": 27, "query": "plate", "kind": "container"},
    ]
    assert empty == {"instruction": "", "objects": []}
    assert last["objects"][0]["kind"] == "fixture"


def test_phrases_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "instructions.txt"
    path.write_bytes("lift the tomätö\r\n".encode() + b"broken \xff byte\n")
    lines = run("phrases", path).stdout.splitlines()
    assert json.loads(lines[0])["instruction"] == "lift the tomätö"
    assert json.loads(lines[1])["instruction"] == "broken \N{REPLACEMENT CHARACTER} byte"


def test_datasets_lists_short_names_folders_and_mixtures() -> None:
    result = run("datasets")
    folders = dict(line.split()[:2] for line in result.stdout.split("\n\n")[0].splitlines())
    assert folders["bridge"] == "bridge_dataset"
    assert folders["bridge_oxe"] == "bridge"
    assert "210,000 source episodes" in result.stdout


def test_datasets_as_json_has_one_object_a_line() -> None:
    rows = [json.loads(line) for line in run("datasets", "--json").stdout.splitlines()]
    assert {row["dataset"] for row in rows} >= {"demo", "bridge", "fractal", "mutex", "droid"}


def test_an_unknown_dataset_ends_in_one_line_with_the_nearest_name() -> None:
    result = run("convert", "brigde")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no dataset 'brigde'; did you mean 'bridge'?")
    assert result.stderr.count("\n") == 1


def test_a_dataset_that_is_not_on_a_bucket_says_where_to_get_it() -> None:
    result = run("convert", "bridge")
    assert result.exit_code == 1
    assert "pass --data-dir DIR (with make: DATA_DIR=DIR)" in result.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--formats", "csv"), "'csv' is not one of parquet, rlds"),
        (("--include", "rejected"), "'rejected' is not one of text_only"),
        (("--picture-kinds", "object,person"), "'person' is not one of object"),
        (("--max-failed", "2"), "2.0 is not in the range 0<=x<=1"),
        (("--max-episodes", "0"), "0 is not in the range x>=1"),
    ],
)
def test_wrong_use_ends_with_2(option: tuple[str, str], message: str) -> None:
    result = run("convert", "demo", *option)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--extractor", "gpt"), "no extractor 'gpt'; expected auto, grammar, llm, llm:MODEL"),
        (("--extractor", "llm"), "--extractor llm: name the model"),
        (("--verifier", "vlm"), "no verifier 'vlm'"),
        (("--detector", "owl"), "no detector 'owl'; expected one of source"),
        (("--segmenter", "magic"), "no segmenter 'magic'; expected one of auto"),
        (("--detector", "yolo:nowhere.pt"), "no weights nowhere.pt in the working folder"),
        (("--segmenter", "sam:nowhere.pth"), "no weights nowhere.pth in the working folder"),
        (("--split", "test"), "no split 'test' in ilv_demo 1.0.0; splits: train"),
        (("--", "--direct_num_worker=2"), "Beam has no flag --direct_num_worker=2"),
        (("surplus",), "'surplus' is one argument too many"),
    ],
)
def test_a_choice_that_is_not_there_ends_in_one_line(
    option: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    result = run("convert", *MARKED, "--out", tmp_path, *option)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    result = run("convert", "demo", "--out", tmp_path / "out", "--dry-run", "--max-episodes", 3)
    assert result.exit_code == 0
    assert "episodes   3 in 1 shard\n" in result.stderr
    assert "detector   yolo-world:tabletop" in result.stderr
    assert not (tmp_path / "out").exists()


def test_dry_run_says_what_the_run_would_stop_with(tmp_path: Path) -> None:
    options = ("convert", "demo", "--out", tmp_path / "out", "--detector", "yolo:nowhere.pt")
    result = run(*options, "--dry-run")
    assert result.exit_code == 0
    notes = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert notes[0].startswith(
        "note: the run would stop: no weights nowhere.pt in the working folder"
    )
    assert notes[0].removeprefix("note: the run would stop: ") in run(*options).stderr


def test_dry_run_of_an_output_of_another_run_says_so(tmp_path: Path) -> None:
    assert run("parse", "demo", "--out", tmp_path).exit_code == 0
    result = run("parse", "demo", "--out", tmp_path, "--max-episodes", 3, "--dry-run")
    assert result.exit_code == 0
    assert "note: the run would stop: " in result.stderr
    assert "--max-episodes was None and is 3" in result.stderr


@pytest.mark.parametrize("command", [("convert", "demo", "--out"), ("inspect",)])
def test_a_file_where_a_folder_should_be_is_one_line(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = tmp_path / "file"
    path.touch()
    result = run(*command, path)
    assert result.exit_code == 1
    assert f"{path}" in result.stderr
    assert "a file, not a folder" in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_interrupted_run_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ilv_dataset.running.run_plan", interrupt)
    result = run("convert", "demo", "--out", tmp_path / "out")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "interrupted; the same command goes on where it was"


def test_simulate_says_how_to_convert_in_a_command_that_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["bin/ilv", "simulate"])
    monkeypatch.setattr("ilv_dataset.simulation.simulate", lambda out, **_: out / "ilv_demo")
    out = tmp_path / "my data"
    lines = run("simulate", "--episodes", 1, out).stderr.splitlines()
    assert lines[-2] == f"1 episode in {out}/ilv_demo; convert them with"
    assert lines[-1] == f"  bin/ilv convert demo --data-dir '{out}'"


def test_a_mixture_shows_its_sum_before_it_looks_for_data(tmp_path: Path) -> None:
    result = run("convert", "interleave_210k", "--data-dir", tmp_path, "--dry-run")
    assert "210,000 source episodes" in result.stderr
    assert result.exit_code == 1
    assert "no dataset_info.json of bridge" in result.stderr


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from ilv_dataset.cli import main;"
        "CliRunner().invoke(main, ['--help']);"
        "print(sorted({'numpy', 'apache_beam', 'torch', 'pyarrow', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
