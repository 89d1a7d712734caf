"""Frames and pictures as small squares: decoded at about the size that is wanted, then resized.

A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that is still large enough: most of the work
is never done. Sizes above that shrink the same way, so what is rendered and what is stored agree.
"""

from __future__ import annotations

import cv2
import numpy as np

from ilv_dataset.errors import RecordError
from ilv_dataset.image_files import JPEG_START

_NO_ROTATION = cv2.IMREAD_IGNORE_ORIENTATION  # as TFDS decodes
# Scale -> what OpenCV calls it; channels come in RGB order.
_READ_AT = {
    1: cv2.IMREAD_COLOR_RGB | _NO_ROTATION,
    2: (cv2.IMREAD_REDUCED_COLOR_2 & ~1) | cv2.IMREAD_COLOR_RGB | _NO_ROTATION,
    4: (cv2.IMREAD_REDUCED_COLOR_4 & ~1) | cv2.IMREAD_COLOR_RGB | _NO_ROTATION,
    8: (cv2.IMREAD_REDUCED_COLOR_8 & ~1) | cv2.IMREAD_COLOR_RGB | _NO_ROTATION,
}
# Start-of-frame markers: all of FFC0 to FFCF but DHT, JPG and DAC. Source: ITU T.81, table B.1.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def decode_square(
    data: bytes, size_px: int, *, is_bgr: bool = False, out: np.ndarray | None = None
) -> np.ndarray:
    """A JPEG or PNG as (size_px, size_px, 3) uint8 RGB; the whole picture, also if not square.

    Args:
        is_bgr: whether the dataset stored the channels in that order.
        out: where it is put, contiguous; None makes a new array.

    Raises: RecordError undecodable-image.
    """
    scale = 1
    if data.startswith(JPEG_START):
        scale = _reduction(min(jpeg_size(data)), size_px)
    # OpenCV takes cut files for whole ones; the conversion has looked for their ends.
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _READ_AT[scale]) if data else None
    if pixels is None:
        message = f"image of {len(data)} bytes does not decode"
        raise RecordError("undecodable-image", message)
    fitted = fit_square(pixels, size_px, out=out)
    return cv2.cvtColor(fitted, cv2.COLOR_RGB2BGR, dst=fitted) if is_bgr else fitted


def fit_square(pixels: np.ndarray, size_px: int, *, out: np.ndarray | None = None) -> np.ndarray:
    """(H, W, 3) uint8 as (size_px, size_px, 3): averaged over whole blocks, then bilinear."""
    height, width = pixels.shape[:2]
    scale = _reduction(min(height, width), size_px)
    if scale > 1:
        size_wh = (-(-width // scale), -(-height // scale))
        pixels = cv2.resize(pixels, size_wh, interpolation=cv2.INTER_AREA)
    return cv2.resize(pixels, (size_px, size_px), dst=out, interpolation=cv2.INTER_LINEAR)


def jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels that a JPEG's header states; (0, 0) where it states none."""
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _FRAME_MARKERS:
            height = int.from_bytes(data[position + 5 : position + 7])
            return int.from_bytes(data[position + 7 : position + 9]), height
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    return 0, 0


def _reduction(shorter_px: int, size_px: int) -> int:
    """The largest of 1, 2, 4, 8 by which a side shrinks and still is at least `size_px`."""
    return next((scale for scale in (8, 4, 2) if shorter_px // scale >= size_px), 1)
