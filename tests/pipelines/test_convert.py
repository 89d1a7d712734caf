"""What `ilv convert` writes, opened with the programs that people open it with."""

import functools
import json
from collections import Counter

import numpy as np
import pytest
from builders import (
    DATASET,
    INSTRUCTION,
    PLATE_XYXY,
    VERSION,
    FakeDetector,
    FakeSegmenter,
    box_yxyx,
    convert,
    decode,
    encode,
    features_json,
    frame,
    make_episode,
    ragged,
    read_table,
    read_tree,
    scene,
    scene_jpeg,
    serialize,
    shard_path,
    write_tfds_folder,
)
from object_store import upload
from tensorflow_datasets.core.features import FeaturesDict
from tfds_reader import read_with_tfds

from ilv_dataset.formats.example import parse_example
from ilv_dataset.formats.tfrecord import read_records
from ilv_dataset.models import loading

LIFT = "lift the plate"
RLDS = f"{DATASET}_interleave"
REAL = ("bridge_dataset/1.0.0", "fractal20220817_data/0.1.0")
REAL_BOX = (8, 8, 40, 40)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Five episodes in three shards of two splits, one in two spans, one with nothing to picture,
    and a split without any instruction."""
    train = [
        [make_episode(2), make_episode(4, instruction=[INSTRUCTION] * 3 + [LIFT], seed=10)],
        [make_episode(3, instruction="take the banana", seed=20)],
        [make_episode(2, names=["plate"], seed=30, **labels_of_the_plate())],
    ]
    splits = {"train": train, "val": [[make_episode(2, seed=40)]], "empty": [[]]}
    splits["silent"] = [[make_episode(2, instruction=" ", seed=50)]]
    return write_tfds_folder(tmp_path_factory.mktemp("source"), splits)


def labels_of_the_plate():
    labels = np.zeros(scene().shape[:2], np.uint8)
    x0, y0, x1, y1 = PLATE_XYXY
    labels[y0:y1, x0:x1] = 1
    boxes = ragged("steps/observation/objects/bbox", [[box_yxyx(PLATE_XYXY)]] * 2, np.float32)
    return {
        "steps__observation__segmentation": [encode(labels, "PNG")] * 2,
        **{name.replace("/", "__"): values for name, values in boxes.items()},
    }


@pytest.fixture(scope="module")
def outputs(source, tmp_path_factory):
    """Name -> folder of a converted dataset; the options differ."""
    root = tmp_path_factory.mktemp("out")
    options = {
        "plain": (),
        "text_only": ("--include", "text_only"),
        "capped": ("--max-episodes", "2"),
    }
    for name, given in options.items():
        found = convert(source, root / name, "--formats", "parquet,rlds", *given)
        assert found.exit_code == 0, found.stderr
    return {name: root / name / DATASET / VERSION for name in options}


@pytest.fixture(scope="module")
def real_outputs(shared_data, tmp_path_factory):
    """Real shards, converted with a detector that finds everything at one place."""
    from click.testing import CliRunner

    from ilv_dataset.cli import main

    class FindsAll(dict):
        def get(self, query, default=None):
            return REAL_BOX, 0.5

    patch = pytest.MonkeyPatch()
    patch.setattr(loading, "load_detector", lambda *_, **__: FakeDetector(FindsAll()))
    patch.setattr(loading, "load_segmenter", lambda *_, **__: FakeSegmenter())
    loading.forget_models()
    root = tmp_path_factory.mktemp("real")
    for name in REAL:
        arguments = ["convert", name.split("/")[0], "--data-dir", str(shared_data / "rlds" / name)]
        arguments += ["--detector", "fake", "--verifier", "none"]
        arguments += ["--formats", "parquet,rlds", "--out", str(root)]
        found = CliRunner().invoke(main, arguments)
        assert found.exit_code == 0, found.output
    patch.undo()
    loading.forget_models()
    return root


@pytest.fixture(scope="module")
def by_tfds(source, outputs):
    """(name, split) -> episodes, all read in one process."""
    folders = {name: folder / "rlds" / RLDS / VERSION for name, folder in outputs.items()}
    folders["source"] = source / DATASET / VERSION
    (capped,) = json.loads((folders["capped"] / "dataset_info.json").read_text())["splits"]
    wanted = [("source", "train"), ("source", "val"), ("plain", "train"), ("plain", "val")]
    wanted += [("text_only", "train"), ("capped", capped["name"])]
    arguments = [part for name, split in wanted for part in (folders[name], split)]
    return dict(zip(wanted, read_with_tfds(*arguments), strict=True))


def info(folder):
    return json.loads((folder / "rlds" / RLDS / VERSION / "dataset_info.json").read_text())


def own(episode):
    """What an episode has beside the source's features."""
    return {
        name.removeprefix("interleaved_instruction/"): value
        for name, value in episode.items()
        if name.startswith("interleaved_instruction/")
    }


