"""validate: a dataset that is whole passes; whatever is changed in it is a line, and no trace."""

from __future__ import annotations

import dataclasses
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import Converted, convert, encode, make_object, make_row, make_span, scene_jpeg
from converted import (
    ROOT,
    TRAIN_0,
    change_json,
    change_record,
    converted_once,
    copy_converted,
    rewrite,
    rewrite_rows,
    run_ilv,
)
from PIL import Image

from ilv_dataset.episodes import IndexedSpan
from ilv_dataset.layout import Layout
from ilv_dataset.masks import encode_rle
from ilv_dataset.outputs import find_outputs
from ilv_dataset.records import ParsedInstruction, Phrase
from ilv_dataset.validation import Fault, validate_output
from ilv_dataset.validation.frames import object_faults
from ilv_dataset.validation.rows import (
    coverage_faults,
    image_fault,
    index_faults,
    instruction_faults,
    parsed_faults,
    row_faults,
)

EPISODES = "episodes/train-00000-of-00002.parquet"
STEPS = "steps/train-00000-of-00002.parquet"
INDEX = ".state/parse/train-00000-of-00002.index.parquet"
INSTRUCTIONS = "instructions/instructions.parquet"
RLDS = "rlds/ilv_demo_interleave/1.0.0"
RECORDS = f"{RLDS}/ilv_demo_interleave-train.tfrecord-00000-of-00002"
SUMMARY = (
    "ilv_demo 1.0.0: 15 files of {}, 7 spans of 6 episodes in 3 shards, 5 instructions, "
    "6 crops, 10 steps, 4 RLDS records, {} frames decoded, TFDS opens it: no fault"
)
# A frame has 3 images a step; 10 steps are written, once to Parquet and once to RLDS.
NUM_PROBED, NUM_ALL = 4, 60

Rows = list[dict[str, Any]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return copy_converted(tmp_path)


def faults_of(root: Path, *, deep: bool = False) -> list[str]:
    """The lines of the faults, with paths relative to the root."""
    (layout,) = find_outputs(str(root))
    faults: list[Fault] = []
    num_faults, _ = validate_output(layout, deep=deep, say=faults.append)
    assert num_faults == len(faults)
    return [str(fault).removeprefix(f"{root}/") for fault in faults]


@pytest.mark.parametrize(("options", "num_frames"), [((), NUM_PROBED), (("--deep",), NUM_ALL)])
def test_validate_says_what_was_checked_when_all_is_well(options, num_frames):
    done = run_ilv("validate", converted_once(), *options)
    assert done.exit_code == 0
    size = sum(
        path.stat().st_size
        for pattern in ("*/*.parquet", "rlds/*/*/*")
        for path in (converted_once() / ROOT).glob(pattern)
    )
    size += sum(p.stat().st_size for p in (converted_once() / ROOT).glob(".state/parse/*.parquet"))
    assert done.stdout == SUMMARY.format(f"{size / 1e6:.1f} MB", num_frames) + "\n"


def test_validate_prints_one_line_a_fault_and_exits_with_1(root):
    (root / STEPS).unlink()
    (root / "notes.txt").write_text("mine")
    done = run_ilv("validate", root)
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        f"{root}/{STEPS}: missing",
        f"{root}/notes.txt: in no marker: not committed",
    ]
    assert done.stderr.splitlines()[-1] == f"Error: {root}: 2 faults"


def test_validate_of_a_folder_without_a_dataset_is_one_line(tmp_path):
    done = run_ilv("validate", tmp_path)
    assert (done.exit_code, done.stdout) == (1, "")
    assert (
        done.stderr
        == f"Error: {tmp_path}: no such folder; expected OUT or OUT/<dataset>/<version>\n"
    )


def convert_again(root: Path) -> Converted:
    """The command that made `converted_once`, on a copy of what it wrote."""
    return convert(
        converted_once().parent / "source",
        root.parents[1],
        "--formats", "parquet,rlds", "--max-failed", "1", "--detector", "source",
    )  # fmt: skip


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap(path: Path) -> None:
    other = path.with_name(path.name.replace("00000-of-00002", "00001-of-00002"))
    ours = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(ours)


