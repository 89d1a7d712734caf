import fcntl
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from builders import scene_jpeg
from converted import change_json, copy_converted, rewrite_rows, run_ilv

from ilv_dataset.dataset_reader import ConvertedShard, StepColumns, open_dataset
from ilv_dataset.errors import ConfigError, RecordError, StorageError
from ilv_dataset.formats.frames import decode_square
from ilv_dataset.layout import Layout
from ilv_dataset.records import ShardKey
from ilv_dataset.small_frames import _open, open_small_frames

COLUMNS = StepColumns("observation/image", False, (), ("action",))


@pytest.mark.parametrize("form", ["parquet", "rlds"])
def test_frames_of_a_span_are_the_decoded_ones(tmp_path, form):
    shard = open_dataset(str(copy_converted(tmp_path)), "train", format=form).shards[0]
    kept = open_small_frames(shard, COLUMNS, 16)
    assert kept.pixels.shape == (2 + 2 + 3, 16, 16, 3)
    assert not kept.pixels.flags.writeable
    third = list(shard.written_spans())[2]  # steps 2 to 4 of the episode of seed 2
    for step, square in zip((2, 3, 4), kept.of(third), strict=True):
        assert (square == decode_square(scene_jpeg(2 + step), 16)).all()


def test_frames_are_made_once_for_a_size_and_an_order_of_channels(tmp_path):
    root = copy_converted(tmp_path)
    shard = open_dataset(str(root), "train").shards[0]
    folder = tmp_path / "out" / ".cache" / "frames"
    squares = open_small_frames(shard, COLUMNS, 16).pixels
    (file,) = folder.iterdir()
    written = file.stat().st_mtime_ns
    _open.cache_clear()
    assert (open_small_frames(shard, COLUMNS, 16).pixels == squares).all()
    assert file.stat().st_mtime_ns == written
    turned = StepColumns("observation/image", True, (), ("action",))
    assert (open_small_frames(shard, turned, 16).pixels == squares[..., ::-1]).all()
    assert open_small_frames(shard, COLUMNS, 8).pixels.shape == (7, 8, 8, 3)
    assert len(list(folder.iterdir())) == 3
    assert run_ilv("validate", tmp_path / "out").exit_code == 0


def test_frames_are_written_beside_their_file_and_none_of_older_steps_stay(tmp_path):
    root, out = copy_converted(tmp_path), tmp_path / "out"
    open_small_frames(open_dataset(str(root), "train").shards[0], COLUMNS, 16)
    open_small_frames(open_dataset(str(root), "train").shards[0], COLUMNS, 8)
    first, *_ = kept = sorted(
        (out / ".cache" / "frames").iterdir(), key=lambda p: -p.stat().st_size
    )
    first.with_name(f"{first.name}.part").write_bytes(b"of a killed process")
    shutil.rmtree(out / ".tmp", ignore_errors=True)
    (out / ".tmp").write_bytes(b"no folder: nothing is written into it")
    marker = root / ".state" / "steps" / "train-00000-of-00002.json"
    change_json(marker, lambda made: made["files"][0].update(crc32c="00000000"))
    open_small_frames(open_dataset(str(root), "train").shards[0], COLUMNS, 16)
    second, other = sorted((out / ".cache" / "frames").iterdir(), key=lambda p: -p.stat().st_size)
    assert not first.exists()
    assert second.stat().st_size == 128 + 7 * 16 * 16 * 3  # header and frames
    assert other == kept[1]


def test_what_a_killed_process_left_is_written_over(tmp_path):
    shard = open_dataset(str(copy_converted(tmp_path)), "train").shards[0]
    pixels = open_small_frames(shard, COLUMNS, 16).pixels.copy()
    (file,) = (tmp_path / "out" / ".cache" / "frames").iterdir()
    content = file.read_bytes()
    file.rename(part := file.with_name(f"{file.name}.part"))
    part.write_bytes(b"more than the frames need " * 1000)
    _open.cache_clear()
    assert (open_small_frames(shard, COLUMNS, 16).pixels == pixels).all()
    assert file.read_bytes() == content
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("is_made", [True, False])
def test_who_comes_while_another_makes_the_frames_waits_for_them(tmp_path, monkeypatch, is_made):
    shard = open_dataset(str(copy_converted(tmp_path)), "train").shards[0]
    open_small_frames(shard, COLUMNS, 16)
    (file,) = (tmp_path / "out" / ".cache" / "frames").iterdir()
    content = file.read_bytes()
    part = file.rename(file.with_name(f"{file.name}.part"))
    inode, flock, comes = part.stat().st_ino, fcntl.flock, threading.Event()
    with part.open("ab") as made, ThreadPoolExecutor(1) as pool:
        flock(made, fcntl.LOCK_EX)
        monkeypatch.setattr(fcntl, "flock", lambda *args: (comes.set(), flock(*args)))
        _open.cache_clear()
        waiting = pool.submit(open_small_frames, shard, COLUMNS, 16)
        assert comes.wait(60)
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        if is_made:
            part.rename(file)
        else:  # the other one has failed
            part.unlink()
        flock(made, fcntl.LOCK_UN)
        assert waiting.result(60).pixels.shape == (7, 16, 16, 3)
    assert (file.stat().st_ino == inode) is is_made
    assert file.read_bytes() == content
    assert list(file.parent.iterdir()) == [file]


def test_nothing_is_left_where_a_frame_does_not_decode(tmp_path):
    root = copy_converted(tmp_path)
    spoil = lambda rows: rows[5]["observation/image"].update(bytes=None)  # noqa: E731
    rewrite_rows(root, "steps/train-00000-of-00002.parquet", spoil)
    shard = open_dataset(str(root), "train").shards[0]
    with pytest.raises(
        RecordError, match=r"observation/image of .*__1#1, step 3: image of 0 bytes"
    ):
        open_small_frames(shard, COLUMNS, 16)
    assert list((tmp_path / "out" / ".cache" / "frames").iterdir()) == []


def test_error_when_the_kept_file_is_another(tmp_path):
    shard = open_dataset(str(copy_converted(tmp_path)), "train").shards[0]
    open_small_frames(shard, COLUMNS, 16)
    (file,) = (tmp_path / "out" / ".cache" / "frames").iterdir()
    for content in (b"", b"no array", file.read_bytes()[:-1]):
        file.write_bytes(content)
        _open.cache_clear()
        with pytest.raises(StorageError, match="not frames, delete it"):
            open_small_frames(shard, COLUMNS, 16)
    np.save(file, np.zeros((1, 16, 16, 3), np.uint8))
    with pytest.raises(StorageError, match=r"not the frames of .*: delete it"):
        open_small_frames(shard, COLUMNS, 16)


def test_error_when_the_data_are_remote():
    layout = Layout("mem://bucket/out", "demo", "1.0.0")
    shard = ConvertedShard(layout, ShardKey("train", 0, 1), "parquet", ("interleaved",))
    with pytest.raises(ConfigError, match="frames are kept beside local data only"):
        open_small_frames(shard, COLUMNS, 16)
