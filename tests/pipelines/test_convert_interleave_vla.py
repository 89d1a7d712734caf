"""`ilv convert --layout interleave-vla`: read back by TFDS, resumed, refused where it would mix."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import (
    DATASET,
    MARKED,
    VERSION,
    FakeDetector,
    FakeSegmenter,
    codes,
    convert,
    decode,
    encode,
    features_json,
    make_episode,
    read_table,
    read_tree,
    scene,
    scene_jpeg,
    write_tfds_folder,
)
from converted import only_error, run_ilv
from killing import held, killed_at_end, wait_until
from mapped_datasets import MAPPED
from tfds_reader import pixels_digest, read_with_tfds
from trainer_reader import read_as_trainers

from ilv_dataset.datasets import find_dataset
from ilv_dataset.formats.example import parse_example
from ilv_dataset.formats.feature_json import dataset_json, dict_json, jpeg_json, tensor_json
from ilv_dataset.formats.interleave_vla import black_image
from ilv_dataset.formats.tfrecord import read_records
from ilv_dataset.interleave import choose_pictured
from ilv_dataset.models import loading
from ilv_dataset.robot_actions import quaternion_to_euler
from ilv_dataset.shards.interleave_vla import resize_frame

LAYOUT = ("--layout", "interleave-vla")
ROOT = Path(DATASET, VERSION)
RLDS = ROOT / "rlds" / f"{DATASET}_interleave" / VERSION
GROUP = "steps/interleaved_instruction"
NUM_SHARDS = 6
JOINTS = ("iamlab", "mutex", "sirius", "ucsd_kitchen")
TEXTS = ["put the carrot on the plate", "lift the plate", "", "take the banana"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    halves = ["put the carrot on the plate"] * 2 + ["lift the plate"] * 3
    shards = {
        "train": [
            [make_episode(2, seed=1), make_episode(5, instruction=halves, seed=10)],
            [make_episode(instruction="pick up the banana", seed=20), make_episode(instruction="")],
        ]
    }
    return write_tfds_folder(tmp_path_factory.mktemp("source"), shards)


@pytest.fixture(scope="module")
def output(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    done = convert(source, out, *LAYOUT, "--include", "text_only")
    assert done.exit_code == 0, done.stderr
    assert "layout     interleave-vla: 1 picture an instruction, state pose" in done.stderr
    return out


@pytest.fixture(scope="module")
def episodes(output):
    """What TFDS reads: two spans of one episode apart, and one without a picture."""
    return read_with_tfds(output / RLDS, "train")[0]


def examples(folder):
    for path in sorted(Path(folder).glob("*.tfrecord-*")):
        with path.open("rb") as file:
            for record in read_records(file, size=path.stat().st_size):
                yield parse_example(record.payload)


def test_tfds_reads_a_span_an_episode_with_its_flags(episodes):
    found = [
        (
            episode["episode_metadata/episode_id"][-3:] + f"#{episode['episode_metadata/span']}",
            [int(flag) for flag in episode["steps/is_first"]],
            [int(flag) for flag in episode["steps/is_last"]],
            [int(flag) for flag in episode["steps/is_terminal"]],
            episode["steps/reward"],
        )
        for episode in episodes
    ]
    assert found == [
        ("__0#0", [1, 0], [0, 1], [0, 1], [0, 1]),
        ("__1#0", [1, 0], [0, 1], [0, 0], [0, 0]),
        ("__1#1", [1, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]),
        ("__0#0", [1, 0], [0, 1], [0, 1], [0, 1]),
    ]


def test_tfds_reads_frames_actions_and_states(episodes, output):
    second = episodes[2]
    assert second["steps/action"] == [[step / 8] * 7 for step in (2, 3, 4)]
    assert second["steps/observation/state"] == [[12] * 7, [13] * 7, [14] * 7]
    digests = second["steps/observation/image"]
    assert [digest.split()[0] for digest in digests] == ["224x224x3"] * 3
    assert len(set(digests)) == 3
    record = list(examples(output / RLDS))[2]
    frames = [resize_frame(scene_jpeg(seed)) for seed in (12, 13, 14)]
    assert list(record["steps/observation/image"]) == frames


def test_tfds_reads_one_instruction_with_one_picture_on_every_step(episodes, output):
    rows = read_table(output / ROOT / "episodes")
    rows = [row for row in rows if row["status"] in ("interleaved", "text_only")]
    black = pixels_digest(np.zeros((224, 224, 3), np.uint8))
    for episode, record, row in zip(episodes, examples(output / RLDS), rows, strict=True):
        num = len(episode["steps/action"])
        shown = [image["bytes"] for image in row["images"]]
        if len(shown) > 1:
            place = f"{row['episode_id']}#{row['span']}"
            (chosen,) = choose_pictured(place, len(shown), max_images=1)
            shown = [shown[chosen]]
        pictures = record[f"{GROUP}/image_instruction/ragged_flat_values"]
        assert list(pictures) == (shown or [black_image()]) * num
        (digest,) = {digest for (digest,) in episode[f"{GROUP}/image_instruction"]}
        assert (digest == black) != bool(shown)
        assert episode[f"{GROUP}/image_mask"] == [[bool(shown)]] * num
        assert episode[f"{GROUP}/original_instruction"] == [row["instruction"]] * num
        (language,) = set(episode[f"{GROUP}/language_instruction"])
        assert language.count("<image>") == len(shown)
    texts = [episode[f"{GROUP}/language_instruction"][0] for episode in episodes]
    assert texts[2:] == ["lift <image>", "pick up the banana"]
    assert all(t in ("put <image> on the plate", "put the carrot on <image>") for t in texts[:2])


def test_the_trainers_loader_mixes_and_batches_datasets(source, output, tmp_path):
    """One with a picture missing, one without any; the other has no flags and no file_path."""
    nothing = {
        f"{name}__{leaf}": None
        for name, leaf in (("steps", "reward"), ("steps", "is_terminal"), ("steps", "discount"))
    }
    record = make_episode(9, names=("carrot",), episode_metadata__file_path=None, **nothing)
    features = json.loads(features_json())["featuresDict"]["features"]
    del features["episode_metadata"]["featuresDict"]["features"]["file_path"]
    for path in nothing:
        step = features["steps"]["sequence"]["feature"]["featuresDict"]["features"]
        del step[path.removeprefix("steps__")]
    content = json.dumps({"featuresDict": {"features": features}})
    data = write_tfds_folder(tmp_path / "data", {"train": [[record]]}, features=content)
    done = convert(data, tmp_path / "out", *LAYOUT)
    assert done.exit_code == 0, done.stderr
    found = read_as_trainers(output / RLDS, tmp_path / "out" / RLDS)
    assert found.pop("texts")
    assert found == {
        "keys": ["image_instruction", "image_mask", "language_instruction", "original_instruction"],
        "mask": [8, 1],
        "images": [8, 1, 224, 224, 3],
        "frames": [8, 224, 224, 3],
        "action": [8, 7],
        "proprio": [8, 7],
    }


def test_with_room_for_two_pictures_every_step_has_two(source, tmp_path):
    done = convert(source, tmp_path, *LAYOUT, "--max-images", "2", "--include", "text_only")
    assert done.exit_code == 0, done.stderr
    for example in examples(tmp_path / RLDS):
        lengths = example[f"{GROUP}/image_instruction/ragged_row_lengths_0"]
        assert set(lengths.tolist()) == {2}
        mask = example[f"{GROUP}/image_mask/ragged_flat_values"][:2].tolist()
        language = example[f"{GROUP}/language_instruction"][0]
        assert language.count(b"<image>") == sum(mask)
        assert mask == sorted(mask, reverse=True)
    assert run_ilv("validate", tmp_path).exit_code == 0


def test_validate_and_inspect_know_the_layout(output, source, tmp_path):
    validated = run_ilv("validate", "--deep", output)
    assert validated.exit_code == 0, validated.stdout
    summary = validated.stderr + validated.stdout
    assert "4 RLDS records, 9 frames decoded, TFDS opens it: no fault" in summary
    overview = run_ilv("inspect", output).stdout
    assert "steps/interleaved_instruction/image_mask" in overview
    png = tmp_path / "first.png"
    shown = run_ilv("inspect", output, "--episode", "first", "--png", png, "--data-dir", source)
    assert "frames: from the source" in shown.stdout
    assert png.stat().st_size


def test_the_tables_are_those_of_the_other_layout(source, output, tmp_path):
    assert convert(source, tmp_path, "--formats", "rlds", "--include", "text_only").exit_code == 0
    for name in ("episodes", "instructions"):
        assert read_tree(tmp_path / ROOT / name) == read_tree(output / ROOT / name)


def test_a_layout_is_chosen_once_records_are_written(source, tmp_path):
    assert convert(source, tmp_path, "--formats", "parquet").exit_code == 0
    done = convert(source, tmp_path, *LAYOUT)  # what is there already serves both
    assert done.exit_code == 0, done.stderr
    assert "ground:" not in done.stderr
    before = read_tree(tmp_path)
    refused = convert(source, tmp_path, "--formats", "parquet,rlds")
    line = only_error(refused)
    assert "--layout was 'interleave-vla' and is 'ilv'; use another --out, delete rlds" in line
    refused = convert(source, tmp_path, *LAYOUT, "--max-images", "3")
    assert "--max-images was 1 and is 3" in only_error(refused)
    assert read_tree(tmp_path) == before
    done = convert(source, tmp_path, "--formats", "rlds", "--overwrite")
    assert done.exit_code == 0, done.stderr
    (first, *_) = examples(tmp_path / RLDS)
    assert "interleaved_instruction/language_instruction" in first


def test_the_plan_forgets_a_layout_of_which_nothing_was_written(source, tmp_path):
    paths = ("--data-dir", source, "--out", tmp_path)
    assert run_ilv("parse", *MARKED, *paths, *LAYOUT, "--max-images", "2").exit_code == 0
    plan = tmp_path / ROOT / "plan.json"
    before = json.loads(plan.read_text())
    assert (before["--layout"], before["--max-images"]) == ("interleave-vla", 2)
    assert run_ilv("parse", *MARKED, *paths).exit_code == 0
    after = json.loads(plan.read_text())
    assert (after["--layout"], after["--max-images"], after["7-D mapping"]) == ("ilv", None, None)


def test_the_records_alone_are_written_anew_where_they_were_deleted(source, output, tmp_path):
    assert convert(source, tmp_path, "--formats", "rlds", "--include", "text_only").exit_code == 0
    for folder in ("rlds", ".state/rlds"):
        shutil.rmtree(tmp_path / ROOT / folder)
    done = convert(source, tmp_path, *LAYOUT, "--include", "text_only")
    assert done.exit_code == 0, done.stderr
    assert "ground:" not in done.stderr
    assert read_tree(tmp_path) == read_tree(output)


def test_an_output_of_before_the_option_goes_on(source, tmp_path):
    assert convert(source, tmp_path, "--formats", "rlds").exit_code == 0
    plan = tmp_path / ROOT / "plan.json"
    content = json.loads(plan.read_text())
    for name in ("--layout", "--max-images", "7-D mapping"):
        del content[name]
    plan.write_text(json.dumps(content, indent=1) + "\n")
    assert convert(source, tmp_path, "--formats", "rlds").exit_code == 0
    assert "--layout was 'ilv'" in only_error(convert(source, tmp_path, *LAYOUT))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*LAYOUT, "--formats", "parquet"), "is one of rlds, and --formats is parquet: add rlds"),
        (("--max-images", "2"), "--max-images goes with --layout interleave-vla alone"),
    ],
)
def test_options_that_do_not_go_together(source, tmp_path, arguments, message):
    assert message in only_error(convert(source, tmp_path, *arguments))
    assert not list(tmp_path.iterdir())


# A span of which a frame does not decode


def test_a_span_with_a_frame_that_does_not_decode_is_left_out_and_counted(tmp_path):
    cut = [scene_jpeg(), scene_jpeg()[:300] + scene_jpeg()[-2:]]  # whole by its ends alone
    shard = [make_episode(2, steps__observation__image=cut), make_episode(2, seed=5)]
    data = write_tfds_folder(tmp_path / "data", {"train": [shard]})
    done = convert(data, tmp_path / "out", *LAYOUT)
    assert "1 of 2 spans failed, more than --max-failed 0 allows" in only_error(done)
    assert "1 span with a frame that does not decode: not in the RLDS output" in done.stderr
    (example,) = examples(tmp_path / "out" / RLDS)
    assert list(example["episode_metadata/file_path"]) == [b"episode 5"]
    assert run_ilv("validate", tmp_path / "out").exit_code == 0
    assert convert(data, tmp_path / "out", *LAYOUT, "--max-failed", "0.5").exit_code == 0


# Datasets that are not registered


def convert_toy(tmp_path, features, *, remove=(), **changes):
    records = [{k: v for k, v in make_episode(2, **changes).items() if k not in remove}]
    write_tfds_folder(tmp_path, {"train": [records]}, name="toy", features=features)
    paths = ("--data-dir", tmp_path, "--out", tmp_path / "out")
    models = ("--detector", "yolo:none.onnx")  # a plan needs no model
    keys = ("--image-key", "observation/image")
    command = ("convert", "toy", *paths, *models, *keys, *LAYOUT, "--dry-run")
    return run_ilv(*command)


def test_an_unknown_dataset_with_seven_numbers_is_taken_as_it_is(tmp_path):
    done = convert_toy(tmp_path, features_json())
    assert done.exit_code == 0, done.stderr
    assert "1 picture an instruction, state unknown" in done.stderr


def test_an_unknown_dataset_without_a_state_says_so(tmp_path):
    features = json.loads(features_json())
    step = features["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]
    del step["features"]["observation"]["featuresDict"]["features"]["state"]
    done = convert_toy(tmp_path, json.dumps(features), remove=("steps/observation/state",))
    assert done.exit_code == 0, done.stderr
    assert "state none: there is no observation/state of 7 numbers, so zeros" in done.stderr


def test_an_unknown_dataset_without_such_an_action_is_refused(tmp_path):
    action = {
        "pythonClassName": "tensorflow_datasets.core.features.tensor_feature.Tensor",
        "tensor": {"shape": {"dimensions": ["8"]}, "dtype": "float32", "encoding": "none"},
    }
    line = only_error(convert_toy(tmp_path, features_json(action=action)))
    assert "toy: no 7-D action is known of it; expected `action`, float32[7]" in line
    assert "numbers there: action float32[8]" in line


# Every registered dataset, made up


def write_registered(root, key):
    """A TFDS folder with the features that the registry has of a dataset, and one episode."""
    spec = find_dataset(key)
    values, actions, _ = MAPPED[key]
    num_steps = len(actions)
    texts = [b"put the carrot on the plate"] * num_steps
    leaves = {spec.instruction_key: tensor_json("string")}
    record = {f"steps/{spec.instruction_key}": texts}
    if spec.instruction_decoder == "codes":
        leaves[spec.instruction_key] = tensor_json("int32", (512,))
        record[f"steps/{spec.instruction_key}"] = np.array([codes(t.decode()) for t in texts])
    for camera in spec.cameras:
        pixels = scene() if camera.channel_order == "rgb" else scene()[..., ::-1]
        leaves[camera.key] = jpeg_json(48, 64)
        record[f"steps/{camera.key}"] = [encode(pixels, "PNG")] * num_steps
    for name, rows in values.items():
        is_whole = isinstance(rows, np.ndarray) and rows.dtype.kind == "i"
        numbers = np.asarray(rows, np.int64 if is_whole else np.float32)
        leaves[name] = tensor_json(numbers.dtype.name, numbers.shape[1:])
        record[f"steps/{name}"] = numbers
    features = json.dumps(dict_json({"steps": dataset_json(nest(leaves))}))
    return write_tfds_folder(root, {"train": [[record]]}, name=spec.tfds_name, features=features)


def nest(leaves):
    """Features by their paths as dictionaries of features."""
    groups = {}
    for path, leaf in leaves.items():
        head, _, rest = path.partition("/")
        groups.setdefault(head, {})[rest] = leaf
    return dict_json(
        {head: inner[""] if "" in inner else nest(inner) for head, inner in groups.items()}
    )


@pytest.mark.parametrize("key", [key for key in sorted(MAPPED) if key != "demo"])
def test_every_registered_dataset_is_converted(key, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "load_detector", lambda *_, **__: FakeDetector({}))
    monkeypatch.setattr(loading, "load_segmenter", lambda *_, **__: FakeSegmenter())
    loading.forget_models()
    paths = ("--data-dir", write_registered(tmp_path / "data", key), "--out", tmp_path / "out")
    models = ("--detector", "fake", "--verifier", "none")
    done = run_ilv("convert", key, *paths, *models, *LAYOUT, "--include", "text_only")
    loading.forget_models()
    assert done.exit_code == 0, done.stderr
    spec = find_dataset(key)
    name = spec.tfds_name
    folder = tmp_path / "out" / name / VERSION / "rlds" / f"{name}_interleave" / VERSION
    (example,) = examples(folder)
    _, actions, states = MAPPED[key]
    first = 1 if spec.drop_first_step else 0
    for path, expected in (("steps/action", actions), ("steps/observation/state", states)):
        found = example[path].reshape(-1, 7)
        np.testing.assert_allclose(found, expected[first:], atol=1e-6)
    picture = decode(example["steps/observation/image"][0])
    assert np.abs(picture[60, 60].astype(int) - (255, 120, 0)).max() < 8  # the orange carrot
    kind = example["episode_metadata/state_kind"][0].decode()
    assert kind == ("joints" if key in JOINTS else "pose")


# Runs that are stopped


def command(data, out, *arguments):
    ilv = (sys.executable, "-c", "from ilv_dataset.cli import main; main()")
    paths = ("--data-dir", str(data), "--out", str(out))
    return [*ilv, "convert", *MARKED, *paths, *LAYOUT, "--include", "text_only", *arguments]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    shards = [
        [make_episode(3, seed=10 * n + m, instruction=TEXTS[(n + m) % 4]) for m in range(2)]
        for n in range(NUM_SHARDS)
    ]
    return write_tfds_folder(tmp_path_factory.mktemp("many"), {"train": shards})


@pytest.fixture(scope="module")
def uninterrupted(many, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    assert subprocess.run(command(many, out), stderr=subprocess.DEVNULL).returncode == 0
    return read_tree(out)


def test_a_run_that_is_killed_while_it_writes_ends_with_the_same_bytes(
    many, uninterrupted, tmp_path
):
    markers = tmp_path / ROOT / ".state" / "rlds"
    settings = {"stderr": subprocess.DEVNULL, "env": held("rlds", NUM_SHARDS - 1)}
    with killed_at_end(command(many, tmp_path), **settings) as process:
        wait_until(process, lambda: len(list(markers.glob("*.json"))) >= 2)
    assert process.returncode == -9
    committed = {path: path.stat().st_mtime_ns for path in markers.glob("*.json")}
    assert 2 <= len(committed) < NUM_SHARDS
    again = subprocess.run(command(many, tmp_path), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert read_tree(tmp_path) == uninterrupted
    assert committed.items() <= {p: p.stat().st_mtime_ns for p in markers.glob("*.json")}.items()


def test_two_workers_write_the_same_bytes_as_one(many, uninterrupted, tmp_path):
    done = subprocess.run(
        command(many, tmp_path, "--", "--direct_num_workers=2"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert read_tree(tmp_path) == uninterrupted


# Real data

REAL = {
    "bridge": "bridge_dataset/1.0.0",
    "bridge_oxe": "bridge/0.1.0",
    "fractal": "fractal20220817_data/0.1.0",
}


class FindsAll(dict):
    """A detector's table that has every query, at one place."""

    def get(self, query, default=None):
        return (10, 10, 40, 40), 0.5


