import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import convert, decode, make_episode, scene_jpeg, write_tfds_folder
from converted import ROOT, TRAIN_0, VAL_0, change_json, converted_once, copy_converted, rewrite

import ilv_dataset
from ilv_dataset.dataset_reader import StepColumns, find_columns, open_dataset, stack_numbers
from ilv_dataset.errors import ConfigError, StorageError
from ilv_dataset.formats.tfrecord import frame_record, read_records
from ilv_dataset.robot_actions import kept_steps
from ilv_dataset.small_frames import open_small_frames

STEPS_0 = "steps/train-00000-of-00002.parquet"
KEYS = {"camera": "", "state_key": "observation/state", "action_key": "action"}


def test_spans_of_a_split_come_whatever_became_of_them():
    found = list(ilv_dataset.open(str(converted_once()), split="train").spans())
    assert [(row.episode_id[-17:], row.span, row.status) for row in found] == [
        ("00000-of-00002__0", 0, "interleaved"),
        ("00000-of-00002__1", 0, "interleaved"),
        ("00000-of-00002__1", 1, "interleaved"),
        ("00001-of-00002__0", 0, "rejected"),
        ("00001-of-00002__1", 0, "text_only"),
    ]
    assert found[0].interleaved == "put <image> on <image>"
    assert [decode(jpeg).shape for jpeg in found[0].images] == [(224, 224, 3)] * 2


def test_episodes_are_their_spans():
    found = list(ilv_dataset.open(str(converted_once() / ROOT)).episodes())
    assert [len(spans) for spans in found] == [1, 2, 1, 1, 1, 1]
    assert [row.instruction for row in found[1]] == [
        "put the carrot on the plate",
        "lift the plate",
    ]


@pytest.mark.parametrize("form", ["parquet", "rlds"])
def test_steps_of_both_formats_are_the_same(form):
    steps = list(open_dataset(str(converted_once()), format=form).steps())
    places = [(step["episode_id"], step["span"], step["step"]) for step in steps]
    assert places == [
        (f"{TRAIN_0}__0", 0, 0), (f"{TRAIN_0}__0", 0, 1),
        (f"{TRAIN_0}__1", 0, 0), (f"{TRAIN_0}__1", 0, 1),
        (f"{TRAIN_0}__1", 1, 2), (f"{TRAIN_0}__1", 1, 3), (f"{TRAIN_0}__1", 1, 4),
        (f"{VAL_0}__0", 0, 0), (f"{VAL_0}__0", 0, 1), (f"{VAL_0}__0", 0, 2),
    ]  # fmt: skip
    third = steps[6]
    assert third["observation/image"] == {"bytes": scene_jpeg(2 + 4), "path": None}
    assert third["observation/state"] == [6.0] * 7  # step 4 and seed 2
    assert third["action"] == [0.5] * 7
    assert third["observation/half"] == 4.5
    assert third["observation/words"] == []
    assert (third["is_first"], third["is_last"]) == (False, True)
    assert third["language_instruction"] == "lift the plate"


def test_formats_agree_in_every_column():
    both = [
        list(open_dataset(str(converted_once()), format=f).steps()) for f in ("parquet", "rlds")
    ]
    assert both[0] == both[1]


def test_only_the_columns_that_are_asked_for_are_read():
    dataset = ilv_dataset.open(str(converted_once()), "val")
    assert [step["action"][0] for step in dataset.steps(["action"])] == [0.0, 0.125, 0.25]
    assert list(next(dataset.steps(["action"]))) == ["action"]


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_spans_are_whole_when_row_groups_end_within_them(tmp_path, rows):
    root = copy_converted(tmp_path)
    table = pq.ParquetFile(root / STEPS_0).read()
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=rows)
    rewrite(root, STEPS_0, sink.getvalue())
    shard = ilv_dataset.open(str(root), "train").shards[0]
    for first in range(4):
        found = list(shard.read_steps(["step"], first=first))
        numbers = [table["step"].to_pylist() for _, table in found]
        assert numbers == [[0, 1], [0, 1], [2, 3, 4]][first:]
        assert [row.span for row, _ in found] == [0, 0, 1][first:]
    assert [row.span for row, _ in shard.read_steps(["step"], first=1, last=2)] == [0]


def test_error_when_steps_are_not_those_of_the_episodes(tmp_path):
    root = copy_converted(tmp_path)
    table = pq.ParquetFile(root / STEPS_0).read()
    for changed, message in (
        (table.slice(0, 5), "has 5 steps, and more are expected"),
        (pa.concat_tables([table.slice(2), table.slice(0, 2)]), "is expected"),
    ):
        sink = io.BytesIO()
        pq.write_table(changed, sink)
        (root / STEPS_0).write_bytes(sink.getvalue())
        with pytest.raises(StorageError, match=message):
            list(ilv_dataset.open(str(root), "train").steps())
    (root / STEPS_0).write_bytes(b"PAR1")
    with pytest.raises(StorageError, match="not a readable Parquet file"):
        list(ilv_dataset.open(str(root), "train").steps())