@pytest.mark.parametrize("name", [EPISODES, STEPS, INDEX, INSTRUCTIONS, RECORDS])
@pytest.mark.parametrize("damage", [Path.unlink, truncate, flip])
def test_a_damaged_file_is_one_fault_and_is_not_read_further(root, name, damage):
    damage(root / name)
    (fault,) = faults_of(root)
    assert fault.startswith(f"{name}: ")


@pytest.mark.parametrize("name", [EPISODES, STEPS, INDEX, RECORDS])
def test_files_that_are_swapped_are_two_faults(root, name):
    swap(root / name)
    assert len(faults_of(root)) == 2


def test_a_run_that_is_not_complete_is_a_fault_and_is_checked_all_the_same(root):
    (root / "run.json").unlink()
    (root / RECORDS).unlink()
    faults = faults_of(root)
    assert faults == [
        "run.json: missing: the run is not complete; run the same command again",
        f"{RECORDS}: missing",
    ]


@pytest.mark.parametrize(("is_grounded", "step"), [(False, "ilv ground"), (True, "ilv write")])
def test_a_run_that_is_begun_step_by_step_is_told_the_next(root, is_grounded, step):
    for name in ("steps", "rlds", ".state/steps", ".state/rlds"):
        shutil.rmtree(root / name)
    if not is_grounded:
        shutil.rmtree(root / "episodes")
        shutil.rmtree(root / ".state/ground")
    (root / "run.json").unlink()
    assert faults_of(root)[0] == (
        f"run.json: missing: the run is not complete; run the same command again, or `{step}` next"
    )


@pytest.mark.parametrize(
    "name", [EPISODES, STEPS, INDEX, INSTRUCTIONS, RECORDS, f"{RLDS}/features.json"]
)
def test_what_is_said_about_a_wrong_checksum_mends_it(root, name):
    content = (root / name).read_bytes()
    flip(root / name)
    fault = faults_of(root)[0]
    assert fault.endswith(": delete this file and run the same command again")
    (root / name).unlink()
    assert convert_again(root).exit_code == 0
    assert (root / name).read_bytes() == content
    assert faults_of(root) == []


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_damaged_marker_says_that_the_shard_is_not_complete(root, content):
    (root / ".state/ground/train-00000-of-00002.json").write_text(content)
    fault = faults_of(root)[0]
    assert fault.startswith(".state/ground/train-00000-of-00002.json: not a marker: ")
    assert fault.endswith("; the shard is not complete: run the same command again")
    assert convert_again(root).exit_code == 0
    assert faults_of(root) == []


def test_a_shard_without_its_marker_is_not_committed(root):
    (root / ".state/steps/train-00000-of-00002.json").unlink()
    assert faults_of(root) == [
        ".state/steps/train-00000-of-00002.json: missing: the shard is not committed"
    ]


