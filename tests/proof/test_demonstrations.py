import json

import numpy as np
import pytest

from ilv_dataset.formats.example import parse_example
from ilv_dataset.formats.tfrecord import read_records
from ilv_dataset.proof.demonstrations import FRAME_PX, plan_shards, write_demonstrations
from ilv_dataset.proof.pictures import render_outside, sketch
from ilv_dataset.simulation.scenes import Thing


def test_shards_hold_fifty_episodes_and_the_last_the_rest():
    plans = plan_shards("train", 120)
    assert [(plan.start, plan.stop) for plan in plans] == [(0, 50), (50, 100), (100, 120)]
    assert plans[2].file_name == "ilv_proof-train.tfrecord-00002-of-00003"
    assert plan_shards("train", 0) == []


def test_written_once_and_not_again_and_the_same_for_a_seed(tmp_path):
    pytest.importorskip("pybullet")
    sizes = {"train": 2, "nouns": 1, "nouns_bank": 1}
    folder = write_demonstrations(tmp_path / "first", sizes, seed=4)
    files = sorted(folder.glob("*.tfrecord*"))
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    files[0].unlink()
    write_demonstrations(tmp_path / "first", sizes, seed=4)
    again = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    assert [again[name][0] == before[name][0] for name in before] == [True] * 3
    assert [again[name][1] == before[name][1] for name in before] == [False, True, True]
    info = json.loads((folder / "dataset_info.json").read_text())
    assert [split["shardLengths"] for split in info["splits"]] == [["2"], ["1"], ["1"]]
    path = folder / "ilv_proof-train.tfrecord-00000-of-00001"
    with path.open("rb") as file:
        first = next(iter(read_records(file, size=path.stat().st_size)))
    example = parse_example(first.payload)
    assert len(example["steps/observation/image"]) == 2
    assert np.asarray(example["steps/action"]).reshape(2, 7)[:, 6].tolist() == [0.0, 1.0]


def test_outside_render_stands_on_white_and_a_sketch_is_black_and_white():
    pytest.importorskip("pybullet")
    picture = render_outside(Thing("mug", "red"))
    assert picture.shape == (224, 224, 3)
    assert picture[0, 0].tolist() == [255, 255, 255]
    red, green, _ = picture[112, 112].tolist()
    assert red > 2 * green
    lines = sketch(picture)
    assert set(np.unique(lines)) == {0, 255}
    assert FRAME_PX == 192
