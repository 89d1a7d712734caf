"""Downloads of weights: resumed where they were cut, checked, and there whole or not at all.

A file grows as `.NAME.part` in the models folder; beside it lies what the server called the version
of the file, so that two versions are never joined. Only `ilv models fetch` uses this module.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ilv_dataset import __version__
from ilv_dataset.errors import ConfigError, StorageError
from ilv_dataset.models.catalog import CHECKSUMS_NAME, ModelFile, read_checksums

TIMEOUT_S = 30.0  # without a byte
_ATTEMPTS = 5  # connections that may break off in one run, each having brought something
_CHUNK_BYTES = 1 << 20
_LOCK_NAME = ".lock"
_PARTIAL, _RANGE_UNUSABLE = 206, 416  # Source: RFC 9110, 15.3.7 and 15.5.17
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_LENGTH_ALONE = re.compile(r"bytes \*/(\d+)")  # Source: RFC 9110, 14.4; beside a 416

# Told how many bytes there are, and how many there will be; None where the server does not say.
Note = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is there and is the right one."""

    path: Path
    sha256: str
    is_new: bool  # fetched by this call
    is_first: bool  # no checksum was known: its own is what later ones are held to
    replaced: str = ""  # what was wrong with the file that lay there before


def fetch_model(
    model: ModelFile, folder: Path, *, note: Note = lambda done, total: None
) -> Fetched:
    """Puts a file of the catalogue into `folder`, unless the right one is there already.

    A file that is there and is another is kept as NAME.bad, and fetched anew; a gated one stays.

    Raises: ConfigError for a gated file, or where another process fetches into the folder;
        StorageError where the server, the network or the disk fails, or the file is another.
    """
    target, fault = folder / model.name, ""
    with _locked(folder):
        if target.is_file():
            digest = _digest(target, "sha256")
            fault = _fault(model, target, digest, folder)
            if not fault:
                is_first = _record(model, digest, folder)
                return Fetched(target, digest, is_new=False, is_first=is_first)
        if model.gated:
            raise ConfigError(
                f"{fault}{fault and '; '}{model.name} is behind a licence: accept it at "
                f"{model.gated}, download the file there and put it into {folder}"
            )
        if not fault:
            return _fetch_anew(model, folder, note)
        try:
            fault += _set_aside(target, target)
            return replace(_fetch_anew(model, folder, note), replaced=fault)
        except StorageError as error:
            raise StorageError(f"{fault}; {error}") from error


def _fetch_anew(model: ModelFile, folder: Path, note: Note) -> Fetched:
    """Downloads a file, checks it, and puts it where none is."""
    target, part = folder / model.name, folder / f".{model.name}.part"
    _download(model, part, note)
    digest = _digest(part, "sha256")
    if fault := _fault(model, part, digest, folder):
        fault += _set_aside(part, target)
        _version_file(part).unlink(missing_ok=True)
        raise StorageError(fault)
    is_first = _record(model, digest, folder)
    with _naming(target):
        part.replace(target)
        _sync_folder(folder)
        # Last: until here a whole part that is found again must be known to be one.
        _version_file(part).unlink(missing_ok=True)
    return Fetched(target, digest, is_new=True, is_first=is_first)


def _download(model: ModelFile, part: Path, note: Note) -> None:
    """Fetches what `part` lacks, over several connections if need be."""
    with _naming(part):
        part.touch()
    try:
        for attempt in range(1, _ATTEMPTS + 1):
            before = part.stat().st_size
            fault = _fetch_rest(model, part, note)
            if fault is None and not part.stat().st_size:
                fault = "the server sent an empty file"
            if fault is None:
                return
            if attempt == _ATTEMPTS or part.stat().st_size <= before:
                raise StorageError(f"{model.url}: {fault}; the same command goes on")
    finally:
        with contextlib.suppress(OSError):
            if part.stat().st_size == 0:
                part.unlink()
                _version_file(part).unlink(missing_ok=True)


def _fetch_rest(model: ModelFile, part: Path, note: Note) -> str | None:
    """Fetches what `part` lacks over one connection; returns how it broke off, None if whole.

    `part` is cut to where the response begins, and its version noted.
    """
    num_bytes, version = part.stat().st_size, _read_version(part)
    headers = {"User-Agent": f"ilv_dataset/{__version__}", "Accept-Encoding": "identity"}
    if num_bytes and version:
        # If-Range: the whole file where it is another one by now.
        headers |= {"Range": f"bytes={num_bytes}-", "If-Range": version}
    response = _request(model, part, headers)
    if response is None:
        note(num_bytes, num_bytes)
        return None
    with contextlib.closing(response):
        begins, total = _extent(response)
        if response.status == _PARTIAL and begins != num_bytes:
            raise StorageError(f"{model.url}: asked for bytes from {num_bytes}, got {begins}")
        with _naming(part):
            os.truncate(part, begins)
            _version_file(part).write_text(json.dumps(_version_of(response)))
        return _append(response, part, begins, total, note)


