"""What is refused before any work begins, and which run an output folder belongs to."""

import json
import shutil
from pathlib import Path

import pytest
from builders import MARKED
from click.testing import CliRunner, Result

from ilv_dataset.cli import main
from ilv_dataset.datasets import find_dataset
from ilv_dataset.errors import StorageError
from ilv_dataset.formats import files
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
    found = ilv("convert", *MARKED, "--data-dir", tmp_path / "data", "--out", out, "--overwrite")
    if below == "ilv_demo":  # data/ilv_demo/ilv_demo lies beside the source, not in it
        assert found.exit_code == 0
        return
    assert found.exit_code == 1
    assert "would be written over its source" in found.stderr
    assert read_tree(tmp_path) == before


def test_another_option_is_refused_by_name_and_overwrite_makes_way(tmp_path: Path) -> None:
    assert ilv("convert", *MARKED, "--out", tmp_path).exit_code == 0
    before = read_tree(tmp_path)
    other = ("convert", *MARKED, "--out", tmp_path, "--picture-kinds", "container")
    found = ilv(*other)
    assert found.exit_code == 1
    assert (
        "--picture-kinds was ['container', 'object', 'tool'] and is ['container']" in found.stderr
    )
    assert read_tree(tmp_path) == before
    assert ilv(*other, "--overwrite").exit_code == 0
    run = json.loads((tmp_path / ROOT / "run.json").read_text())
    assert run["config"]["--picture-kinds"] == ["container"]


def test_an_option_may_change_until_something_was_made_from_it(tmp_path: Path) -> None:
    assert ilv("parse", *MARKED, "--out", tmp_path).exit_code == 0
    kinds = ("--picture-kinds", "container")
    assert ilv("ground", *MARKED, "--out", tmp_path, *kinds).exit_code == 0
    refused = ilv("ground", *MARKED, "--out", tmp_path)
    assert refused.exit_code == 1
    assert "--picture-kinds was ['container'] and is" in refused.stderr
    included = ("--include", "text_only")
    assert ilv("write", *MARKED, "--out", tmp_path, *kinds, *included).exit_code == 0
    refused = ilv("write", *MARKED, "--out", tmp_path, *kinds)
    assert refused.exit_code == 1
    assert "--include was ['text_only'] and is []" in refused.stderr


def test_overwrite_with_the_same_options_resumes(tmp_path: Path) -> None:
    assert ilv("convert", *MARKED, "--out", tmp_path).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert ilv("convert", *MARKED, "--out", tmp_path, "--overwrite").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before


def test_a_later_step_does_not_overwrite_what_it_needs(tmp_path: Path) -> None:
    assert ilv("convert", *MARKED, "--out", tmp_path).exit_code == 0
    before = read_tree(tmp_path)
    found = ilv("write", *MARKED, "--out", tmp_path, "--include", "text_only", "--overwrite")
    assert found.exit_code == 1
    assert "use it with `ilv convert` or `ilv parse`" in found.stderr
    assert read_tree(tmp_path) == before


def test_files_of_others_are_never_deleted(tmp_path: Path) -> None:
    (tmp_path / ROOT).mkdir(parents=True)
    (tmp_path / ROOT / "thesis.txt").write_text("years of work")
    found = ilv("convert", *MARKED, "--out", tmp_path, "--overwrite")
    assert found.exit_code == 1
    assert "holds thesis.txt but no plan.json of ours: not an output of ours" in found.stderr
    assert (tmp_path / ROOT / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("content", [None, "", '{"ilv_dataset": '])
def test_an_output_whose_plan_is_lost_is_made_afresh_with_overwrite(
    tmp_path: Path, content: str | None
) -> None:
    command = ("convert", *MARKED, "--out", tmp_path)
    assert ilv(*command).exit_code == 0
    before = read_tree(tmp_path)
    plan = tmp_path / ROOT / "plan.json"
    plan.unlink()
    if content is not None:
        plan.write_text(content)
    found = ilv(*command)
    assert found.exit_code == 1
    last = found.stderr.splitlines()[-1]
    assert last.startswith(f"Error: {plan} is missing or damaged")
    assert last.endswith("use another --out, or --overwrite to start afresh")
    assert ilv(*command, "--max-episodes", 3, "--overwrite").exit_code == 0
    assert ilv(*command, "--overwrite").exit_code == 0
    assert read_tree(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("thesis.txt", "years of work", "holds thesis.txt but no plan.json of ours"),
        ("steps", "not a folder of ours", "holds steps but no plan.json of ours"),
        ("plan.json", '{"of": "something else"}', "plan.json: not a plan of ours"),
    ],
)
def test_what_is_not_ours_is_not_deleted_for_want_of_a_plan(
    tmp_path: Path, name: str, content: str, says: str
) -> None:
    (tmp_path / ROOT).mkdir(parents=True)
    if name == "thesis.txt":
        (tmp_path / ROOT / ".state").mkdir()
    (tmp_path / ROOT / name).write_text(content)
    found = ilv("convert", *MARKED, "--out", tmp_path, "--overwrite")
    assert found.exit_code == 1
    assert says in found.stderr
    assert (tmp_path / ROOT / name).read_text() == content