def test_without_any_marker_the_files_of_run_json_are_checked(root):
    shutil.rmtree(root / ".state")
    flip(root / STEPS)
    missing, damaged = faults_of(root)
    assert missing == ".state: missing: no shard is committed"
    assert damaged.startswith(f"{STEPS}: has CRC32C ")


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("plan.json", lambda plan: plan.update({"--detector": "x"}), "run.json: the option --det"),
        ("plan.json", lambda plan: plan.pop("--max-episodes"), "run.json: the option --max-epi"),
        ("run.json", lambda run: run["account"].update(num_in=8), "run.json: the account is"),
        ("run.json", lambda run: run["counts"]["steps"].update(steps=9), "run.json: counts are"),
        ("run.json", lambda run: run["files"][1].update(num_bytes=1), "run.json: episodes/train-"),
        ("run.json", lambda run: run["files"].pop(-3), "run.json: does not list rlds/"),
        ("run.json", lambda run: run["files"][0].pop("path"), "run.json: not the entry of a file"),
        ("run.json", lambda run: run.update(formats=["csv"]), "run.json: formats are ['csv']"),
        ("run.json", lambda run: run["versions"].update(numpy=2), "run.json: "),
        (
            ".state/ground/train-00000-of-00002.json",
            lambda marker: marker["counts"].update(interleaved=4),
            f"{EPISODES}: has ",
        ),
        (
            ".state/ground/train-00000-of-00002.json",
            lambda marker: marker["inputs"].update(parse="00000000"),
            ".state/ground/train-00000-of-00002.json: made from ",
        ),
        (
            ".state/rlds/train-00000-of-00002.json",
            lambda marker: marker["files"][0].update(path="../x"),
            ".state/rlds/train-00000-of-00002.json: names the files ",
        ),
        (
            ".state/parse/train-00000-of-00002.json",
            lambda marker: marker["inputs"].update(source="1"),
            f"{INDEX}: its records end at byte ",
        ),
        (
            ".state/instructions/all.json",
            lambda marker: marker["inputs"].update(indexes="0"),
            ".state/instructions/all.json: made from ",
        ),
    ],
)
def test_what_the_run_says_of_itself_must_agree(root, name, change, expected):
    change_json(root / name, change)
    assert [fault for fault in faults_of(root) if fault.startswith(expected)]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"counts": {"a": Infinity}}', b"{"]
)
@pytest.mark.parametrize(
    "name",
    [
        "plan.json",
        "run.json",
        ".state/ground/train-00000-of-00002.json",
        f"{RLDS}/features.json",
        f"{RLDS}/dataset_info.json",
    ],
)
def test_json_that_is_none_of_ours_is_a_fault(root, name, content):
    (root / name).write_bytes(content)
    assert faults_of(root)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: f["steps"]["sequence"]["feature"]["featuresDict"]["features"].pop("action"),
         "steps/train-00000-of-00002.parquet: its columns are not"),
        (lambda f: f["steps"]["sequence"]["feature"]["featuresDict"]["features"].update(
            more={"pythonClassName": "x", "tensor": {"dtype": "float32", "shape": {}}}),
         f"{RECORDS}: record 0: the record has no steps/more"),
        (lambda f: f.pop("interleaved_instruction"),
         f"{RLDS}/features.json: has no interleaved_instruction"),
        (lambda f: f["interleaved_instruction"]["featuresDict"]["features"].pop("span"),
         f"{RLDS}/features.json: interleaved_instruction is not as it was written"),
    ],
)  # fmt: skip
def test_features_json_must_fit_the_records(root, change, expected):
    path = root / RLDS / "features.json"
    content = json.loads(path.read_text())
    change(content["featuresDict"]["features"])
    path.write_text(json.dumps(content, indent=4, sort_keys=True) + "\n")
    assert [fault for fault in faults_of(root) if fault.startswith(expected)]


def test_dataset_info_json_must_have_the_lengths_of_the_shards(root):
    path = root / RLDS / "dataset_info.json"
    path.write_text(path.read_text().replace('"3"', '"2"'))
    wrong_checksum, wrong_lengths = sorted(faults_of(root))
    assert wrong_checksum.startswith(f"{RLDS}/dataset_info.json: has CRC32C ")
    assert wrong_lengths.startswith(f"{RLDS}/dataset_info.json: has the shard lengths ")


def set_value(row: int, name: str, value: object) -> Callable[[Rows], None]:
    return lambda rows: rows[row].update({name: value})


def set_object(row: int, position: int, **values: object) -> Callable[[Rows], None]:
    return lambda rows: rows[row]["objects"][position].update(values)


