"""Reads the records of one source shard again, at the places that its index has them."""

from __future__ import annotations

from typing import BinaryIO

from ilv_dataset.episodes import IndexedSpan
from ilv_dataset.errors import StorageError
from ilv_dataset.formats import files
from ilv_dataset.formats.tfrecord import read_record_at


class SourceRecords:
    """One record in memory at a time; the file is opened when the first is asked for.

    A shard that is missing, or of which nothing is wanted, is never opened.
    """

    def __init__(self, path: str, *, marker: str) -> None:
        """`marker` is the path of the commit of the scan, for the advice in an error."""
        self._path = path
        self._marker = marker
        self._file: BinaryIO | None = None
        self._offset = -1
        self._record = b"", 0

    def __enter__(self) -> SourceRecords:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def read(self, indexed: IndexedSpan) -> tuple[bytes, int]:
        """The payload of the span's record and its CRC32C; spans of one record share it.

        Raises: StorageError where the source has changed since it was scanned.
        """
        if indexed.offset == self._offset:
            return self._record
        self._record = b"", 0  # before the next is read: one in memory, not two
        if self._file is None:
            self._file = files.open_read(self._path)
        with files.naming_path(self._path):
            try:
                self._record = read_record_at(
                    self._file, offset=indexed.offset, length=indexed.length
                )
            except ValueError as error:
                raise StorageError(
                    f"{self._path} has changed since it was scanned: {error}; "
                    f"delete {self._marker} and run again"
                ) from error
        self._offset = indexed.offset
        return self._record
