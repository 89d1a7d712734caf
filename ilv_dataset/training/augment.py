"""Changes a still in ways that leave its names true: moved, scaled, flipped, lit otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ilv_dataset.boxes import box_areas_px, clip_boxes
from ilv_dataset.training.scenes import TrainingScene

# A thing is asked for if so much of it is seen. Source: FACTS.md, section 6: under 18 px right
# in 70 % of cases only; smaller ones teach little and are called neither there nor not.
SIDE_MIN_PX = 8.0
VISIBLE_MIN_PX = 60
_KEPT_SHARE_MIN = 0.5  # of the box, after it is cut by the new border
_ZOOM = (0.75, 1.6)
_STILL_SHARE = 0.3  # of the pictures are not zoomed
_GREY = 114  # Source: models/runtime.py, the letterbox


@dataclass(frozen=True, eq=False)
class Sample:
    """A changed still: its N things that are seen well, and the names of the others."""

    rgb: np.ndarray  # (S, S, 3) uint8
    boxes_xyxy: np.ndarray  # (N, 4) float32 pixels of `rgb`
    nouns: tuple[str, ...]
    colours: tuple[str, ...]
    hidden: tuple[tuple[str, str], ...]  # (colour, noun) of what is hardly seen
    is_recoloured: bool = False  # the colours are no longer those of the picture


def augment_scene(
    scene: TrainingScene, rng: np.random.Generator, *, size_px: int, recolour_share: float = 0.0
) -> Sample:
    """Draws a flip, a zoom about a random point, and another brightness and contrast.

    Args:
        recolour_share: of the pictures get other hues.
    """
    height, width = scene.rgb.shape[:2]
    zoom = 1.0 if rng.random() < _STILL_SHARE else float(np.exp(rng.uniform(*np.log(_ZOOM))))
    scale = zoom * size_px / max(height, width)
    shift = [
        float(rng.uniform(min(0.0, room), max(0.0, room)))
        for room in (size_px - width * scale, size_px - height * scale)
    ]
    is_flipped = bool(rng.random() < 0.5)
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    if is_flipped:
        matrix[0] = [-scale, 0, size_px - shift[0]]
    rgb = warp(scene.rgb, matrix, size_px)
    moved = move_boxes(scene.boxes_xyxy, matrix)
    boxes = clip_boxes(moved, size_wh=(size_px, size_px))
    sample = _select(scene, change_light(rgb, rng), boxes, moved, scale)
    if rng.random() < recolour_share:
        return replace(sample, rgb=change_hues(sample.rgb, rng), is_recoloured=True)
    return sample


def warp(rgb: np.ndarray, matrix: np.ndarray, size_px: int) -> np.ndarray:
    """Draws a picture through a (2, 3) matrix of pixel edges into a square, grey around it."""
    # OpenCV's coordinates are of pixel centres, half a pixel from the edges.
    centred = matrix.astype(np.float64)
    centred[:, 2] += 0.5 * centred[:, :2].sum(axis=1) - 0.5
    warped: np.ndarray = cv2.warpAffine(
        rgb, centred, (size_px, size_px), flags=cv2.INTER_LINEAR, borderValue=(_GREY,) * 3
    )
    return warped


def move_boxes(boxes_xyxy: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Takes boxes (N, 4) through a (2, 3) matrix without rotation.

    >>> move_boxes(np.array([[1.0, 2, 3, 4]]), np.array([[-1.0, 0, 10], [0, 2, 0]])).tolist()
    [[7.0, 4.0, 9.0, 8.0]]
    """
    corners = boxes_xyxy.reshape(-1, 2, 2) * np.diag(matrix[:, :2]) + matrix[:, 2]
    moved = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    return np.asarray(moved, np.float32)


def change_light(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another brightness and contrast, the same for all channels: colours keep their names."""
    gain, offset = rng.uniform(0.8, 1.2), rng.uniform(-15, 15)
    table = np.clip(np.arange(256) * gain + offset, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(rgb, table))


def change_hues(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turns all hues by one angle, and makes all colours paler or stronger: nouns stay true."""
    turn, gain = int(rng.integers(180)), rng.uniform(0.0, 1.5)  # OpenCV's hues go to 180
    hues = np.arange(256)
    table = np.stack([(hues + turn) % 180, np.clip(hues * gain, 0, 255), hues], axis=1)
    turned = cv2.LUT(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV), table.astype(np.uint8)[None])
    return np.asarray(cv2.cvtColor(turned, cv2.COLOR_HSV2RGB))


def _select(
    scene: TrainingScene, rgb: np.ndarray, boxes: np.ndarray, moved: np.ndarray, scale: float
) -> Sample:
    kept_shares = box_areas_px(boxes) / np.maximum(box_areas_px(moved), 1e-6)
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
    visible = scene.visible_px * kept_shares * scale**2
    is_clear = (kept_shares >= _KEPT_SHARE_MIN) & (sides >= SIDE_MIN_PX)
    is_clear &= visible >= VISIBLE_MIN_PX
    rows = np.flatnonzero(is_clear)
    others = np.flatnonzero(~is_clear & (kept_shares > 0) & (scene.visible_px > 0))
    return Sample(
        rgb=rgb,
        boxes_xyxy=boxes[rows],
        nouns=tuple(scene.nouns[row] for row in rows),
        colours=tuple(scene.colours[row] for row in rows),
        hidden=tuple((scene.colours[row], scene.nouns[row]) for row in others),
    )
