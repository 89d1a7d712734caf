"""Reads the records of one source shard again, at the places that its index has them."""

from __future__ import annotations

from typing import BinaryIO

from ilv_dataset.episodes import IndexedSpan
from ilv_dataset.errors import StorageError
from ilv_dataset.formats import files
from ilv_dataset.formats.markers import peek_marker
from ilv_dataset.formats.tfrecord import read_record_at
from ilv_dataset.jobs import Job
from ilv_dataset.selection import ShardPlan


def open_source(shard: ShardPlan, *, job: Job) -> BinaryIO:
    """Opens the source of a scanned shard, where it has the size that the scan saw.

    Raises: StorageError.
    """
    path = job.source_path(shard)
    scanned = peek_marker(job.layout, "parse", shard.key)
    expected = scanned.inputs.get("source") if scanned else None
    size = files.file_size(path)
    if size is not None and expected not in (None, str(size)):
        raise _changed(shard, f"expected {expected} bytes, got {size}", job=job)
    return files.open_read(path)


def _changed(shard: ShardPlan, what: str, *, job: Job) -> StorageError:
    path, marker = job.source_path(shard), job.layout.marker("parse", shard.key)
    return StorageError(
        f"{path} has changed since it was scanned: {what}; delete {marker} and run again"
    )


class SourceRecords:
    """One record in memory at a time; the file is opened when the first is asked for.

    A shard that is missing, or of which nothing is wanted, is never opened.
    """

    def __init__(self, shard: ShardPlan, *, job: Job) -> None:
        self._shard = shard
        self._job = job
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
            self._file = open_source(self._shard, job=self._job)
        with files.naming_path(self._job.source_path(self._shard)):
            try:
                self._record = read_record_at(
                    self._file, offset=indexed.offset, length=indexed.length
                )
            except ValueError as error:
                raise _changed(self._shard, str(error), job=self._job) from error
        self._offset = indexed.offset
        return self._record
