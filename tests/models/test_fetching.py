"""Downloads, from a real server on loopback: cut, resumed, damaged, slow, refused."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from ilv_dataset.cli import Group
from ilv_dataset.errors import ConfigError, StorageError
from ilv_dataset.models import catalog, fetching
from ilv_dataset.models.catalog import CHECKSUMS_NAME, ModelFile, read_checksums
from ilv_dataset.models.fetching import fetch_model
from ilv_dataset.models_command import models

CONTENT = bytes(range(256)) * 12_000  # 3,072,000 bytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


@dataclass
class Host:
    """A server of one file, and how it misbehaves."""

    content: bytes = CONTENT
    etag: str = '"v1"'
    says_why_not: bool = True  # a 416 tells how long the file is
    status: int = 200
    takes_ranges: bool = True
    says_length: bool = True
    is_stalling: bool = False
    cuts: list[int] = field(default_factory=list)  # bytes of the next replies, then they break off
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)  # Range, If-Range
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def model(self, **fields: object) -> ModelFile:
        values = {"backend": "sam", "kind": "segmenter", "license": "MIT", **fields}
        return ModelFile("net.pt", url=f"{self.url}/net.pt", **values)


class Handler(BaseHTTPRequestHandler):
    host: Host

    def do_GET(self) -> None:
        host, wanted = self.host, self.headers.get("Range")
        host.asked.append((wanted, self.headers.get("If-Range")))
        if host.status != 200:
            self.send_error(host.status)
            return
        start = 0
        if wanted and host.takes_ranges and self.headers.get("If-Range") in (None, host.etag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(host.content):
                self.send_response(416)
                if host.says_why_not:
                    self.send_header("Content-Range", f"bytes */{len(host.content)}")
                self.end_headers()
                return
        self.send_response(206 if start else 200)
        if host.etag:
            self.send_header("ETag", host.etag)
        if start:
            last, total = len(host.content) - 1, len(host.content)
            self.send_header("Content-Range", f"bytes {start}-{last}/{total}")
        if host.says_length:
            self.send_header("Content-Length", str(len(host.content) - start))
        self.end_headers()
        body = host.content[start:]
        if host.cuts:
            body = body[: host.cuts.pop(0)]
        with contextlib.suppress(OSError):
            self.wfile.write(body)
            if host.is_stalling:
                self.wfile.flush()
                host.released.wait(20)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    served = Host()
    handler = type("OneHandler", (Handler,), {"host": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        served.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield served
        served.released.set()
        server.shutdown()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def start_part(folder: Path, content: bytes, version: str = '"v1"') -> None:
    """What a download that was cut has left."""
    folder.mkdir(exist_ok=True)
    (folder / ".net.pt.part").write_bytes(content)
    (folder / ".net.pt.version").write_text(json.dumps(version))


# --- a download, and a second one


def test_a_file_is_there_whole_with_its_checksum_noted(host, tmp_path):
    seen: list[tuple[int, int | None]] = []
    folder = tmp_path / "a" / "models"
    fetched = fetch_model(host.model(), folder, note=lambda *counts: seen.append(counts))
    assert fetched.path == folder / "net.pt"
    assert fetched.path.read_bytes() == CONTENT
    assert (fetched.sha256, fetched.is_new, fetched.is_first) == (SHA256, True, True)
    assert names(folder) == {"net.pt", "checksums.json"}
    assert read_checksums(folder) == {"net.pt": SHA256}
    assert seen[0] == (0, 3_072_000)
    assert seen[-1] == (3_072_000, 3_072_000)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_what_is_there_is_checked_and_not_fetched_again(host, tmp_path):
    fetch_model(host.model(), tmp_path)
    again = fetch_model(host.model(), tmp_path)
    assert (again.is_new, again.is_first) == (False, False)
    assert len(host.asked) == 1


def test_a_file_put_there_by_hand_is_noted(host, tmp_path):
    (tmp_path / "net.pt").write_bytes(CONTENT)
    fetched = fetch_model(host.model(gated="https://x"), tmp_path)
    assert (fetched.is_new, fetched.is_first) == (False, True)
    assert read_checksums(tmp_path) == {"net.pt": SHA256}
    assert host.asked == []


def test_a_server_that_does_not_say_how_long_the_file_is(host, tmp_path):
    host.says_length = False
    seen: list[tuple[int, int | None]] = []
    fetch_model(host.model(), tmp_path, note=lambda *counts: seen.append(counts))
    assert (tmp_path / "net.pt").read_bytes() == CONTENT
    assert seen[-1] == (3_072_000, None)


def test_an_empty_file_is_no_weights(host, tmp_path):
    host.content = b""
    with pytest.raises(StorageError, match=r"net\.pt: the server sent an empty file"):
        fetch_model(host.model(), tmp_path)
    assert names(tmp_path) == set()


# --- resuming


def test_a_download_that_was_cut_goes_on_where_it_was(host, tmp_path):
    start_part(tmp_path, CONTENT[:1_000_000])
    seen: list[tuple[int, int | None]] = []
    fetch_model(host.model(), tmp_path, note=lambda *counts: seen.append(counts))
    assert (tmp_path / "net.pt").read_bytes() == CONTENT
    assert host.asked == [("bytes=1000000-", '"v1"')]
    assert seen[0] == (1_000_000, 3_072_000)
    assert names(tmp_path) == {"net.pt", "checksums.json"}


def test_a_connection_that_breaks_off_is_taken_up_in_the_same_run(host, tmp_path):
    host.cuts = [1_000_000, 500_000]
    fetch_model(host.model(), tmp_path)
    assert (tmp_path / "net.pt").read_bytes() == CONTENT
    assert [asked for asked, _ in host.asked] == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_server_that_ignores_ranges_sends_all_of_it_again(host, tmp_path):
    host.takes_ranges = False
    start_part(tmp_path, b"\xff" * 1_000_000)
    fetch_model(host.model(), tmp_path)
    assert (tmp_path / "net.pt").read_bytes() == CONTENT


def test_a_file_that_has_changed_on_the_server_is_never_joined(host, tmp_path):
    start_part(tmp_path, b"\xff" * 1_000_000, version='"v0"')
    fetch_model(host.model(), tmp_path)
    assert (tmp_path / "net.pt").read_bytes() == CONTENT
    assert host.asked == [("bytes=1000000-", '"v0"')]


def test_a_server_without_versions_is_asked_for_all_of_it(host, tmp_path):
    host.etag = ""
    start_part(tmp_path, CONTENT[:1_000_000], version="")
    fetch_model(host.model(), tmp_path)
    assert (tmp_path / "net.pt").read_bytes() == CONTENT
    assert host.asked == [(None, None)]


def test_a_part_that_is_longer_than_the_file_is_dropped(host, tmp_path):
    start_part(tmp_path, CONTENT + b"more")
    fetch_model(host.model(), tmp_path)
    assert (tmp_path / "net.pt").read_bytes() == CONTENT
    assert [asked for asked, _ in host.asked] == ["bytes=3072004-", None]


@pytest.mark.parametrize("says_why_not", [True, False])
def test_a_whole_part_that_was_never_renamed_is_not_fetched_again(host, tmp_path, says_why_not):
    host.says_why_not = says_why_not
    start_part(tmp_path, CONTENT)
    seen: list[tuple[int, int | None]] = []
    fetched = fetch_model(host.model(), tmp_path, note=lambda *counts: seen.append(counts))
    assert fetched.sha256 == SHA256
    assert names(tmp_path) == {"net.pt", "checksums.json"}
    assert host.asked[0] == ("bytes=3072000-", '"v1"')
    assert len(host.asked) == (1 if says_why_not else 2)  # who says nothing is not trusted
    assert seen[-1] == (3_072_000, 3_072_000)


def test_a_run_that_ends_while_hashing_leaves_what_the_next_one_needs(host, tmp_path, monkeypatch):
    digest = fetching._digest

    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "_digest", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch_model(host.model(), tmp_path)
    assert names(tmp_path) == {".net.pt.part", ".net.pt.version"}
    monkeypatch.setattr(fetching, "_digest", digest)
    fetch_model(host.model(), tmp_path)
    assert (tmp_path / "net.pt").read_bytes() == CONTENT
    assert host.asked == [(None, None), ("bytes=3072000-", '"v1"')]


def test_a_truncated_download_keeps_what_came_and_says_so(host, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "_ATTEMPTS", 2)
    host.cuts = [1_000_000, 1_000_000]
    expected = r"net\.pt: broke off.*; the same command goes on$"
    with pytest.raises(StorageError, match=expected) as caught:
        fetch_model(host.model(), tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / ".net.pt.part").stat().st_size == 2_000_000
    fetch_model(host.model(), tmp_path)
    assert (tmp_path / "net.pt").read_bytes() == CONTENT
    assert host.asked[-1] == ("bytes=2000000-", '"v1"')


def test_a_server_that_brings_nothing_is_not_asked_for_ever(host, tmp_path):
    host.cuts = [0] * 100
    with pytest.raises(StorageError, match=r"broke off"):
        fetch_model(host.model(), tmp_path)
    assert len(host.asked) == 1
    assert names(tmp_path) == set()


def test_a_server_that_stalls_is_given_up(host, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUT_S", 1.0)
    monkeypatch.setattr(fetching, "_ATTEMPTS", 1)
    host.cuts, host.is_stalling = [2_000_000], True
    with pytest.raises(StorageError, match=r"net\.pt: broke off: timed out; the same command"):
        fetch_model(host.model(), tmp_path)
    assert 0 < (tmp_path / ".net.pt.part").stat().st_size <= 2_000_000


# --- checksums


@pytest.mark.parametrize(
    "checksum", [f"md5:{MD5[:6]}", f"sha256:{SHA256}", f"sha256:{SHA256[:8]}", f"md5:{MD5}"]
)
def test_the_publishers_checksum_vouches_for_a_file(host, tmp_path, checksum):
    fetched = fetch_model(host.model(checksum=checksum), tmp_path)
    assert fetched.is_first is False
    assert read_checksums(tmp_path) == {"net.pt": SHA256}


@pytest.mark.parametrize("checksum", ["md5:000000", f"sha256:{MD5}", f"md5:{SHA256[:6]}"])
def test_a_file_with_another_checksum_is_kept_as_bad(host, tmp_path, checksum):
    expected = r"net\.pt is damaged, or another file: its (md5|sha256) begins with \w+, the pub"
    with pytest.raises(StorageError, match=expected) as caught:
        fetch_model(host.model(checksum=checksum), tmp_path)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == {"net.pt.bad"}


def test_without_a_publishers_checksum_the_first_download_counts(host, tmp_path):
    fetch_model(host.model(), tmp_path)
    (tmp_path / "net.pt").unlink()
    host.content = CONTENT[:-1] + b"!"
    expected = r"net\.pt is not the file of the first download: .* kept as .*net\.pt\.bad"
    with pytest.raises(StorageError, match=expected):
        fetch_model(host.model(), tmp_path)
    assert read_checksums(tmp_path) == {"net.pt": SHA256}
    assert not (tmp_path / "net.pt").exists()


def test_a_file_that_was_damaged_since_is_set_aside_and_fetched_anew(host, tmp_path):
    fetch_model(host.model(), tmp_path)
    (tmp_path / "net.pt").write_bytes(b"damaged")
    fetched = fetch_model(host.model(), tmp_path)
    assert fetched.is_new
    assert "is not the file of the first download" in fetched.replaced
    assert (tmp_path / "net.pt").read_bytes() == CONTENT
    assert (tmp_path / "net.pt.bad").read_bytes() == b"damaged"


# --- refusals


@pytest.mark.parametrize(("status", "reason"), [(404, "Not Found"), (403, "Forbidden"), (500, "")])
def test_a_refusal_of_the_server_is_one_line(host, tmp_path, status, reason):
    host.status = status
    with pytest.raises(StorageError, match=rf"/net\.pt: {status} {reason}") as caught:
        fetch_model(host.model(), tmp_path)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == set()


def test_no_server_and_no_network_are_one_line(host, tmp_path):
    closed = ModelFile("net.pt", "sam", "segmenter", "MIT", "http://127.0.0.1:9/net.pt")
    with pytest.raises(
        StorageError,
        match=r":9/net\.pt: no connection: .*refused; or put the file into /.* by hand",
    ):
        fetch_model(closed, tmp_path)
    outside = ModelFile("net.pt", "sam", "segmenter", "MIT", "http://192.0.2.1/net.pt")
    with pytest.raises(StorageError, match=r"192\.0\.2\.1/net\.pt: no connection"):
        fetch_model(outside, tmp_path)
    assert names(tmp_path) == set()


def test_a_full_disk_is_one_line_and_what_came_is_kept(host, tmp_path, monkeypatch):
    write = fetching._write

    def fill_up(file, chunk):
        if file.tell() >= 1_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, chunk)

    monkeypatch.setattr(fetching, "_write", fill_up)
    with pytest.raises(StorageError, match=r"\.net\.pt\.part: No space left on device$"):
        fetch_model(host.model(), tmp_path)
    monkeypatch.setattr(fetching, "_write", write)
    fetch_model(host.model(), tmp_path)
    assert (tmp_path / "net.pt").read_bytes() == CONTENT
    assert host.asked[-1][0] is not None


def test_a_folder_that_cannot_be_made_is_one_line(host, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/models: Not a directory"):
        fetch_model(host.model(), tmp_path / "file" / "models")


def test_a_second_process_does_not_write_to_the_same_part(host, tmp_path):
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match=r"another process is fetching into "):
            fetch_model(host.model(), tmp_path)
    fetch_model(host.model(), tmp_path)


def test_a_gated_file_is_not_asked_for(host, tmp_path):
    with pytest.raises(ConfigError, match=r"net\.pt is behind a licence: accept it at https://x"):
        fetch_model(host.model(gated="https://x"), tmp_path)
    assert host.asked == []


def test_a_gated_file_that_was_recorded_cut_stays_and_it_is_said_how_to_accept_it(host, tmp_path):
    model, path = host.model(gated="https://x"), tmp_path / "net.pt"
    path.write_bytes(CONTENT[:99])
    fetch_model(model, tmp_path)
    path.write_bytes(CONTENT)
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            fetch_model(model, tmp_path)
        assert f"to accept it, write {SHA256} into the line of net.pt in " in str(caught.value)
        assert "; net.pt is behind a licence: accept it at https://x" in str(caught.value)
    assert path.read_bytes() == CONTENT
    assert not (tmp_path / "net.pt.bad").exists()
    recorded = tmp_path / CHECKSUMS_NAME
    recorded.write_text(recorded.read_text().replace(read_checksums(tmp_path)["net.pt"], SHA256))
    assert not fetch_model(model, tmp_path).is_new


def test_what_was_wrong_with_a_file_is_told_with_what_goes_wrong_next(host, tmp_path):
    fetch_model(host.model(), tmp_path)
    (tmp_path / "net.pt").write_bytes(b"damaged")
    host.status = 404
    expected = r"net\.pt is not the file of the first .*; it is kept as .*\.bad; .*: 404 Not Found"
    with pytest.raises(StorageError, match=expected):
        fetch_model(host.model(), tmp_path)


# --- the command


def test_the_command_fetches_a_file_and_what_it_needs(host, tmp_path, monkeypatch):
    needed = ModelFile("text.pt", "yoloe", "text encoder", "MIT", f"{host.url}/text.pt")
    known = (host.model(needs=("text.pt",)), needed)
    monkeypatch.setattr(catalog, "list_models", lambda: known)
    monkeypatch.setenv("ILV_MODELS", str(tmp_path / "models"))
    main = Group("ilv")
    main.add_command(models)
    done = CliRunner().invoke(main, ["models", "fetch", "net.pt"])
    assert done.exit_code == 0, done.stderr
    folder = tmp_path / "models"
    assert done.stdout.split() == [str(folder / "net.pt"), str(folder / "text.pt")]
    assert f"net.pt fetched; sha256 {SHA256}, as first seen, for none is published" in done.stderr
    assert "net.pt: 3 of 3 MB" in done.stderr  # a plain line, for there is no terminal
    again = CliRunner().invoke(main, ["models", "fetch", "net.pt"])
    assert f"net.pt is there; sha256 {SHA256}, as it should be" in again.stderr
    assert len(host.asked) == 2
    assert "working folder" not in done.stderr + again.stderr


def test_the_command_says_where_another_file_goes_before_the_one_fetched(
    host, tmp_path, monkeypatch
):
    program = ModelFile("text.ts", "yoloe", "text encoder", "MIT", f"{host.url}/text.ts")
    monkeypatch.setattr(catalog, "list_models", lambda: (host.model(), program))
    monkeypatch.setenv("ILV_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    for name in ("net.pt", "text.ts"):
        (tmp_path / name).write_bytes(b"another")
    main = Group("ilv")
    main.add_command(models)
    done = CliRunner().invoke(main, ["models", "fetch", "net.pt", "text.ts"])
    assert done.exit_code == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "goes before" in line]
    assert line == (
        f"{tmp_path / 'net.pt'}, in the working folder, goes before it: move that away, or name "
        "the path of the one fetched"
    )