def rest(episode):
    return {
        name: value
        for name, value in episode.items()
        if not name.startswith("interleaved_instruction/")
    }


def test_episodes_have_one_row_a_span(outputs):
    rows = read_table(outputs["plain"] / "episodes")
    found = [(row["instruction"], row["interleaved"], row["status"], row["reason"]) for row in rows]
    assert found == [
        (" ", "", "rejected", "empty-instruction"),
        (INSTRUCTION, "put <image> on <image>", "interleaved", ""),
        (INSTRUCTION, "put <image> on <image>", "interleaved", ""),
        (LIFT, "lift <image>", "interleaved", ""),
        ("take the banana", "", "text_only", "no-crop"),
        (INSTRUCTION, "put the carrot on <image>", "interleaved", ""),
        (INSTRUCTION, "put <image> on <image>", "interleaved", ""),
    ]
    assert [(row["step_start"], row["step_end"], row["span"]) for row in rows[2:4]] == [
        (0, 3, 0),
        (3, 4, 1),
    ]
    assert rows[3]["episode_id"] == f"{DATASET}-train.tfrecord-00000-of-00003__1"


def test_crops_show_what_they_should(outputs):
    row = read_table(outputs["plain"] / "episodes")[1]
    carrot, plate = (decode(image["bytes"]) for image in row["images"])
    assert carrot.shape == plate.shape == (224, 224, 3)
    # The window of the carrot, 16 x 8, is 23 pixels wide: 40 % more on the longer side.
    assert np.abs(carrot[112, 112].astype(int) - (255, 120, 0)).max() < 12
    assert np.abs(plate[112, 112].astype(int) - (240, 240, 240)).max() < 12
    assert row["objects"][0]["scale"] == pytest.approx(224 / 23)
    assert row["objects"][0]["box_xyxy"] == [8, 8, 24, 16]


def test_a_phrase_without_a_picture_says_why(outputs):
    row = read_table(outputs["plain"] / "episodes")[5]
    assert [(o["phrase"], o["grounded"], o["reason"]) for o in row["objects"]] == [
        ("carrot", False, "absent"),
        ("plate", True, ""),
    ]
    assert len(row["images"]) == 1


def test_instructions_are_distinct_and_sorted(outputs):
    rows = read_table(outputs["plain"] / "instructions")
    assert [(row["instruction"], row["status"]) for row in rows] == [
        (" ", "rejected"),
        (LIFT, "parsed"),
        (INSTRUCTION, "parsed"),
        ("take the banana", "parsed"),
    ]


def test_steps_are_those_of_the_interleaved_spans(outputs):
    rows = read_table(outputs["plain"] / "steps")
    assert Counter(row["language_instruction"] for row in rows) == {INSTRUCTION: 9, LIFT: 1}
    images = [row["observation/image"]["bytes"] for row in rows]
    seeds = [0, 1, 10, 11, 12, 13, 30, 31, 40, 41]
    assert images == [scene_jpeg(seed) for seed in seeds]
    assert read_table(outputs["plain"] / "steps" / "silent-00000-of-00001.parquet") == []


