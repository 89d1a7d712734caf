"""What is refused before any work begins, and which run an output folder belongs to."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ilv_dataset.cli import main
from ilv_dataset.datasets import find_dataset
from ilv_dataset.planning import ConvertOptions, plan_job

DEMO = Path(main.callback.__code__.co_filename).parent / "demo"  # type: ignore[union-attr]
ROOT = Path("ilv_demo", "1.0.0")


def ilv(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def read_tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("below", ["", "ilv_demo/1.0.0", "ilv_demo"])
def test_an_output_in_its_source_is_refused_even_with_overwrite(tmp_path: Path, below: str) -> None:
    shutil.copytree(DEMO, tmp_path / "data")
    before = read_tree(tmp_path)
    out = tmp_path / "data" / below
    found = ilv("convert", "demo", "--data-dir", tmp_path / "data", "--out", out, "--overwrite")
    if below == "ilv_demo":  # data/ilv_demo/ilv_demo lies beside the source, not in it
        assert found.exit_code == 0
        return
    assert found.exit_code == 1
    assert "would be written over its source" in found.stderr
    assert read_tree(tmp_path) == before


def test_another_option_is_refused_by_name_and_overwrite_makes_way(tmp_path: Path) -> None:
    assert ilv("convert", "demo", "--out", tmp_path).exit_code == 0
    before = read_tree(tmp_path)
    other = ("convert", "demo", "--out", tmp_path, "--picture-kinds", "container")
    found = ilv(*other)
    assert found.exit_code == 1
    assert (
        "--picture-kinds was ['container', 'object', 'tool'] and is ['container']" in found.stderr
    )
    assert read_tree(tmp_path) == before
    assert ilv(*other, "--overwrite").exit_code == 0
    run = json.loads((tmp_path / ROOT / "run.json").read_text())
    assert run["config"]["--picture-kinds"] == ["container"]


def test_overwrite_with_the_same_options_resumes(tmp_path: Path) -> None:
    assert ilv("convert", "demo", "--out", tmp_path).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert ilv("convert", "demo", "--out", tmp_path, "--overwrite").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before


def test_a_later_step_does_not_overwrite_what_it_needs(tmp_path: Path) -> None:
    assert ilv("convert", "demo", "--out", tmp_path).exit_code == 0
    before = read_tree(tmp_path)
    found = ilv("write", "demo", "--out", tmp_path, "--include", "text_only", "--overwrite")
    assert found.exit_code == 1
    assert "use it with `ilv convert` or `ilv parse`" in found.stderr
    assert read_tree(tmp_path) == before


def test_files_of_others_are_never_deleted(tmp_path: Path) -> None:
    (tmp_path / ROOT).mkdir(parents=True)
    (tmp_path / ROOT / "thesis.txt").write_text("years of work")
    found = ilv("convert", "demo", "--out", tmp_path, "--overwrite")
    assert found.exit_code == 1
    assert "holds thesis.txt but no plan.json: not an output of ours" in found.stderr
    assert (tmp_path / ROOT / "thesis.txt").read_text() == "years of work"


def test_only_ground_needs_the_weights(tmp_path: Path) -> None:
    options = ("demo", "--out", tmp_path, "--detector", "yolo:nowhere.pt")
    assert ilv("parse", *options).exit_code == 0
    found = ilv("ground", *options)
    assert found.exit_code == 1
    assert "no weights at nowhere.pt" in found.stderr


def test_steps_run_one_by_one_are_the_conversion(tmp_path: Path) -> None:
    for step in ("parse", "ground", "write"):
        assert ilv(step, "demo", "--out", tmp_path / "steps").exit_code == 0
    assert ilv("convert", "demo", "--out", tmp_path / "whole").exit_code == 0
    assert read_tree(tmp_path / "steps") == read_tree(tmp_path / "whole")


def test_splits_that_are_all_there_are_no_other_choice(tmp_path: Path) -> None:
    assert ilv("convert", "demo", "--out", tmp_path).exit_code == 0
    found = ilv("convert", "demo", "--out", tmp_path, "--split", "val", "--split", "train")
    assert found.exit_code == 0


def test_the_source_detector_looks_at_the_camera_of_the_boxes_alone(tmp_path: Path) -> None:
    options = ConvertOptions("demo", str(tmp_path), image_keys=("observation/image",))
    assert [c.key for c in plan_job(options).spec.probe_cameras] == ["observation/image"]
    found = ilv("convert", "bridge", "--data-dir", tmp_path / "none", "--out", tmp_path)
    assert f"--data-dir {tmp_path / 'none'}: no such folder" in found.stderr
    assert find_dataset("bridge").source_objects is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--direct_num_workers=abc",), "invalid int value: 'abc'"),
        (("--runner=Foo",), "Beam's flags: "),
        (("--runner=DataflowRunner",), "Dataflow's workers do not see --data-dir"),
    ],
)
def test_wrong_flags_of_beam_are_one_line(
    tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    found = ilv("convert", "demo", "--out", tmp_path, "--", *flags)
    assert found.exit_code == 1
    assert message in found.stderr
    assert found.stderr.count("\n") == 1


def test_an_empty_output_folder_is_wrong_use() -> None:
    found = ilv("convert", "demo", "--out", "")
    assert found.exit_code == 2
    assert "it is empty" in found.stderr
