"""`ilv validate` on the layout interleave-vla: what is wrong is found, and only that."""

import io
import random
import shutil

import numpy as np
import pytest
from builders import DATASET, convert, frame, scene_jpeg
from converted import ROOT, TRAIN_0, change_json, change_record, rewrite, write_source

from ilv_dataset.formats.tfrecord import read_records
from ilv_dataset.outputs import find_outputs
from ilv_dataset.validation import validate_output

RLDS = f"rlds/{DATASET}_interleave/1.0.0"
RECORDS = f"{RLDS}/{DATASET}_interleave-train.tfrecord-00000-of-00002"
GROUP = "steps/interleaved_instruction"


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    options = ("--layout", "interleave-vla", "--formats", "parquet,rlds", "--max-failed", "1")
    done = convert(write_source(folder / "source"), folder / "out", *options)
    assert done.exit_code == 0, done.stderr
    return folder / "out"


@pytest.fixture
def root(converted, tmp_path):
    """OUT/<dataset>/<version> of a copy that a test may damage."""
    shutil.copytree(converted, tmp_path / "out")
    return tmp_path / "out" / ROOT


def faults_of(root, *, deep=False):
    (layout,) = find_outputs(str(root))
    faults = []
    validate_output(layout, deep=deep, say=faults.append)
    return [str(fault).removeprefix(f"{root}/") for fault in faults]


def of_records(faults):
    """Those of the shard; its size is also in dataset_info.json."""
    return [fault for fault in faults if fault.startswith(RECORDS)]


def put(name, value):
    return lambda example: example.update({name: value})


def test_an_output_as_it_was_written_has_no_fault(root):
    assert faults_of(root) == []
    assert faults_of(root, deep=True) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (put(f"{GROUP}/language_instruction", [b"put it"] * 2),
         f"{GROUP}/language_instruction is not that of {TRAIN_0}__1#0"),
        (put(f"{GROUP}/image_mask/ragged_flat_values", np.array([1, 0])),
         f"{GROUP}/image_mask/ragged_flat_values is not that of"),
        (put(f"{GROUP}/image_instruction/ragged_flat_values", [scene_jpeg()] * 2),
         f"{GROUP}/image_instruction/ragged_flat_values is not that of"),
        (put("episode_metadata/span", np.array([7])), "no row of the episodes table belongs to it"),
        (put("episode_metadata/objects", [b"[]"]), "episode_metadata/objects is not that of"),
        (put("episode_metadata/step_start", np.array([2])), "has the steps 2 to 2"),
        (put("episode_metadata/step_start", np.array([1])), "has 2 steps, expected 1"),
        (put("steps/is_first", np.array([0, 0])), "steps/is_first is not set at its end alone"),
        (put("steps/is_last", np.array([1, 1])), "steps/is_last is not set at its end alone"),
        (put("steps/action", np.full(14, np.nan, np.float32)), "steps/action has a number that"),
        (put("steps/action", np.zeros(16, np.float32)), "steps/action has 16 values, expected 2"),
        (put("steps/observation/image", [scene_jpeg()] * 2),
         "steps/observation/image 0: is 64 x 48, features.json says 224 x 224"),
    ],
)  # fmt: skip
def test_records_that_are_not_as_they_should_be_are_faults(root, change, expected):
    change_record(root, RECORDS, 1, change)
    faults = faults_of(root)
    assert [f for f in faults if f.startswith(f"{RECORDS}: record 1") and expected in f], faults


def test_a_record_that_is_missing_differs_from_its_marker(root):
    content = (root / RECORDS).read_bytes()
    first, *_ = read_records(io.BytesIO(content), size=len(content))
    rewrite(root, RECORDS, frame(first.payload))
    (fault,) = of_records(faults_of(root))
    assert fault.startswith(f"{RECORDS}: has {{'records': 1, 'undecodable': 2}}, its marker")


def test_records_that_are_there_twice_are_faults(root):
    content = (root / RECORDS).read_bytes()
    rewrite(root, RECORDS, content + content)
    faults = faults_of(root)
    places = [f"{RECORDS}: record {n}: no row of the episodes table" for n in (3, 4, 5)]
    assert all(any(fault.startswith(place) for fault in faults) for place in places), faults


def test_frames_behind_the_first_are_decoded_by_deep_alone(root):
    def cut(example):
        frames = example["steps/observation/image"]
        frames[1] = frames[1][:-50]

    change_record(root, RECORDS, 1, cut)
    assert of_records(faults_of(root)) == []
    (fault,) = of_records(faults_of(root, deep=True))
    assert fault.startswith(f"{RECORDS}: record 1, steps/observation/image 1: image of")


def test_features_of_another_form_are_a_fault(root):
    path = root / RLDS / "features.json"
    rewrite(root, f"{RLDS}/features.json", path.read_bytes().replace(b'"224"', b'"256"', 1))
    assert f"{RLDS}/features.json: is not as the layout interleave-vla has it" in faults_of(root)


def test_a_plan_of_another_layout_is_a_fault(root):
    for name in ("plan.json", "run.json"):
        change_json(root / name, lambda content: content.get("config", content).pop("--layout"))
    faults = faults_of(root)
    assert [fault for fault in faults if "has no interleaved_instruction" in fault], faults


def test_damage_under_a_right_checksum_never_traces(root):
    rng = random.Random(0)
    content = (root / RECORDS).read_bytes()
    for _ in range(30):
        changed = bytearray(content)
        for _ in range(rng.randrange(1, 20)):
            changed[rng.randrange(len(content))] = rng.randrange(256)
        rewrite(root, RECORDS, bytes(changed))
        assert faults_of(root)