def test_run_json_accounts_for_all(outputs):
    run = json.loads((outputs["plain"] / "run.json").read_text())
    assert run["account"]["by_status"] == {
        "interleaved": 5,
        "text_only": 1,
        "rejected": 1,
        "failed": 0,
    }
    assert run["account"]["num_in"] == 7
    assert run["account"]["num_episodes"] == 6
    assert run["formats"] == ["parquet", "rlds"]
    paths = {file["path"] for file in run["files"]}
    assert {"instructions/instructions.parquet", "episodes/val-00000-of-00001.parquet"} <= paths


def test_tfds_reads_pixels_actions_and_instructions_equal_to_the_source(by_tfds):
    for split in ("train", "val"):
        before = {e["episode_metadata/file_path"]: e for e in by_tfds["source", split]}
        for episode in by_tfds["plain", split]:
            of = before[episode["episode_metadata/file_path"]]
            start, end = (own(episode)[name] for name in ("step_start", "step_end"))
            ends = ("steps/is_first", "steps/is_last")
            for name, values in rest(of).items():
                if name.startswith("steps/") and name not in ends:
                    assert episode[name] == values[start:end], name
                elif name not in ends:
                    assert episode[name] == values, name
            assert episode["steps/is_first"] == [True] + [False] * (end - start - 1)
            assert episode["steps/is_last"] == [False] * (end - start - 1) + [True]
            assert rest(episode).keys() == rest(of).keys()


def test_tfds_reads_every_interleaved_span_and_its_pictures(by_tfds, outputs):
    expected = {
        (row["episode_id"], row["span"]): row
        for row in read_table(outputs["plain"] / "episodes")
        if row["status"] == "interleaved" and row["split"] == "train"
    }
    found = {(own(e)["episode_id"], own(e)["span"]): own(e) for e in by_tfds["plain", "train"]}
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert found[key]["language_instruction"] == row["interleaved"]
        assert found[key]["original_instruction"] == row["instruction"]
        shapes = [digest.split()[0] for digest in found[key]["image_instruction"]]
        assert shapes == ["224x224x3"] * len(row["images"])
        assert found[key]["image_mask"] == [True] * len(row["images"])
        assert found[key]["objects/phrase"] == [o["phrase"] for o in row["objects"]]
        assert found[key]["objects/grounded"] == [o["grounded"] for o in row["objects"]]


def test_tfds_reads_spans_without_a_picture_where_they_are_wanted(by_tfds):
    (episode,) = [
        own(e)
        for e in by_tfds["text_only", "train"]
        if own(e)["original_instruction"] == "take the banana"
    ]
    assert episode["language_instruction"] == "take the banana"
    assert (episode["image_instruction"], episode["image_mask"]) == ([], [])
    assert len(by_tfds["text_only", "train"]) == len(by_tfds["plain", "train"]) + 1


def test_tfds_reads_a_split_of_which_whole_shards_were_left_out(by_tfds, outputs):
    (split,) = info(outputs["capped"])["splits"]
    assert "0" in split["shardLengths"]
    ((_, episodes),) = [(key, found) for key, found in by_tfds.items() if key[0] == "capped"]
    assert len(episodes) == sum(map(int, split["shardLengths"])) > 0


def test_a_split_without_rows_is_left_out(outputs):
    assert [split["name"] for split in info(outputs["plain"])["splits"]] == ["train", "val"]
    assert info(outputs["plain"])["citation"] == "@misc{toy}"
    assert info(outputs["plain"])["name"] == RLDS


def test_a_whole_episode_is_the_sources_bytes_with_the_new_features_behind(outputs):
    folder = outputs["plain"] / "rlds" / RLDS / VERSION
    path = folder / f"{RLDS}-val.tfrecord-00000-of-00001"
    with path.open("rb") as file:
        (record,) = read_records(file, size=path.stat().st_size)
    source = serialize(make_episode(2, seed=40))
    assert record.payload.startswith(source)
    assert path.read_bytes() == frame(record.payload)
    assert all(
        name.startswith("interleaved_instruction/")
        for name in parse_example(record.payload[len(source) :])
    )