def double(rows: Rows) -> None:
    rows.append(rows[0])


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        (EPISODES, double, "row 3 ({}__0#0): the id is there twice"),
        (EPISODES, lambda rows: rows.pop(), "has 2 rows, the index 3"),
        (EPISODES, set_value(0, "span", 1), "row 0 ({}__0#1): is record, span, steps"),
        (EPISODES, set_value(0, "step_end", 3), "row 0 ({}__0#0): is record, span, steps"),
        (EPISODES, set_value(0, "split", "val"), "row 0 ({}__0#0): is of dataset"),
        (EPISODES, set_value(0, "episode_id", "x"), "row 0 (x#0): the episode_id is not record 0"),
        (EPISODES, set_value(0, "instruction", None), "row 0: instruction is null"),
        (EPISODES, set_value(0, "images", None), "row 0: images is null"),
        (EPISODES, set_value(0, "interleaved", "<image>"), "row 0 ({}__0#0): 1 placeholders, 2"),
        (EPISODES, set_value(0, "interleaved", "<image> <image>"), "row 0 ({}__0#0): reads"),
        (EPISODES, set_value(0, "status", "odd"), "row 0 ({}__0#0): the reason is '' and the st"),
        (EPISODES, set_value(0, "reason", "no-crop"), "row 0 ({}__0#0): the reason is 'no-crop'"),
        (EPISODES, set_value(0, "images", [{"bytes": b"", "path": "a"}] * 2),
         "row 0 ({}__0#0), image 0: image of 0 bytes "),
        (EPISODES, lambda rows: rows[0]["images"][1].update(path="a"),
         "row 0 ({}__0#0), image 1: is called 'a'"),
        (EPISODES, set_object(0, 0, start=9), "row 0 ({}__0#0): has the phrases"),
        (EPISODES, set_object(0, 0, frame_index=2), "row 0 ({}__0#0): 'carrot' is in frame 2"),
        (EPISODES, set_object(0, 0, frame_index=None), "row 0 ({}__0#0): 'carrot' is grounded T"),
        (INSTRUCTIONS, set_value(2, "status", "odd"), "row 2: the status is 'odd'"),
        (INSTRUCTIONS, double, "row 5: '  ' is there twice"),
        (INSTRUCTIONS, lambda rows: rows[0].update(instruction="a"), "no span has the instruction"),
        (INDEX, set_value(1, "step_end", 1), "record 1: the spans do not cover the 5 steps"),
        (INDEX, set_value(2, "span", 7), "record 1: the spans are numbered [0, 7]"),
        (INDEX, lambda rows: rows.pop(0), "record 1: expected record 0"),
        (INDEX, set_value(0, "probes", None), "row 0: probes is null"),
        (STEPS, lambda rows: rows.pop(), "has 6 rows, expected 7"),
        (STEPS, lambda rows: rows.append(rows[-1]), "row 7: is step 4 of {}__1#1, expected no"),
        (STEPS, lambda rows: rows.reverse(), "row 0: is step 4 of {}__1#1, expected step 0"),
        (STEPS, set_value(3, "language_instruction", "a"), "row 3: has the instruction 'a'"),
        (STEPS, set_value(4, "observation/image", {"bytes": b"no", "path": None}),
         "row 4 ({}__1#1), observation/image of step 2: image of 2 bytes "),
        (STEPS, set_value(4, "observation/image", None),
         "row 4 ({}__1#1), observation/image of step 2: image of 0 bytes "),
    ],
)  # fmt: skip
def test_rows_that_were_written_wrong_are_faults(root, name, change, expected):
    rewrite_rows(root, name, change)
    line = f"{name}: {expected.format(TRAIN_0)}"
    faults = faults_of(root)
    assert [fault for fault in faults if fault.startswith(line)], faults


def test_a_frame_without_an_object_is_decoded_by_deep_alone(root):
    cut = {"bytes": scene_jpeg()[:-50], "path": None}
    rewrite_rows(root, STEPS, set_value(1, "observation/image", cut))
    assert faults_of(root) == []
    (fault,) = faults_of(root, deep=True)
    assert fault.startswith(f"{STEPS}: row 1 ({TRAIN_0}__0#0), observation/image of step 1: image")


def test_two_shards_of_one_source_shard_are_a_fault(root):
    def rename(rows: Rows) -> None:
        for row in rows:
            row["source_shard"] = TRAIN_0
            row["episode_id"] = f"{TRAIN_0}__{row['record_index']}"

    rewrite_rows(root, "episodes/train-00001-of-00002.parquet", rename)
    assert [fault for fault in faults_of(root) if "its source shard is that of" in fault]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda e: e.update({"interleaved_instruction/language_instruction": [b"put it"]}),
         "record 1: interleaved_instruction/language_instruction is not that of"),
        (lambda e: e["interleaved_instruction/image_instruction"].reverse(),
         "record 1: interleaved_instruction/image_instruction is not that of"),
        (lambda e: e.pop("interleaved_instruction/objects/box_xyxy"),
         "record 1: interleaved_instruction/objects/box_xyxy is not that of"),
        (lambda e: e.pop("steps/action"), "record 1: the record has no steps/action"),
        (lambda e: e["steps/observation/image"].pop(), "record 1: "),
    ],
)  # fmt: skip
def test_records_that_are_not_their_rows_are_faults(root, change, expected):
    change_record(root, RECORDS, 1, change)
    assert [fault for fault in faults_of(root) if fault.startswith(f"{RECORDS}: {expected}")]


