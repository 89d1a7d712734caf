import errno
import os
import subprocess
import sys

import object_store
import pytest

from ilv_dataset.errors import ConfigError, StorageError
from ilv_dataset.formats import atomic
from ilv_dataset.formats.atomic import locked_output, replacing_file, write_json, write_small

HOLD_THE_LOCK = """
import sys
from ilv_dataset.formats.atomic import locked_output
with locked_output(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def left_over(out):
    folder = out / ".tmp"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_replacing_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "a" / "b"
    with replacing_file(str(target), out=str(tmp_path)) as file:
        assert file.write(b"12345") == 5
        assert file.write(memoryview(b"6789")) == 4
        file.flush()
        assert not target.exists()
        assert len(left_over(tmp_path)) == 1
    assert target.read_bytes() == b"123456789"
    assert (file.num_bytes, file.tell(), f"{file.crc32c:08x}") == (9, 9, "e3069283")
    assert left_over(tmp_path) == []


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    target = tmp_path / "b"
    target.write_bytes(b"old")

    def write():
        with replacing_file(str(target), out=str(tmp_path)) as file:
            file.write(b"new")
            raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        write()
    assert target.read_bytes() == b"old"
    assert left_over(tmp_path) == []


def test_an_error_of_the_block_is_not_called_one_of_the_file(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="weights"),
        replacing_file(str(tmp_path / "b"), out=str(tmp_path)),
    ):
        (tmp_path / "weights").read_bytes()


def test_an_object_whose_writing_fails_names_itself(bucket, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "connection lost")

    monkeypatch.setattr(object_store.Writer, "close", fail)
    with (
        pytest.raises(StorageError, match=r"^mem://b/x: connection lost$"),
        replacing_file("mem://b/x", out="mem://b") as file,
    ):
        file.write(b"abc")


def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with (
        pytest.raises(StorageError, match=r"b: No space left on device$"),
        replacing_file(str(tmp_path / "b"), out=str(tmp_path)) as file,
    ):
        file.write(b"new")
    assert [path.name for path in tmp_path.iterdir()] == [".tmp"]
    assert left_over(tmp_path) == []


def test_a_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "a").touch()
    with (
        pytest.raises(StorageError, match=r"a/b: (Not a directory|File exists)$"),
        replacing_file(str(tmp_path / "a" / "b"), out=str(tmp_path)),
    ):
        pass


def test_an_object_is_written_where_it_belongs(bucket):
    with replacing_file("mem://b/out/x", out="mem://b/out") as file:
        file.write(b"12345")
        file.write(b"6789")
    assert bucket == {"mem://b/out/x": b"123456789"}
    assert f"{file.crc32c:08x}" == "e3069283"


def test_write_json_keeps_the_order_and_the_letters(tmp_path):
    write_json(str(tmp_path / "a.json"), {"b": 1, "a": "Tür"}, out=str(tmp_path))
    assert (tmp_path / "a.json").read_text() == '{\n "b": 1,\n "a": "Tür"\n}\n'


def test_a_small_file_that_is_there_already_is_left_alone(tmp_path):
    path = tmp_path / "a"
    write_small(str(path), b"abc", out=str(tmp_path))
    before = path.stat()
    write_small(str(path), b"abc", out=str(tmp_path))
    assert path.stat() == before
    write_small(str(path), b"abd", out=str(tmp_path))
    assert path.read_bytes() == b"abd"


def test_locked_output_makes_the_folder_and_clears_what_a_killed_run_left(tmp_path):
    out = tmp_path / "new" / "out"
    (out / ".tmp" / "deep").mkdir(parents=True)
    (out / ".tmp" / "deep" / "half").touch()
    with locked_output(str(out)):
        assert sorted(path.name for path in out.iterdir()) == [".lock"]


def test_two_runs_at_once_is_one_line(tmp_path):
    command = [sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        (tmp_path / ".tmp").mkdir()
        with (
            pytest.raises(ConfigError, match=r"another run is writing to .*; wait for it or stop"),
            locked_output(str(tmp_path)),
        ):
            pass
        assert (tmp_path / ".tmp").is_dir()  # the other run's
        other.kill()
    with locked_output(str(tmp_path)):  # the lock went with its process
        pass


def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(atomic.fcntl, "flock", fail)
    with (
        pytest.raises(StorageError, match="this file system has no locks: No locks available"),
        locked_output(str(tmp_path)),
    ):
        pass


def test_an_output_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "out").touch()
    with (
        pytest.raises(StorageError, match="out: File exists"),
        locked_output(str(tmp_path / "out")),
    ):
        pass


def test_a_bucket_is_not_locked(bucket):
    with locked_output("mem://b/out"):
        assert bucket == {}
