"""What every test gets: a home of its own, no keys, no network; the shared data if it is there."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PRIVATE = ("GOOGLE_APPLICATION_CREDENTIALS", "HF_TOKEN", "ILV_", "OPENAI_")  # starts of names
LOOPBACK = ("127.", "::1", "localhost")

home = pytest.StashKey[Path]()
_connect = socket.socket.connect


def connect_to_loopback(self: socket.socket, address: Any) -> None:
    """Stands in for socket.connect: a test that reaches outside fails at once, not by a timeout."""
    is_local = self.family == socket.AF_UNIX or str(address[0]).startswith(LOOPBACK)
    if not is_local:
        raise OSError(f"tests use no network beyond loopback, got {address}")
    _connect(self, address)


def pytest_configure(config: pytest.Config) -> None:
    """Moves the caches and settings of libraries away before any is imported."""
    config.stash[home] = Path(tempfile.mkdtemp(prefix="ilv-test-home-"))
    for name in ("HOME", "MPLCONFIGDIR", "YOLO_CONFIG_DIR", "HF_HOME"):
        folder = config.stash[home] / name.lower()
        folder.mkdir()
        os.environ[name] = str(folder)
    os.environ["HF_HUB_OFFLINE"] = "1"
    socket.socket.connect = connect_to_loopback  # type: ignore[method-assign]


def pytest_unconfigure(config: pytest.Config) -> None:
    socket.socket.connect = _connect  # type: ignore[method-assign]
    shutil.rmtree(config.stash[home], ignore_errors=True)


@pytest.fixture(autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, no setting and no cache of the person who runs the tests, or of another test."""
    folder = tmp_path_factory.mktemp("xdg")
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(folder / name.lower()))
    for name in [name for name in os.environ if name.startswith(PRIVATE)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder of pyproject.toml."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real shards, gold phrases and weights, too large to commit; a test that needs them skips."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs shared/data beside the repository")
    return folder


@pytest.fixture
def bucket() -> Iterator[dict[str, bytes]]:
    """An empty bucket behind mem://, see object_store.py."""
    from object_store import MemoryFileSystem

    for content in (MemoryFileSystem.objects, MemoryFileSystem.changes):
        content.clear()
    MemoryFileSystem.unreadable.clear()
    yield MemoryFileSystem.objects
    MemoryFileSystem.objects.clear()
