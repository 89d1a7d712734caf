"""Frames of the trajectories: whether they decode, and whether what was found in them fits."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ilv_dataset.batches import batched
from ilv_dataset.crops import decode_image
from ilv_dataset.errors import RecordError
from ilv_dataset.formats.tables import EpisodeRow, GroundedObject
from ilv_dataset.masks import decode_rle
from ilv_dataset.validation.faults import Report

BATCH_FRAMES = 64  # held decoded, some 20 MB of 256 x 256


@dataclass(frozen=True)
class FrameCheck:
    """One encoded frame, and what was found in it."""

    place: str  # for the fault's line
    encoded: bytes
    objects: tuple[GroundedObject, ...] = ()
    shape: tuple[int | None, ...] = ()  # (H, W, channels) where features.json says so


def probed_objects(row: EpisodeRow) -> dict[tuple[str, int], list[GroundedObject]]:
    """(camera, frame index) -> the objects that were found there."""
    found: dict[tuple[str, int], list[GroundedObject]] = {}
    for thing in row.objects:
        if thing.camera is not None and thing.frame_index is not None:
            found.setdefault((thing.camera, thing.frame_index), []).append(thing)
    return found


def check_frames(path: str, frames: Iterable[FrameCheck], report: Report) -> None:
    """Decodes frames in threads; a frame that does not decode is a fault of `path`."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in batched(frames, BATCH_FRAMES):
            for frame, messages in zip(batch, pool.map(_frame_faults, batch), strict=True):
                report.checked["frames"] += 1
                for message in messages:
                    report.fault(path, message, place=frame.place)


def object_faults(found: GroundedObject, *, size_hw: Sequence[int]) -> Iterator[str]:
    """Where an object's box or mask does not fit the frame in which it was found."""
    height, width = size_hw
    box = found.box_xyxy
    if box is not None and not (0 <= box[0] <= box[2] <= width and 0 <= box[1] <= box[3] <= height):
        yield f"the box {box} of {found.phrase!r} is not inside {width} x {height}"
    if found.mask_rle is None:
        return
    try:
        mask = decode_rle(found.mask_rle)
    except ValueError as error:
        yield f"the mask of {found.phrase!r}: {error}"
        return
    if mask.shape != (height, width):
        size = f"{mask.shape[1]} x {mask.shape[0]}"
        yield f"the mask of {found.phrase!r} is of {size}, the frame {width} x {height}"
    elif not mask.any():
        yield f"the mask of {found.phrase!r} is empty"


def _frame_faults(frame: FrameCheck) -> list[str]:
    try:
        image: np.ndarray = decode_image(frame.encoded)
    except RecordError as error:
        return [str(error)]
    size = image.shape[:2]
    faults = [f for found in frame.objects for f in object_faults(found, size_hw=size)]
    expected = frame.shape[:2]
    if any(side not in (None, found) for side, found in zip(expected, size, strict=False)):
        faults.append(f"is {size[1]} x {size[0]}, features.json says {expected[1]} x {expected[0]}")
    return faults