def test_records_that_are_missing_or_too_many_are_faults(root):
    content = (root / RECORDS).read_bytes()
    rewrite(root, RECORDS, content + content)
    line = f"{RECORDS}: record 3: no row of the episodes table belongs to it"
    assert line in faults_of(root)
    rewrite(root, RECORDS, b"")
    assert f"{RECORDS}: has 0 records, expected 3" in faults_of(root)


def test_frames_of_records_are_decoded_where_there_is_no_steps_table(root):
    shutil.rmtree(root / "steps")
    shutil.rmtree(root / ".state/steps")

    def without_steps(run: dict[str, Any]) -> None:
        run["formats"] = ["rlds"]
        run["files"] = [file for file in run["files"] if not file["path"].startswith("steps/")]
        del run["counts"]["steps"]

    change_json(root / "run.json", without_steps)
    assert faults_of(root) == []
    cut = scene_jpeg(2)[:-50]
    change_record(
        root, RECORDS, 0, lambda example: example["steps/observation/image"].__setitem__(0, cut)
    )
    place = f"{RECORDS}: record 0, steps/observation/image 0: image of {len(cut)} bytes"
    assert [fault for fault in faults_of(root) if fault.startswith(place)]


def test_every_change_of_a_byte_is_a_fault(root):
    rng = random.Random(0)
    paths = sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size)
    for turn in range(60):
        path = paths[turn % len(paths)]
        content = path.read_bytes()
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        found = faults_of(root)
        assert found or is_free(content, bytes(changed)), (path, bytes(changed))
        path.write_bytes(content)


def is_free(before: bytes, after: bytes) -> bool:
    """Whether only values differ that nothing else in the dataset repeats."""
    try:
        contents = [json.loads(before), json.loads(after)]
    except ValueError:
        return False
    for content in contents:
        for name in ("versions", "citation", "description", "location", "redistributionInfo"):
            content.pop(name, None)
        content.get("inputs", {}).pop("modified", None)
    return bool(contents[0] == contents[1])


@pytest.mark.parametrize("name", [EPISODES, STEPS, INDEX, INSTRUCTIONS, RECORDS])
def test_damage_under_a_right_checksum_never_traces(root, name):
    rng = random.Random(name)
    content = (root / name).read_bytes()
    for turn in range(12):
        changed = bytearray(content)
        # The footer of a Parquet file says how to read the rest.
        start = len(content) - 4000 if turn % 2 and len(content) > 4000 else 0
        changed[rng.randrange(start, len(content))] ^= 1 << rng.randrange(8)
        rewrite(root, name, bytes(changed))
        faults_of(root, deep=turn % 3 == 0)
        rewrite(root, name, content)


def test_a_fault_is_one_line_without_control_characters():
    fault = Fault("a.parquet", "row 1", "a.parquet: two\nlines \x1b[31m" + "x" * 1000)
    assert str(fault).startswith("a.parquet: row 1: two lines  [31mxxx")
    assert len(str(fault)) == 600


ROW = make_row(
    interleaved="put <image> on the plate",
    objects=(
        make_object("carrot"),
        make_object("plate", start=22, end=27, grounded=False, camera=None, frame_index=None,
                    box_xyxy=None, scale=None, source=None, reason="absent"),
    ),
)  # fmt: skip
PARSED = ParsedInstruction(
    "put the carrot on the plate",
    "put the carrot on the plate",
    (Phrase("carrot", 8, 14, "carrot", "object"), Phrase("plate", 22, 27, "plate", "container")),
    "parsed",
    "",
    "grammar",
)