def test_rlds_has_the_pictures_of_the_episodes_table(outputs):
    rows = read_table(outputs["plain"] / "episodes")
    tables = {(row["episode_id"], row["span"]): row["images"] for row in rows}
    folder = outputs["plain"] / "rlds" / RLDS / VERSION
    for path in folder.glob("*.tfrecord-*"):
        with path.open("rb") as file:
            for record in read_records(file, size=path.stat().st_size):
                example = parse_example(record.payload)
                (episode_id,) = example["interleaved_instruction/episode_id"]
                (span,) = example["interleaved_instruction/span"]
                pictures = tables.pop((episode_id.decode(), span))
                found = list(example["interleaved_instruction/image_instruction"])
                assert found == [picture["bytes"] for picture in pictures]
    assert not any(tables.values())


def test_datasets_shows_the_pictures_of_steps(outputs, tmp_path):
    import datasets

    files = sorted(str(path) for path in (outputs["plain"] / "steps").glob("*.parquet"))
    steps = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path)
    )
    assert len(steps) == 10
    assert np.array_equal(np.asarray(steps[3]["observation/image"]), decode(scene_jpeg(11)))
    assert steps[3]["observation/image"].size == (64, 48)
    assert steps[3]["action"] == [0.125] * 7
    assert steps[3]["observation/words"] == [[1, 300], []]
    assert steps[3]["action_parts/future/xyz"] == [[6, 7, 8], [9, 10, 11]]


def test_duckdb_joins_steps_and_episodes(outputs):
    import duckdb

    folder = outputs["plain"]
    found = duckdb.sql(
        "select e.interleaved, count(*), max(s.action[1]) "
        f"from '{folder}/steps/*.parquet' s join '{folder}/episodes/*.parquet' e "
        "using (episode_id, span) group by all order by all"
    ).fetchall()
    assert found == [
        ("lift <image>", 1, 0.375),
        ("put <image> on <image>", 7, 0.25),
        ("put the carrot on <image>", 2, 0.125),
    ]


def test_a_bucket_holds_the_same_as_a_folder(source, outputs, bucket):
    upload(source, "mem://b/data")
    options = ("--formats", "parquet,rlds")
    found = convert("mem://b/data", "mem://b/out", *options)
    assert found.exit_code == 0, found.stderr
    prefix = f"mem://b/out/{DATASET}/{VERSION}/"
    written = {
        name.removeprefix(prefix): content
        for name, content in bucket.items()
        if name.startswith("mem://b/out/")
    }
    assert written == read_tree(outputs["plain"])
    before = dict(bucket)
    assert convert("mem://b/data", "mem://b/out", *options).exit_code == 0
    assert bucket == before
    del bucket[f"{prefix}.state/steps/train-00001-of-00003.json"]
    source_shard = f"mem://b/data/{DATASET}/{VERSION}/{DATASET}-val.tfrecord-00000-of-00001"
    del bucket[source_shard]  # what was made of it stays
    assert convert("mem://b/data", "mem://b/out", *options, "--overwrite").exit_code == 0
    assert bucket == {path: before[path] for path in before if path != source_shard}


def test_a_shard_that_cannot_be_read_fails_alone_and_is_done_once_it_can(source, bucket):
    from object_store import MemoryFileSystem

    upload(source, "mem://b/data")
    shard = f"mem://b/data/{DATASET}/{VERSION}/{DATASET}-val.tfrecord-00000-of-00001"
    MemoryFileSystem.unreadable.add(shard)
    found = convert("mem://b/data", "mem://b/out")
    assert found.exit_code == 1
    assert "1 failed: missing-shard" in found.stderr
    assert "Error: " in found.stderr.splitlines()[-1]
    MemoryFileSystem.unreadable.clear()
    assert convert("mem://b/data", "mem://b/out").exit_code == 0