@pytest.fixture(scope="module")
def real_episodes(shared_data, tmp_path_factory):
    """Real shards: name -> what TFDS reads of the source and of the output."""
    data, out = shared_data / "rlds", tmp_path_factory.mktemp("real")
    folders = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load_detector", lambda *_, **__: FakeDetector(FindsAll()))
        patch.setattr(loading, "load_segmenter", lambda *_, **__: FakeSegmenter())
        loading.forget_models()
        for key, name in REAL.items():
            models = ("--detector", "fake", "--verifier", "none")
            paths = ("--data-dir", data, "--out", out)
            done = run_ilv("convert", key, *paths, *models, *LAYOUT, "--include", "text_only")
            assert done.exit_code == 0, done.stderr
            dataset, version = name.split("/")
            rlds = out / name / "rlds" / f"{dataset}_interleave" / version
            folders += [data / name, "train", rlds, "train"]
    loading.forget_models()
    assert run_ilv("validate", "--deep", out).exit_code == 0
    found = read_with_tfds(*folders)
    return dict(zip(REAL, zip(found[::2], found[1::2], strict=True), strict=True))


def expected_numbers(name, source):
    """Actions and states of an episode of the source, the gripper of the actions apart."""
    if name == "bridge":
        return np.array(source["steps/action"])[1:, :6], source["steps/observation/state"][1:]
    motion = [source["steps/action/world_vector"], source["steps/action/rotation_delta"]]
    if name == "bridge_oxe":
        return np.hstack(motion)[1:], source["steps/observation/state"][1:]
    pose = np.array(source["steps/observation/base_pose_tool_reached"])
    euler = quaternion_to_euler(pose[:, 3:])
    states = np.hstack([pose[:, :3], euler, source["steps/observation/gripper_closed"]])
    return np.hstack(motion), states


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", REAL)
def test_real_shards_are_read_by_tfds_as_they_were_mapped(real_episodes, name):
    before, after = real_episodes[name]
    assert len(after) == len(before)  # each has one instruction
    for source, episode in zip(before, after, strict=True):
        num = len(episode["steps/action"])
        actions, states = expected_numbers(name, source)
        np.testing.assert_allclose(np.array(episode["steps/action"])[:, :6], actions, atol=1e-6)
        np.testing.assert_allclose(episode["steps/observation/state"], states, atol=1e-6)
        assert [bool(flag) for flag in episode["steps/is_first"]] == [True] + [False] * (num - 1)
        assert [bool(flag) for flag in episode["steps/is_last"]] == [False] * (num - 1) + [True]
        assert all(digest.startswith("224x224x3") for digest in episode["steps/observation/image"])
        (mask,) = {tuple(mask) for mask in episode[f"{GROUP}/image_mask"]}
        (language,) = set(episode[f"{GROUP}/language_instruction"])
        assert language.count("<image>") == sum(mask)
        assert len(mask) == 1
    if name != "bridge_oxe":  # there each has two nouns, found at one place
        assert any("<image>" in e[f"{GROUP}/language_instruction"][0] for e in after)


@pytest.mark.timeout(300)
def test_the_gripper_of_real_rt1_episodes_closes_where_it_is_told(real_episodes):
    """Each has one command, 1, which closes: open before it, closed from then on."""
    for source, episode in zip(*real_episodes["fractal"], strict=True):
        moves = [move for (move,) in source["steps/action/gripper_closedness_action"]]
        at = moves.index(1)
        gripper = [action[6] for action in episode["steps/action"]]
        assert gripper == [1] * at + [0] * (len(moves) - at)


@pytest.mark.timeout(300)
def test_the_demo_is_read_by_tfds(tmp_path):
    done = run_ilv("convert", *MARKED, *LAYOUT, "--out", tmp_path, "--verifier", "none")
    assert done.exit_code == 0, done.stderr
    rlds = tmp_path / RLDS
    train, val = read_with_tfds(rlds, "train", rlds, "val")
    assert len(train) + len(val) == 21
    for episode in (*train, *val):
        (language,) = set(episode[f"{GROUP}/language_instruction"])
        assert language.count("<image>") == 1
        assert {action[6] for action in episode["steps/action"]} <= {0, 1}
        assert episode["episode_metadata/state_kind"] == "pose"