def test_row_faults_of_a_sound_row_are_none():
    assert list(row_faults(ROW)) == []
    assert list(parsed_faults(ROW, PARSED)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"interleaved": "put it"}, "0 placeholders, 1 images and 1 grounded objects"),
        ({"images": ()}, "1 placeholders, 0 images and 1 grounded objects"),
        ({"status": "failed"}, "the reason is '' and the status 'failed'"),
        ({"status": "text_only", "reason": "no-crop"}, "the status is 'text_only' with 1 images"),
        ({"step_end": 0}, "the span has the steps 0 to 0"),
        ({"record_index": 1}, "the episode_id is not record 1 of "),
    ],
)
def test_row_faults_name_what_does_not_fit(changes, expected):
    faults = list(row_faults(dataclasses.replace(ROW, **changes)))
    assert [fault for fault in faults if fault.startswith(expected)], faults


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"reason": "absent"}, "'carrot' is grounded True with the reason 'absent'"),
        ({"camera": None}, "'carrot' is grounded True with camera"),
        ({"box_xyxy": (8.0, 8.0, 8.0, 16.0)}, "'carrot' has the box (8.0, 8.0, 8.0, 16.0)"),
        ({"box_xyxy": (8.0, 8.0)}, "'carrot' has the box (8.0, 8.0)"),
        ({"box_xyxy": (float("nan"), 8.0, 9.0, 16.0)}, "'carrot' has the box (nan, 8.0"),
        ({"box_score": 1.5}, "'carrot' has the box_score 1.5"),
        ({"mask_score": -1.0}, "'carrot' has the mask_score -1.0"),
        ({"frame_index": 2}, "'carrot' is in frame 2, outside the span"),
    ],
)
def test_row_faults_look_at_each_object(changes, expected):
    row = dataclasses.replace(ROW, objects=(make_object("carrot", **changes),))
    assert [fault for fault in row_faults(row) if fault.startswith(expected)]


MATCHED = (
    '[{"method": "detect", "camera": "observation/image", "frame_index": 0, "verdict": "match",'
    ' "reason": "a carrot"}]'
)
REJECTED = MATCHED.replace('"match"', '"mismatch"')


def test_row_faults_of_verified_objects_are_none():
    tried = {"verifier": "fake", "frames_tried": '{"detect": {"observation/image": [0, 1]}}'}
    text = dataclasses.replace(ROW.objects[1], **tried, verdict="mismatch", verdicts=REJECTED,
                               reason="rejected-by-verifier")  # fmt: skip
    found = make_object("carrot", **tried, verdict="match", verdicts=MATCHED)
    assert list(row_faults(dataclasses.replace(ROW, objects=(found, text)))) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"verdicts": "x"}, "'carrot': "),
        ({"frames_tried": '{"detect": {"a": [2]}}'}, "'carrot' was looked for in frame 2, outside"),
        ({"verdict": "match"}, "'carrot' has the verdict 'match', its crops []"),
        ({"verdict": "match", "verifier": None}, "'carrot' has the verdict 'match' of the ver"),
        ({"verdicts": MATCHED}, "'carrot' has the verdict 'unverified', its crops ['match']"),
        ({"verdicts": REJECTED, "verdict": "mismatch"}, "'carrot' has the picture of a detect"),
        ({"verdicts": REJECTED, "verdict": "mismatch"}, "'carrot' has the reason ''"),
        ({"verdicts": MATCHED, "verdict": "match", "method": "repair"},
         "'carrot' has the picture of a repair that no verdict accepts"),
        ({"method": "guess"}, "'carrot' has the picture of a guess that no verdict accepts"),
    ],
)  # fmt: skip
def test_row_faults_look_at_what_was_tried(changes, expected):
    row = dataclasses.replace(ROW, objects=(make_object("carrot", **changes),))
    faults = list(row_faults(row))
    assert [fault for fault in faults if fault.startswith(expected)], faults


