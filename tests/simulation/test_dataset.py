import importlib.util
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ilv_dataset.crops import decode_image
from ilv_dataset.errors import ConfigError
from ilv_dataset.formats.example import Example, parse_example
from ilv_dataset.formats.tfrecord import RawRecord, read_records
from ilv_dataset.grammar import parse_instruction
from ilv_dataset.matching import match_names
from ilv_dataset.simulation import simulate
from ilv_dataset.simulation.dataset import plan_splits
from ilv_dataset.simulation.shading import label_boxes

DEMO = Path(__file__).resolve().parents[2] / "ilv_dataset" / "demo"
SAMPLE = DEMO / "ilv_demo" / "1.0.0"
OBJECTS = "steps/observation/objects"
READ_WITH_TFDS = """
import sys
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
for split in builder.info.splits:
    for episode in builder.as_dataset(split=split):
        steps = list(episode["steps"])
        first = steps[0]["observation"]
        names = [name.decode() for name in first["objects"]["name"].numpy()]
        print(split, int(episode["episode_metadata"]["episode_id"]), len(steps),
              first["image"].shape, first["segmentation"].shape,
              first["objects"]["bbox"].shape == (len(names), 4),
              bool(steps[0]["is_first"]), bool(steps[-1]["is_last"]), float(steps[-1]["reward"]))
"""
needs_pybullet = pytest.mark.skipif(
    importlib.util.find_spec("pybullet") is None, reason="pybullet is not installed"
)


def read_episodes(folder: Path) -> list[Example]:
    episodes = []
    for path in sorted(folder.glob("*.tfrecord-*")):
        with path.open("rb") as file:
            for record in read_records(file, size=path.stat().st_size):
                assert isinstance(record, RawRecord)
                episodes.append(parse_example(record.payload))
    return episodes


def texts_of(episode: Example) -> list[str]:
    return [text.decode() for text in episode["steps/language_instruction"]]


def names_of(episode: Example) -> list[str]:
    """Of its objects, which are the same at every step."""
    lengths = np.asarray(episode[f"{OBJECTS}/name/ragged_row_lengths_0"])
    assert len(set(lengths.tolist())) == 1
    names = [name.decode() for name in episode[f"{OBJECTS}/name/ragged_flat_values"]]
    assert names == names[: lengths[0]] * len(lengths)
    return names[: lengths[0]]


@pytest.fixture(scope="module")
def sample() -> list[Example]:
    return read_episodes(SAMPLE)


def test_plan_splits_of_few_and_of_many():
    assert plan_splits(1, 16) == {"train": (1,)}
    assert plan_splits(5, 2) == {"train": (2, 2, 1)}
    assert plan_splits(20, 6) == {"train": (6, 6, 5), "val": (3,)}


@pytest.mark.parametrize("wrong", [{"episodes": 0}, {"workers": 0}, {"seed": -1}])
def test_simulate_of_nothing_raises(tmp_path: Path, wrong: dict[str, int]):
    with pytest.raises(ConfigError, match="at least"):
        simulate(tmp_path, **{"episodes": 1, **wrong})


@needs_pybullet
def test_simulate_into_a_folder_that_exists_raises(tmp_path: Path):
    (tmp_path / "ilv_demo" / "1.0.0").mkdir(parents=True)
    with pytest.raises(ConfigError, match="already exists"):
        simulate(tmp_path, episodes=1)


@needs_pybullet
def test_simulate_writes_one_episode_and_clears_what_was_left(tmp_path: Path):
    left = tmp_path / "ilv_demo" / ".1.0.0.unfinished" / "old.tfrecord-00000-of-00001"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x")
    done: list[int] = []
    folder = simulate(tmp_path, episodes=1, seed=3, on_episode=done.append)
    assert done == [1]
    assert sorted(path.name for path in folder.iterdir()) == [
        "dataset_info.json",
        "features.json",
        "ilv_demo-train.tfrecord-00000-of-00001",
    ]
    (episode,) = read_episodes(folder)
    steps = len(texts_of(episode))
    assert np.asarray(episode["steps/action"]).shape == (steps * 7,)
    assert np.asarray(episode["steps/is_last"]).tolist() == [0] * (steps - 1) + [1]
    assert np.asarray(episode["episode_metadata/seed"]).tolist() == [3]