def test_a_folder_under_another_name_says_the_two_ways_out(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "1.0.0"
    shutil.copytree(DEMO / ROOT, folder)
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace('"ilv_demo"', '"yours"'))
    for path in folder.glob("ilv_demo-*"):
        path.rename(path.with_name(path.name.replace("ilv_demo", "yours")))
    found = ilv("convert", "mine", "--data-dir", tmp_path, "--dry-run")
    assert found.exit_code == 1
    assert (
        "the folder holds the dataset yours, expected mine for mine; say yours and pass this very "
        "folder as --data-dir, or rename the folder of the dataset to yours"
    ) in found.stderr
    assert ilv("convert", "yours", "--data-dir", folder, "--dry-run").exit_code == 0
    (tmp_path / "mine").rename(tmp_path / "yours")
    assert ilv("convert", "yours", "--data-dir", tmp_path, "--dry-run").exit_code == 0


def test_only_ground_needs_the_weights(tmp_path: Path) -> None:
    options = ("demo", "--out", tmp_path, "--detector", "yolo:nowhere.pt")
    assert ilv("parse", *options).exit_code == 0
    found = ilv("ground", *options)
    assert found.exit_code == 1
    assert "no weights nowhere.pt in the working folder" in found.stderr


def test_steps_run_one_by_one_are_the_conversion(tmp_path: Path) -> None:
    for step in ("parse", "ground", "write"):
        assert ilv(step, *MARKED, "--out", tmp_path / "steps").exit_code == 0
    assert ilv("convert", *MARKED, "--out", tmp_path / "whole").exit_code == 0
    assert read_tree(tmp_path / "steps") == read_tree(tmp_path / "whole")


def test_splits_that_are_all_there_are_no_other_choice(tmp_path: Path) -> None:
    assert ilv("convert", *MARKED, "--out", tmp_path).exit_code == 0
    found = ilv("convert", *MARKED, "--out", tmp_path, "--split", "val", "--split", "train")
    assert found.exit_code == 0


def test_the_demo_is_grounded_by_the_bundled_models_unless_told(tmp_path: Path) -> None:
    def models(**given: str) -> tuple[str, str]:
        job = plan_job(ConvertOptions("demo", str(tmp_path), **given))  # type: ignore[arg-type]
        return job.detector, job.segmenter

    assert models() == ("yolo-world:tabletop", "sam:tabletop")
    assert models(detector="yolo-world:tabletop") == ("yolo-world:tabletop", "sam:tabletop")
    assert models(detector="source") == ("source", "auto")
    assert models(segmenter="grabcut") == ("yolo-world:tabletop", "grabcut")


def test_the_source_detector_looks_at_the_camera_of_the_boxes_alone(tmp_path: Path) -> None:
    options = ConvertOptions(
        "demo", str(tmp_path), detector="source", image_keys=("observation/image",)
    )
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
    found = ilv("convert", *MARKED, "--out", tmp_path, "--", *flags)
    assert found.exit_code == 1
    assert message in found.stderr
    assert found.stderr.count("\n") == 1


def test_a_dataset_that_a_mixture_lacks_is_named_where_its_bucket_is_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_can_reach_google", lambda: False)
    options = ConvertOptions("fractal", str(tmp_path), data_dir=str(tmp_path), is_part=True)
    with pytest.raises(
        StorageError,
        match=f"^fractal is not in --data-dir {tmp_path}, and gs://gresearch/.* cannot be reached",
    ):
        plan_job(options)


def test_an_empty_output_folder_is_wrong_use() -> None:
    found = ilv("convert", *MARKED, "--out", "")
    assert found.exit_code == 2
    assert "it is empty" in found.stderr
