"""A bucket in memory behind mem://, for the code that serves gs://.

Like Google Cloud Storage it has objects and no folders: an object appears when its writer is
closed, `exists` knows objects alone, and deleting "a/" deletes all that begins with it.
"""

from __future__ import annotations

import io
from typing import Any, ClassVar

from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem

SCHEME = "mem"


class MemoryFileSystem(FileSystem):
    """Beam finds it by its scheme, for it is a subclass."""

    objects: ClassVar[dict[str, bytes]] = {}
    changes: ClassVar[dict[str, int]] = {}  # path -> how often it was written
    unreadable: ClassVar[set[str]] = set()  # paths that fail to open

    @classmethod
    def scheme(cls) -> str:
        return SCHEME

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        raise AssertionError("a bucket has no folders")

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> list[FileMetadata]:
        found = sorted(path for path in self.objects if path.startswith(dir_or_prefix))
        return [self.metadata(path) for path in found]

    def create(self, path: str, mime_type: str = "", compression_type: str = "auto") -> Any:
        return Writer(path)

    def open(self, path: str, mime_type: str = "", compression_type: str = "auto") -> Any:
        if path not in self.objects or path in self.unreadable:
            raise BeamIOError("Get operation failed", {path: OSError("unavailable")})
        return io.BytesIO(self.objects[path])

    def copy(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        raise AssertionError("not needed")

    rename = copy

    def exists(self, path: str) -> bool:
        return path in self.objects

    def size(self, path: str) -> int:
        return len(self.objects[path])

    def last_updated(self, path: str) -> float:
        return float(self.changes.get(path, 0))

    def checksum(self, path: str) -> str:
        raise AssertionError("not needed")

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, self.size(path), self.last_updated(path))

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            for found in list(self.objects):
                if found == path or (path.endswith("/") and found.startswith(path)):
                    del self.objects[found]


class Writer(io.BytesIO):
    """Puts its content into the bucket when it is closed."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            MemoryFileSystem.objects[self._path] = self.getvalue()
            MemoryFileSystem.changes[self._path] = MemoryFileSystem.changes.get(self._path, 0) + 1
        super().close()


def upload(folder: Any, prefix: str) -> None:
    """Puts every file below a local folder into the bucket."""
    for path in folder.rglob("*"):
        if path.is_file():
            name = f"{prefix.rstrip('/')}/{path.relative_to(folder)}"
            MemoryFileSystem.objects[name] = path.read_bytes()