def _request(
    model: ModelFile, part: Path, headers: dict[str, str]
) -> http.client.HTTPResponse | None:
    """The response; None where the server has nothing behind `part`, which is the whole file."""
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(model.url, headers=headers), timeout=TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _RANGE_UNUSABLE and "Range" in headers:
            length = _LENGTH_ALONE.fullmatch(error.headers.get("Content-Range", ""))
            if length and int(length[1]) == part.stat().st_size:
                return None
            with _naming(part):
                os.truncate(part, 0)
            plain = {name: headers[name] for name in ("User-Agent", "Accept-Encoding")}
            return _request(model, part, plain)
        raise StorageError(f"{model.url}: {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _unreachable(model, part, str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(model, part, _describe(error)) from error
    return response


def _unreachable(model: ModelFile, part: Path, fault: str) -> StorageError:
    place = part.parent
    return StorageError(
        f"{model.url}: no connection: {fault}; or put the file into {place} by hand"
    )


def _extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Where in the file a response begins, and how many bytes the file has."""
    if response.status == _PARTIAL:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        return (int(found[1]), int(found[2])) if found else (-1, None)
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _append(
    response: http.client.HTTPResponse, part: Path, num_bytes: int, total: int | None, note: Note
) -> str | None:
    """Writes a body behind what there is; returns how it broke off, None where it is whole.

    Raises: StorageError, e.g. on a full disk.
    """
    fault = None
    with _naming(part), part.open("ab") as file:
        note(num_bytes, total)
        while True:
            try:
                chunk = response.read(_CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                fault = f"broke off: {_describe(error)}"
                break
            if not chunk:
                break
            _write(file, chunk)
            num_bytes += len(chunk)
            note(num_bytes, total)
        file.flush()
        os.fsync(file.fileno())
    if fault is None and total is not None and num_bytes != total:
        fault = f"broke off after {num_bytes:,} of {total:,} bytes"
    return fault


def _write(file: BinaryIO, chunk: bytes) -> None:
    file.write(chunk)


def _fault(model: ModelFile, path: Path, sha256: str, folder: Path) -> str:
    """What is wrong with a file, by its publisher's checksum and by the one first seen; or ""."""
    if model.checksum:
        algorithm, _, start = model.checksum.partition(":")
        digest = sha256 if algorithm == "sha256" else _digest(path, algorithm)
        if not digest.startswith(start):
            return (
                f"{model.name} is damaged, or another file: its {algorithm} begins with "
                f"{digest[: min(len(start), 12)]}, the publisher's with {start[:12]}"
            )
    recorded = read_checksums(folder).get(model.name, sha256)
    if recorded != sha256:
        return (
            f"{model.name} is not the file of the first download: its sha256 begins with "
            f"{sha256[:12]}, that one's with {recorded[:12]} (to accept it, write {sha256} into "
            f"the line of {model.name} in {folder / CHECKSUMS_NAME})"
        )
    return ""


def _record(model: ModelFile, sha256: str, folder: Path) -> bool:
    """Notes a file's checksum where none is noted; whether nothing has vouched for it."""
    recorded = read_checksums(folder)
    if model.name in recorded:
        return False
    path, temporary = folder / CHECKSUMS_NAME, folder / f".{CHECKSUMS_NAME}.new"
    with _naming(path):
        with temporary.open("w") as file:
            file.write(f"{json.dumps({**recorded, model.name: sha256}, indent=1)}\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    return not model.checksum


def _digest(path: Path, algorithm: str) -> str:
    with _naming(path), path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _set_aside(path: Path, target: Path) -> str:
    """Keeps a wrong file under another name; how that is told."""
    bad = target.with_name(f"{target.name}.bad")
    with _naming(path):
        path.replace(bad)
    return f"; it is kept as {bad}"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the models folder for one process; the lock ends with it, however that ends."""
    with _naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK_NAME).open("a")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another process is fetching into {folder}") from error
        except OSError as error:
            raise StorageError(f"{folder}: this file system has no locks") from error
        yield


def _version_of(response: http.client.HTTPResponse) -> str:
    """What If-Range may name: a strong ETag, else the date; "" where there is neither."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _version_file(part: Path) -> Path:
    return part.with_suffix(".version")


def _read_version(part: Path) -> str:
    try:
        return str(json.loads(_version_file(part).read_text()))
    except (OSError, ValueError):
        return ""


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns an OSError of the block into a StorageError that names `path`."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error


def _describe(error: Exception) -> str:
    return str(error) or type(error).__name__