def test_parsed_faults_compare_with_the_instructions_table():
    (missing,) = parsed_faults(ROW, None)
    assert (
        missing == "the instruction 'put the carrot on the plate' is not in the instructions table"
    )
    rejected = dataclasses.replace(PARSED, objects=(), status="rejected", reason="no-object-phrase")
    (fault,) = parsed_faults(ROW, rejected)
    assert fault == "is interleaved: , its instruction rejected: no-object-phrase"
    one = dataclasses.replace(PARSED, objects=PARSED.objects[:1])
    (fault,) = parsed_faults(ROW, one)
    assert fault.startswith("has the phrases [('carrot', 8, 14, 'carrot'), ('plate', 22, 27,")


def test_instruction_faults_find_phrases_that_are_not_there():
    assert list(instruction_faults(PARSED)) == []
    moved = dataclasses.replace(PARSED.objects[0], start=7, end=13)
    (fault,) = instruction_faults(dataclasses.replace(PARSED, objects=(moved,)))
    assert fault == "'carrot' is not at 7 to 13 of 'put the carrot on the plate'"
    (fault,) = instruction_faults(dataclasses.replace(PARSED, objects=PARSED.objects[::-1]))
    assert fault == "'carrot' overlaps the phrase before it"


def test_image_fault_wants_a_jpeg_of_224_by_224_in_colour():
    square = np.zeros((224, 224, 3), np.uint8)
    assert image_fault(encode(square, "JPEG")) is None
    assert image_fault(encode(square, "PNG")) == (
        "a PNG of 224 x 224 RGB, expected a JPEG of 224 x 224 RGB"
    )
    assert image_fault(encode(square[:200], "JPEG")) == (
        "a JPEG of 224 x 200 RGB, expected a JPEG of 224 x 224 RGB"
    )
    buffer = io.BytesIO()
    Image.new("L", (224, 224)).save(buffer, "JPEG")
    assert "224 x 224 L" in str(image_fault(buffer.getvalue()))
    assert "image of 3 bytes" in str(image_fault(b"\xff\xd8\xff"))


def spans(*edges: tuple[int, int], num_steps: int = 5) -> list[IndexedSpan]:
    return [
        make_span(str(n).encode(), number=n, start=start, end=end, num_steps=num_steps)
        for n, (start, end) in enumerate(edges)
    ]


def test_coverage_faults_want_every_step_in_one_span():
    assert list(coverage_faults(spans((0, 2), (2, 5)))) == []
    assert list(coverage_faults(spans((0, 2), (3, 5)))) == [
        "the spans do not cover the 5 steps: 0 to 2, 3 to 5"
    ]
    assert list(coverage_faults(spans((0, 2), (2, 4)))) == [
        "the spans do not cover the 5 steps: 0 to 2, 2 to 4"
    ]
    assert list(coverage_faults(spans((1, 5)))) == ["the spans do not cover the 5 steps: 1 to 5"]


def test_index_faults_name_both_sides():
    assert list(index_faults(make_span(), ROW)) == []
    (fault,) = index_faults(make_span(end=3), ROW)
    text = "put the carrot on the plate"
    assert fault == (
        f"is record, span, steps, instruction (0, 0, 0, 2, '{text}'), "
        f"but (0, 0, 0, 3, '{text}') in the index"
    )


def test_object_faults_compare_with_the_size_of_the_frame():
    mask = np.zeros((48, 64), bool)
    mask[8:16, 8:24] = True
    found = make_object(mask_rle=encode_rle(mask))
    assert list(object_faults(found, size_hw=(48, 64))) == []
    assert list(object_faults(found, size_hw=(16, 20))) == [
        "the box (8.0, 8.0, 24.0, 16.0) of 'carrot' is not inside 20 x 16",
        "the mask of 'carrot' is of 64 x 48, the frame 20 x 16",
    ]
    empty = make_object(mask_rle=encode_rle(mask & False))
    assert list(object_faults(empty, size_hw=(48, 64))) == ["the mask of 'carrot' is empty"]
    (fault,) = object_faults(make_object(mask_rle="{}"), size_hw=(48, 64))
    assert fault.startswith("the mask of 'carrot': not a mask")


def test_layout_of_the_fixture_is_the_one_that_is_tested():
    (layout,) = find_outputs(str(converted_once()))
    assert layout == Layout(str(converted_once()), "ilv_demo", "1.0.0")
    assert (converted_once() / ROOT / RECORDS).is_file()
