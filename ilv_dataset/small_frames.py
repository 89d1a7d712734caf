"""The frames of a shard as small squares: decoded once, kept beside the data, mapped into memory.

A frame of 256 x 256 takes longer to decode than all else that is done with a step; as a square of
96 x 96 it takes 28 kB of disk, about what the JPEG takes.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ilv_dataset.dataset_reader import ConvertedShard, StepColumns
from ilv_dataset.errors import ConfigError, RecordError, StorageError
from ilv_dataset.formats import files
from ilv_dataset.formats.frames import decode_square
from ilv_dataset.formats.tables import EpisodeRow

_FORM = 1  # of the kept file


class EncodedImage(NamedTuple):
    """An image that is not decoded yet."""

    content: bytes  # JPEG or PNG
    is_bgr: bool
    name: str  # what an error calls it

    def decode(self, size_px: int, *, out: np.ndarray | None = None) -> np.ndarray:
        """The square that `decode_square` makes of it.

        Raises: RecordError undecodable-image, with its name.
        """
        try:
            return decode_square(self.content, size_px, is_bgr=self.is_bgr, out=out)
        except RecordError as error:
            raise RecordError(error.reason, f"{self.name}: {error}") from error


def encoded_frames(
    shard: ConvertedShard, columns: StepColumns, row: EpisodeRow, table: pa.Table
) -> list[EncodedImage]:
    """The frames of a span's steps, whose table has the camera's column."""
    contents = pc.struct_field(table[columns.camera], "bytes").to_pylist()
    return [
        EncodedImage(
            content or b"",  # a record may lack an optional one
            columns.is_bgr,
            f"{shard.layout.root}: {columns.camera} of {row.span_id}, step {step}",
        )
        for step, content in enumerate(contents, row.step_start)
    ]


class SmallFrames(NamedTuple):
    """The frames of all written spans of a shard."""

    pixels: np.ndarray  # (N, size_px, size_px, 3) uint8 RGB, read-only, on the disk
    starts: dict[str, int]  # span_id -> its first frame

    def of(self, row: EpisodeRow) -> list[np.ndarray]:
        """The frames of one span, (size_px, size_px, 3) each; nothing is read yet."""
        start = self.starts[row.span_id]
        return list(self.pixels[start : start + row.step_end - row.step_start])


def open_small_frames(shard: ConvertedShard, columns: StepColumns, size_px: int) -> SmallFrames:
    """The frames of one camera, from OUT/.cache/frames; made there first where they are not.

    Raises: ConfigError where OUT is no local folder; StorageError; RecordError for a frame that
        does not decode.
    """
    layout = shard.layout
    if files.is_remote(layout.out):
        raise ConfigError(f"frames are kept beside local data only, and {layout.out} is remote")
    form = f"{shard.format} {columns.camera} {columns.is_bgr} {size_px}"
    content = f"{_FORM} {form} {shard.checksum}"
    digests = (hashlib.sha256(part.encode()).hexdigest() for part in (form, content))
    key = f"{layout.dataset}-{layout.version}-{shard.key.name}"
    name = "-".join((key, *(digest[:16] for digest in digests))) + ".npy"
    return _open(files.join_path(layout.out, ".cache", "frames", name), shard, columns, size_px)


@functools.lru_cache(32)
def _open(path: str, shard: ConvertedShard, columns: StepColumns, size_px: int) -> SmallFrames:
    starts, num_frames = {}, 0
    for row in shard.written_spans(is_light=True):
        starts[row.span_id] = num_frames
        num_frames += row.step_end - row.step_start
    if not files.exists(path):
        _write(path, shard, columns, num_frames, size_px)
    try:
        pixels = np.load(Path(path), mmap_mode="r")
    except (EOFError, ValueError) as error:
        raise StorageError(f"{path}: not frames, delete it: {error}") from error
    if pixels.shape != (num_frames, size_px, size_px, 3):
        raise StorageError(f"{path}: not the frames of {shard.path}: delete it")
    return SmallFrames(np.asarray(pixels), starts)


def _write(
    path: str, shard: ConvertedShard, columns: StepColumns, num_frames: int, size_px: int
) -> None:
    head = io.BytesIO()
    shape = (num_frames, size_px, size_px, 3)
    form = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, form)
    # Beside the file: OUT/.tmp is cleared by whoever holds OUT's lock, which this one does not.
    target, part = Path(path), Path(f"{path}.part")
    with files.naming_path(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _held_alone(part) as sink:
            if target.exists():  # another process made it in the meantime
                return
            sink.truncate(0)
            sink.write(head.getvalue())
            for row, table in shard.read_steps([columns.camera], is_light=True):
                for frame in encoded_frames(shard, columns, row, table):
                    sink.write(frame.decode(size_px).tobytes())
            sink.flush()
            os.fsync(sink.fileno())
            part.replace(target)
        _delete_older(target)


@contextlib.contextmanager
def _held_alone(part: Path) -> Iterator[BinaryIO]:
    """Opens a file that one process at a time has; it holds what a killed one left in it.

    Another one waits, and opens it anew: by then the one that it waited for is renamed or deleted.
    """
    while True:
        with part.open("ab") as sink:
            fcntl.flock(sink, fcntl.LOCK_EX)
            if not _is_named(sink, part):
                continue
            try:
                yield sink
            finally:
                part.unlink(missing_ok=True)
            return


def _is_named(sink: BinaryIO, path: Path) -> bool:
    """Whether an open file still has this name."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(sink.fileno()), path.stat())
    return False


def _delete_older(target: Path) -> None:
    """Deletes what was kept of the same shard in the same form, of steps that are no more."""
    form = target.name.rpartition("-")[0]
    for path in target.parent.iterdir():
        if path.name.startswith(f"{form}-") and path != target:
            path.unlink(missing_ok=True)