@needs_pybullet
@pytest.mark.slow
def test_bytes_do_not_depend_on_the_workers(tmp_path: Path):
    one = simulate(tmp_path / "one", episodes=2, seed=5, workers=1)
    two = simulate(tmp_path / "two", episodes=2, seed=5, workers=2)
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in two.iterdir())
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


@needs_pybullet
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sample_is_what_its_docstring_says(tmp_path: Path):
    made = simulate(tmp_path, episodes=20, seed=365, episodes_per_shard=6, workers=2)
    names = sorted(path.name for path in made.iterdir())
    assert names == sorted(path.name for path in SAMPLE.iterdir())
    changed = [name for name in names if (made / name).read_bytes() != (SAMPLE / name).read_bytes()]
    assert changed == []


def test_sample_is_small():
    sizes = {path.name: path.stat().st_size for path in SAMPLE.iterdir()}
    assert sum(sizes.values()) <= 3_000_000
    assert max(sizes.values()) < 1_000_000
    info = json.loads((SAMPLE / "dataset_info.json").read_text())
    lengths = {split["name"]: split["shardLengths"] for split in info["splits"]}
    assert lengths == {"train": ["6", "6", "5"], "val": ["3"]}


def test_sample_is_mostly_meant_to_be_interleaved(sample: list[Example]):
    spans = []
    for episode in sample:
        texts = texts_of(episode)
        spans += [texts[0], *(b for a, b in itertools.pairwise(texts) if a != b)]
    assert len(spans) == 22
    assert spans.count("") == 1
    assert len(set(spans)) == 22


def test_sample_has_truth_that_agrees_with_its_masks(sample: list[Example]):
    for episode in sample[::5]:
        names = names_of(episode)
        truth = [
            np.asarray(episode[f"{OBJECTS}/{key}/ragged_flat_values"])
            for key in ("bbox", "visible_px")
        ]
        boxes, pixels = (
            column.reshape(-1, len(names), width)
            for column, width in zip(truth, (4, 1), strict=True)
        )
        for step in (0, len(boxes) - 1):
            labels = decode_image(episode["steps/observation/segmentation"][step])[:, :, 0]
            seen_boxes, seen_pixels = label_boxes(labels, len(names))
            assert np.array_equal(boxes[step], seen_boxes)
            assert pixels[step, :, 0].tolist() == seen_pixels.tolist()


def test_sample_names_every_object_of_its_instructions(sample: list[Example]):
    for episode in sample:
        names = names_of(episode)
        for text in sorted(set(texts_of(episode)) - {""}):
            queries = parse_instruction(text).objects
            assert len(queries) == 2, text
            choices = match_names(names, queries)
            assert None not in [choice.index for choice in choices], (text, names, choices)


def test_sample_hides_a_named_object_first(sample: list[Example]):
    hidden = [e for e in sample if e["episode_metadata/case"][0] == b"hidden"]
    assert len(hidden) == 2
    for episode in hidden:
        counts = np.asarray(episode[f"{OBJECTS}/visible_px/ragged_flat_values"])
        seen = counts.reshape(len(texts_of(episode)), -1)[:, 0]
        assert seen[0] == 0
        assert seen[5::5].max() >= 100


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_tfds_reads_the_sample(tmp_path: Path):
    pytest.importorskip("tensorflow_datasets")
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("tensorflow is not installed")
    folder = tmp_path / "ilv_demo" / "1.0.0"
    shutil.copytree(SAMPLE, folder)
    # In a process of its own: TensorFlow and torch cannot always share one.
    done = subprocess.run(
        [sys.executable, "-c", READ_WITH_TFDS, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = sorted(done.stdout.splitlines(), key=lambda line: int(line.split()[1]))
    assert len(lines) == 20
    assert lines[0] == "train 0 12 (256, 256, 3) (256, 256, 1) True True True 1.0"
    assert [line.split()[0] for line in lines] == ["train"] * 17 + ["val"] * 3
