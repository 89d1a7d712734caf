"""What the segmenter is trained on: windows of simulated stills, spoilt, with a prompt and a mask.

A prompt is a box that is a little wrong, or a point on the thing.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ilv_dataset.models.sam import cut_window, fit_image, mirror, scale_prompts
from ilv_dataset.models.sam_network import Zoom
from ilv_dataset.training.scenes import TrainingScene

# What the trained network is run with; in training the windows are drawn around these.
ZOOM = Zoom(box_share=1.4, point_share=0.55)
BOX_SHARES, POINT_SHARES = (1.35, 1.9), (0.22, 0.8)
POINT_PROMPT_SHARE = 0.15  # of the samples
# Each edge of a box moves by up to a share of the box's side: mostly as a good detector errs,
# sometimes as the box of a coarse mask does.
JITTERS, JITTER_WEIGHTS = (0.0, 0.06, 0.12, 0.25), (0.15, 0.55, 0.22, 0.08)
_PATTERN_SHARE = 0.1  # of the samples have a pattern on the thing; half as many, around it


@dataclass(frozen=True, eq=False)
class Sample:
    """One window as the network is shown it, and what it should find there."""

    pixels: np.ndarray  # (3, h, w) uint8 RGB, the longer side is the network's
    prompt: np.ndarray  # (4,) box or (2,) point, float32 pixels of the network's input
    mask: np.ndarray  # (side, side) float32, 0..1: the thing's share of each pixel


def jitter_box(
    box_xyxy: np.ndarray, share: float, rng: np.random.Generator, *, size_wh: tuple[int, int]
) -> np.ndarray:
    """Moves each edge of a box (4,) by up to `share` of its side, inside the frame, float64."""
    box = np.asarray(box_xyxy, np.float64)
    sides = np.tile(box[2:] - box[:2], 2)
    moved = box + rng.uniform(-share, share, 4) * sides
    return np.asarray(np.clip(moved, 0, [*size_wh, *size_wh]))


def draw_point(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A point (x, y) on a mask (H, W): half of them anywhere, half far from its edge."""
    rows, columns = np.nonzero(mask)
    weights = np.ones(len(rows))
    if rng.random() < 0.5:
        weights = edge_distances(mask)[rows, columns] ** 2
    picked = rng.choice(len(rows), p=weights / weights.sum())
    return np.array([columns[picked], rows[picked]]) + rng.uniform(0, 1, 2)


def inner_point(mask: np.ndarray) -> np.ndarray:
    """The middle (x, y) of the pixel of a mask (H, W) that is farthest from its edge."""
    row, column = np.unravel_index(edge_distances(mask).argmax(), mask.shape)
    return np.array([column + 0.5, row + 0.5])


def edge_distances(mask: np.ndarray) -> np.ndarray:
    """How far each pixel of a mask (H, W) is from what is not of it, pixels; 0 outside."""
    padded = np.pad(mask, 1).astype(np.uint8)
    distances = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distances[1:-1, 1:-1].astype(np.float64)


def draw_sample(scene: TrainingScene, thing: int, rng: np.random.Generator, *, side: int) -> Sample:
    """A window around a thing of a still, for a network of `side` pixels."""
    mask = scene.labels == thing + 1
    size_wh = (mask.shape[1], mask.shape[0])
    if rng.random() < POINT_PROMPT_SHARE:
        prompt = draw_point(mask, rng)
    else:
        share = float(rng.choice(JITTERS, p=JITTER_WEIGHTS))
        prompt = jitter_box(scene.boxes_xyxy[thing], share, rng, size_wh=size_wh)
    zoom = Zoom(float(rng.uniform(*BOX_SHARES)), float(rng.uniform(*POINT_SHARES)))
    x0, y0, x1, y1 = cut_window(prompt, size_wh=size_wh, zoom=zoom)
    window, inside = scene.rgb[y0:y1, x0:x1], mask[y0:y1, x0:x1]
    prompt = prompt - np.resize([x0, y0], len(prompt))
    if rng.random() < 0.5:
        window, inside, prompt = window[:, ::-1], inside[:, ::-1], mirror(prompt, width=x1 - x0)
    pixels = fit_image(np.ascontiguousarray(window), side).transpose(1, 2, 0)
    soft = cv2.resize(
        inside.astype(np.float32),
        (pixels.shape[1], pixels.shape[0]),
        interpolation=cv2.INTER_AREA if max(inside.shape) > side else cv2.INTER_LINEAR,
    )
    spoilt = spoil(paint(pixels.astype(np.float32), soft, rng), rng)
    square = np.zeros((side, side), np.float32)
    square[: soft.shape[0], : soft.shape[1]] = soft
    scaled = scale_prompts(prompt, inside.shape, side)
    return Sample(np.ascontiguousarray(spoilt.transpose(2, 0, 1)), scaled, square)


def paint(pixels: np.ndarray, thing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Puts a pattern on the thing, around it or nowhere: the simulation's things are plain.

    Args:
        pixels: (h, w, 3) float32, 0..255.
        thing: (h, w) float32, 0..1.
    """
    style = rng.random()
    if style > 1.5 * _PATTERN_SHARE:
        return pixels
    place = thing if style < _PATTERN_SHARE else 1 - thing
    across, down = (int(cells) for cells in rng.integers(2, 14, 2))
    coarse = rng.uniform(0, 255, (down, across, 3)).astype(np.float32)
    kind = cv2.INTER_NEAREST if rng.random() < 0.4 else cv2.INTER_CUBIC
    pattern = cv2.resize(coarse, (pixels.shape[1], pixels.shape[0]), interpolation=kind)
    if rng.random() < 0.5:  # of brightness alone
        pattern = np.repeat(pattern.mean(axis=2, keepdims=True), 3, axis=2)
    weight = place[..., None] * float(rng.uniform(0.1, 0.6))
    return np.asarray(pixels * (1 - weight) + pattern * weight)


def spoil(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Changes the colours and the sharpness of (h, w, 3) float32 0..255; uint8.

    Little, for the stills themselves are spoilt as photographs are.
    """
    height, width = pixels.shape[:2]
    gain = rng.uniform(0.6, 1.4) * rng.uniform(0.85, 1.15, 3)
    pixels = pixels * gain.astype(np.float32) + np.float32(rng.uniform(-25, 25))
    pixels = 255 * (np.clip(pixels, 0, 255) / 255) ** np.float32(rng.uniform(0.7, 1.4))
    if rng.random() < 0.05:
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    if rng.random() < 0.06:  # a thing that is small in its frame
        share = rng.uniform(0.3, 0.8)
        small_wh = (max(1, round(width * share)), max(1, round(height * share)))
        small = cv2.resize(pixels, small_wh, interpolation=cv2.INTER_AREA)
        pixels = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.12:
        pixels = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.3, 1.6)))
    if rng.random() < 0.25:
        pixels = pixels + rng.normal(0, rng.uniform(0, 12), pixels.shape).astype(np.float32)
    clipped = np.clip(pixels, 0, 255).astype(np.uint8)
    if rng.random() < 0.12:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
        clipped = cv2.imdecode(cv2.imencode(".jpg", clipped, quality)[1], cv2.IMREAD_COLOR)
    return clipped