def test_a_source_that_was_interleaved_already_is_interleaved_anew(outputs, tmp_path):
    """Its old pictures must not stay beside the new ones."""
    folder = outputs["plain"] / "rlds" / RLDS / VERSION
    target = tmp_path / DATASET / VERSION
    target.mkdir(parents=True)
    for path in folder.iterdir():
        (target / path.name.replace(RLDS, DATASET)).write_bytes(path.read_bytes())
    text = (target / "dataset_info.json").read_text().replace(RLDS, DATASET)
    (target / "dataset_info.json").write_text(text)
    found = convert(tmp_path, tmp_path / "out", "--formats", "rlds")
    assert found.exit_code == 0, found.stderr
    path = shard_path(tmp_path / "out" / DATASET / VERSION / "rlds", "val", name=RLDS)
    with path.open("rb") as file:
        (record,) = read_records(file, size=path.stat().st_size)
    example = parse_example(record.payload)
    assert len(example["interleaved_instruction/image_instruction"]) == 2
    assert record.payload.count(b"interleaved_instruction/language_instruction") == 1


@pytest.mark.timeout(300)
def test_real_shards_are_read_by_tfds_as_the_source_is(shared_data, real_outputs):
    folders = []
    for name in REAL:
        dataset, version = name.split("/")
        rlds = real_outputs / name / "rlds" / f"{dataset}_interleave" / version
        folders += [shared_data / "rlds" / name, "train", rlds, "train"]
    found = read_with_tfds(*folders)
    for before, after in zip(found[::2], found[1::2], strict=True):
        assert len(after) > 0
        by_steps = {json.dumps(rest(episode)) for episode in before}
        assert all(json.dumps(rest(episode)) in by_steps for episode in after)
        assert all("<image>" in own(episode)["language_instruction"] for episode in after)


@functools.cache
def real_features(folder):
    return FeaturesDict.from_config(str(folder))


@pytest.mark.parametrize("name", REAL)
def test_steps_of_real_shards_equal_what_tfds_decodes(shared_data, real_outputs, name):
    """By TFDS's own reader without TensorFlow."""
    folder = shared_data / "rlds" / name
    rows = {
        (row["episode_id"], row["step"]): row for row in read_table(real_outputs / name / "steps")
    }
    checked = 0
    for path in sorted(folder.glob("*train.tfrecord-*"))[:1]:
        with path.open("rb") as file:
            records = list(read_records(file, size=path.stat().st_size))[:3]
        for record in records:
            decoded = real_features(folder).deserialize_example_np(record.payload)
            for step, expected in enumerate(decoded["steps"]):
                row = rows.get((f"{path.name}__{record.index}", step))
                if row is not None:
                    assert_step(row, expected)
                    checked += 1
    assert checked >= 20


def assert_step(row, expected):
    for name in ("is_first", "is_last", "is_terminal", "reward", "discount"):
        if name in expected:
            assert row[name] == expected[name], name
    for key, value in flatten({k: expected[k] for k in ("observation", "action")}):
        found = row[key]
        if isinstance(found, dict):
            assert np.array_equal(decode(found["bytes"]), value), key
        elif isinstance(value, bytes):
            assert found == value.decode(), key
        else:
            assert np.array_equal(found, value), key


def flatten(value, prefix=""):
    if not isinstance(value, dict):
        return [(prefix, value)]
    parts = [(f"{prefix}/{name}" if prefix else name, inner) for name, inner in value.items()]
    return [leaf for name, inner in parts for leaf in flatten(inner, name)]


def test_names_of_classes_are_copied(tmp_path):
    data = write_tfds_folder(tmp_path / "data")
    names = b"red\n\xffblue\n"
    (data / DATASET / VERSION / "colour.labels.txt").write_bytes(names)
    assert convert(data, tmp_path / "out", "--formats", "rlds").exit_code == 0
    folder = tmp_path / "out" / DATASET / VERSION / "rlds" / RLDS / VERSION
    assert (folder / "colour.labels.txt").read_bytes() == names


def test_features_json_of_the_output_is_the_sources_and_the_new_group(outputs):
    found = json.loads((outputs["plain"] / "rlds" / RLDS / VERSION / "features.json").read_text())
    del found["featuresDict"]["features"]["interleaved_instruction"]
    assert found == json.loads(features_json())