def test_error_when_a_record_is_of_another_episode_or_broken(tmp_path):
    root = copy_converted(tmp_path)
    dataset = open_dataset(str(root), format="rlds")
    train, val = Path(dataset.shards[0].path), Path(dataset.shards[-1].path)
    train.write_bytes(val.read_bytes())
    with pytest.raises(StorageError, match=rf"record 0 is not {TRAIN_0}__0#0"):
        list(dataset.steps(["action"]))
    for content, message in ((val.read_bytes()[:-1], "record 0"), (b"", "has 0 records, and more")):
        train.write_bytes(content)
        with pytest.raises(StorageError, match=message):
            list(dataset.steps(["action"]))


def test_error_names_the_splits_and_formats_that_exist(tmp_path):
    root = copy_converted(tmp_path)
    with pytest.raises(ConfigError, match="has no split 'test', only train, val"):
        ilv_dataset.open(str(root), "test")
    with pytest.raises(ConfigError, match="unknown format 'csv', expected one of parquet, rlds"):
        open_dataset(str(root), format="csv")
    with pytest.raises(ConfigError, match="no such folder"):
        ilv_dataset.open(str(tmp_path / "nowhere"))
    shutil.rmtree(root / "rlds")
    shutil.rmtree(root / ".state" / "rlds")
    with pytest.raises(ConfigError, match="has no rlds, only parquet"):
        open_dataset(str(root), format="rlds")
    shutil.rmtree(root / "steps")
    shutil.rmtree(root / ".state" / "steps")
    dataset = ilv_dataset.open(str(root), "train")
    assert len(list(dataset.spans())) == 5
    with pytest.raises(ConfigError, match="holds no steps: convert with --formats parquet"):
        next(dataset.steps())


def test_columns_are_the_first_camera_and_the_numbers_that_are_named():
    shards = open_dataset(str(converted_once())).shards
    (found,) = find_columns(shards, **KEYS).values()
    assert found.camera == "observation/image"
    assert found.numbers == ("observation/state", "action")
    assert not found.is_bgr
    (twice,) = find_columns(shards, **KEYS | {"state_key": "action, reward"}).values()
    assert twice.numbers == ("action", "reward")
    assert twice.names(has_camera=True) == ("observation/image", "action", "reward")
    several = {"camera": "observation/wrist", "state_key": "", "action_key": "action, reward"}
    (other,) = find_columns(shards, **several).values()
    assert (other.camera, other.state, other.action) == (
        "observation/wrist", (), ("action", "reward"),
    )  # fmt: skip


@pytest.mark.parametrize("form", ["parquet", "rlds"])
def test_error_names_the_columns_that_exist(form):
    shards = open_dataset(str(converted_once()), format=form).shards
    cameras = "observation/image, observation/segmentation, observation/wrist"
    with pytest.raises(ConfigError, match=f"has no camera 'front'; cameras: {cameras}"):
        find_columns(shards, **KEYS | {"camera": "front"})
    with pytest.raises(ConfigError, match=r"no action_key 'act'; columns of numbers: .*action, "):
        find_columns(shards, **KEYS | {"action_key": "act"})
    with pytest.raises(ConfigError, match=r"no state_key 'observation/note'; columns of numbers"):
        find_columns(shards, **KEYS | {"state_key": "observation/note"})


def test_the_layout_of_interleave_vla_is_read_as_well(tmp_path):
    source = write_tfds_folder(tmp_path / "source", {"train": [[make_episode(3, seed=1)]]})
    options = ("--formats", "rlds", "--layout", "interleave-vla")
    assert convert(source, tmp_path / "out", *options).exit_code == 0
    dataset = ilv_dataset.open(str(tmp_path / "out"), "train")
    steps = list(dataset.steps())
    assert [step["step"] for step in steps] == [0, 1, 2]
    assert decode(steps[0]["observation/image"]["bytes"]).shape == (224, 224, 3)
    (columns,) = find_columns(dataset.shards, **KEYS).values()
    assert columns.camera == "observation/image"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """OUT/<dataset>/<version> of interleave-vla: no first steps, and a middle span left out."""
    folder = tmp_path_factory.mktemp("theirs")
    halves = ["put the carrot on the plate"] * 3 + ["lift the plate"] * 2
    cut = [scene_jpeg(), scene_jpeg()[:300] + scene_jpeg()[-2:]]  # whole by its ends alone
    episodes = [
        make_episode(5, instruction=halves, seed=10),
        make_episode(2, steps__observation__image=cut),
        make_episode(1, seed=20),
        make_episode(4, seed=30),
    ]
    source = write_tfds_folder(folder / "source", {"train": [episodes]})
    with pytest.MonkeyPatch.context() as patch:
        dropping = lambda *args, **_: kept_steps(*args, drop_first_step=True)  # noqa: E731
        patch.setattr("ilv_dataset.shards.interleave_vla.kept_steps", dropping)
        options = ("--formats", "rlds", "--layout", "interleave-vla", "--max-failed", "1")
        assert convert(source, folder / "out", *options).exit_code == 0
    return folder / "out" / ROOT


