import errno
import threading

import pytest

from ilv_dataset.errors import ConfigError, StorageError
from ilv_dataset.formats import files

LONG = "x" * 300  # no file system takes a name of 300 bytes


@pytest.mark.parametrize(
    ("path", "expected"), [("gs://b/a", True), ("mem://b", True), ("a/b", False), ("/a:/b", False)]
)
def test_is_remote(path, expected):
    assert files.is_remote(path) is expected


def test_join_path():
    assert files.join_path("gs://b/", "a", "c") == "gs://b/a/c"
    assert files.join_path("out", "a") == "out/a"


def test_naming_path_turns_an_os_error_into_one_line():
    with (
        pytest.raises(StorageError, match=r"^there: No space left on device$"),
        files.naming_path("there"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_naming_path_turns_an_error_of_googles_client_into_one_line():
    from google.api_core.exceptions import Forbidden
    from google.auth.exceptions import DefaultCredentialsError

    with pytest.raises(StorageError, match=r"^gs://b/a: 403 no"), files.naming_path("gs://b/a"):
        raise Forbidden("no")
    with pytest.raises(StorageError, match=r"^gs://b/a: who\?$"), files.naming_path("gs://b/a"):
        raise DefaultCredentialsError("who?")
    with pytest.raises(ZeroDivisionError), files.naming_path("gs://b/a"):
        raise ZeroDivisionError


@pytest.fixture
def no_network(monkeypatch):
    """No proxy, and nothing known of Google yet; tests reach no host, see conftest.py."""
    monkeypatch.setattr("urllib.request.getproxies", dict)
    files._can_reach_google.cache_clear()
    yield
    files._can_reach_google.cache_clear()


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("use", [files.read_bytes, files.exists, files.list_names])
def test_without_a_network_a_bucket_is_one_line(use):
    with pytest.raises(
        StorageError, match=r"^gs://b/a: storage.googleapis.com cannot be reached within 5 s"
    ):
        use("gs://b/a")


@pytest.mark.usefixtures("no_network")
def test_a_look_up_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(files, "_REACH_S", 0.01)
    hangs = threading.Event()

    def hang(*_, **__):
        hangs.wait(20)
        raise OSError

    monkeypatch.setattr("socket.create_connection", hang)
    with pytest.raises(StorageError, match="cannot be reached"):
        files.exists("gs://b/a")
    hangs.set()


@pytest.mark.usefixtures("no_network")
def test_behind_a_proxy_the_way_is_left_to_the_client(monkeypatch):
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy:1"})
    assert files._can_reach_google()


def test_map_files_keeps_the_order_and_uses_threads_behind_a_scheme():
    def thread_of(name):
        return name, threading.current_thread() is threading.main_thread()

    names = [str(number) for number in range(50)]
    assert files.map_files(thread_of, names, root="out") == [(name, True) for name in names]
    assert files.map_files(thread_of, names, root="mem://b") == [(name, False) for name in names]


def test_local_files(tmp_path):
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.write_bytes(b"abc")
    assert files.read_bytes(str(path)) == b"abc"
    assert files.exists(str(path))
    assert files.exists(str(path.parent))
    assert files.file_size(str(path)) == 3
    assert files.file_size(str(path.parent)) is None
    assert files.file_size(str(tmp_path / "missing")) is None
    assert files.list_names(str(tmp_path)) == ["folder"]
    assert files.list_names(str(path)) == []
    assert files.list_names(str(tmp_path / "missing")) == []
    assert files.checksum(str(path)) == "364b3fb7"  # CRC32C of "abc"
    assert files.checksum(str(tmp_path / "missing")) == ""


def test_open_read_is_seekable(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abcdef")
    with files.open_read(str(path)) as file:
        file.seek(3)
        assert file.read(2) == b"de"


def test_remove_tree(tmp_path):
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "file").touch()
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("folder", "link", "missing"):
        files.remove_tree(str(tmp_path / name))
    assert files.list_names(str(tmp_path)) == ["kept"]
    (tmp_path / "kept" / "file").touch()
    files.remove_tree(str(tmp_path / "kept" / "file"))
    assert files.list_names(str(tmp_path / "kept")) == []


@pytest.mark.parametrize(
    "use",
    [
        files.open_read,
        files.read_bytes,
        files.exists,
        files.file_size,
        files.list_names,
        files.remove_tree,
        files.checksum,
    ],
)
def test_every_failure_of_the_storage_names_the_path(tmp_path, use):
    with pytest.raises(StorageError, match=rf"{LONG}: File name too long$"):
        use(str(tmp_path / LONG))


def test_a_missing_file_names_the_path(tmp_path):
    with pytest.raises(StorageError, match=r"missing: No such file or directory$"):
        files.read_bytes(str(tmp_path / "missing"))


def test_files_of_a_bucket(bucket):
    bucket.update({"mem://b/out/a": b"abc", "mem://b/out/c/d": b"", "mem://b/outer": b"x"})
    assert files.read_bytes("mem://b/out/a") == b"abc"
    assert files.exists("mem://b/out/a")
    assert not files.exists("mem://b/out")
    assert files.file_size("mem://b/out/a") == 3
    assert files.file_size("mem://b/out") is None
    assert files.list_names("mem://b/out") == ["a", "c"]
    assert files.list_names("mem://b/out/") == ["a", "c"]
    assert files.list_names("mem://b/none") == []
    assert files.checksum("mem://b/none") == ""


def test_an_object_whose_name_is_a_pattern_is_found_by_its_name(bucket):
    bucket["mem://b/a[1]*"] = b"abc"
    assert files.file_size("mem://b/a[1]*") == 3


def test_create_remote_appears_when_it_is_closed(bucket):
    with files.create_remote("mem://b/new") as file:
        file.write(b"abc")
        assert "mem://b/new" not in bucket
    assert bucket["mem://b/new"] == b"abc"


def test_remove_tree_of_a_bucket_takes_an_object_and_what_is_below_it(bucket):
    bucket.update(dict.fromkeys(["mem://b/x", "mem://b/x/y", "mem://b/x/z/w", "mem://b/xx"], b""))
    files.remove_tree("mem://b/x")
    assert sorted(bucket) == ["mem://b/xx"]
    files.remove_tree("mem://b/none")
    files.remove_tree("mem://b/xx")
    assert not bucket


def test_an_object_that_cannot_be_read_names_the_path(bucket):
    with pytest.raises(StorageError, match=r"^mem://b/none: Get operation failed"):
        files.read_bytes("mem://b/none")


def test_a_scheme_that_nothing_reads_says_what_to_install():
    with pytest.raises(ConfigError, match=r"nosuch://b: nothing installed reads this scheme"):
        files.exists("nosuch://b")
