"""The frames of a shard as small squares: decoded once, kept beside the data, mapped into memory.

A frame of 256 x 256 takes longer to decode than all else that is done with a step; as a square of
96 x 96 it takes 28 kB of disk, about what the JPEG takes.
"""

from __future__ import annotations

import functools
import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from ilv_dataset.dataset_reader import ConvertedShard, StepColumns
from ilv_dataset.errors import ConfigError, StorageError
from ilv_dataset.formats import atomic, files
from ilv_dataset.formats.frames import decode_square
from ilv_dataset.formats.tables import EpisodeRow

_FORM = 1  # of the kept file


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
    content = f"{_FORM} {shard.format} {shard.checksum} {columns.camera} {columns.is_bgr} {size_px}"
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    name = f"{layout.dataset}-{layout.version}-{shard.key.name}-{digest}.npy"
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
    with atomic.replacing_file(path, out=shard.layout.out) as sink:
        sink.write(head.getvalue())
        for _, table in shard.read_steps([columns.camera], is_light=True):
            for frame in pc.struct_field(table[columns.camera], "bytes"):
                square = decode_square(frame.as_py(), size_px, is_bgr=columns.is_bgr)
                sink.write(square.tobytes())