def test_steps_and_spans_that_interleave_vla_leaves_out_are_no_steps(theirs):
    (shard,) = open_dataset(str(theirs)).shards
    extents = [(row.episode_id[-1], row.step_start, row.step_end) for row in shard.written_spans()]
    assert extents == [("0", 1, 3), ("0", 3, 5), ("2", 0, 1), ("3", 1, 4)]
    for first in range(5):
        found = [
            (row.episode_id[-1], table["step"].to_pylist(), stack_numbers(table, ["action"])[0, 0])
            for row, table in shard.read_steps(["step", "action"], first=first, last=4)
        ]
        # An action is its step / 8.
        assert found == [
            ("0", [1, 2], 0.125), ("0", [3, 4], 0.375), ("2", [0], 0), ("3", [1, 2, 3], 0.125),
        ][first:]  # fmt: skip
    assert len(list(shard.spans())) == 5
    assert open_small_frames(
        shard, StepColumns("observation/image", False, (), ()), 8
    ).pixels.shape == (2 + 2 + 1 + 3, 8, 8, 3)


def test_batches_have_the_steps_that_interleave_vla_keeps(theirs):
    from ilv_dataset.train.data import DataConfig, open_batches

    batches = list(open_batches(str(theirs), DataConfig(batch=3, image_px=8), epochs=1))
    assert sum(len(batch["frames"]) for batch in batches) == 8


def test_error_when_records_of_interleave_vla_are_not_those_of_the_table(theirs, tmp_path):
    shutil.copytree(theirs, tmp_path / "out" / ROOT)
    out = str(tmp_path / "out" / ROOT)
    (shard,) = open_dataset(out).shards
    path = Path(shard.path)
    with path.open("rb") as file:
        size = path.stat().st_size
        framed = [b"".join(frame_record(r.payload)) for r in read_records(file, size=size)]
    _, second, *rest = framed
    for number, (content, message) in enumerate(
        (
            ([second, framed[0], *rest], r"__0#0 is not a span in this place"),
            (framed[:-1], r"has 3 records, its marker .*'records': 4"),
            ([b"cut"], "record 0"),
            ([b"".join(frame_record(b"")), *framed[1:]], "record 0 is of no span"),
        )
    ):
        path.write_bytes(b"".join(content))
        marker = Path(shard.layout.marker("rlds", shard.key))
        change_json(marker, lambda made, n=number: made["files"][0].update(crc32c=f"{n:08x}"))
        with pytest.raises(StorageError, match=message):
            list(open_dataset(out).shards[0].written_spans())


def test_marker_is_read_once_for_a_shard(monkeypatch):
    shard = open_dataset(str(converted_once()), "val").shards[0]
    found = shard.checksum
    monkeypatch.setattr("ilv_dataset.dataset_reader.upstream_checksum", None)
    assert shard.checksum == found
    assert len(found) == 8


def test_numbers_stand_side_by_side():
    (first, *_) = open_dataset(str(converted_once())).shards
    columns = ["action_parts/future/xyz", "observation/flags", "reward"]
    _, table = next(first.read_steps(columns))
    assert stack_numbers(table, columns).tolist() == [
        [0, 1, 2, 3, 4, 5, 1, 1, 0],
        [6, 7, 8, 9, 10, 11, 0, 1, 1],
    ]
    assert stack_numbers(table, ()).shape == (2, 0)
    assert stack_numbers(table, ["reward", "reward"]).tolist() == [[0, 0], [1, 1]]
    for missing in (
        pa.nulls(2, pa.float32()),
        pa.array([[1.0], None, [3.0], None], pa.list_(pa.float32(), 1)).slice(1),
        pa.array([[[1.0, 2.0]], [None]], pa.list_(pa.list_(pa.float32(), 2), 1)),
        pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),  # 2 numbers, which 2 steps share
    ):
        with pytest.raises(StorageError, match="'reward' has steps without a value"):
            stack_numbers(pa.table({"reward": missing}), ["reward"])
    assert stack_numbers(table, columns).dtype == np.float32


def test_opening_imports_nothing_heavy():
    code = "import sys, ilv_dataset; ilv_dataset.open; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pyarrow", "numpy", "torch", "apache_beam"} & set(done.stdout.split())
