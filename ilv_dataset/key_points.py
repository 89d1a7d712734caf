"""Key points: the frame as a model is shown it, and its answer in pixels of the frame."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

LONG_SIDE_PX = 1120  # Source: Interleave-VLA's scripts (FACTS.md, section 1)


def fit_frame(image: np.ndarray) -> np.ndarray:
    """Resizes (H, W, 3) uint8 RGB to a long side of 1120 pixels, proportions kept."""
    height, width = image.shape[:2]
    scale = LONG_SIDE_PX / max(height, width)
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size_wh, Image.Resampling.BICUBIC))


def point_to_frame(
    point_xy: tuple[float, float], *, sent_wh: tuple[int, int], frame_wh: tuple[int, int]
) -> tuple[float, float] | None:
    """Takes a point from pixels of the picture that was sent to those of the frame, to 0.1 px.

    None for a point that is not finite or lies outside.

    >>> point_to_frame((560, 420), sent_wh=(1120, 840), frame_wh=(640, 480))
    (320.0, 240.0)
    """
    x, y = (
        coordinate * frame / sent
        for coordinate, frame, sent in zip(point_xy, frame_wh, sent_wh, strict=True)
    )
    return (round(x, 1), round(y, 1)) if is_inside((x, y), size_wh=frame_wh) else None


def is_inside(point_xy: tuple[float, float], *, size_wh: tuple[int, int]) -> bool:
    """Whether a point is one of a picture's."""
    return all(
        math.isfinite(coordinate) and 0 <= coordinate < side
        for coordinate, side in zip(point_xy, size_wh, strict=True)
    )


def spread(count: int, *, num: int) -> list[int]:
    """At most `num` positions of 0..count - 1, the first and the last and evenly between them.

    >>> spread(10, num=3)
    [0, 4, 9]
    """
    if count <= num:
        return list(range(count))
    return [position * (count - 1) // (num - 1) for position in range(num)]
