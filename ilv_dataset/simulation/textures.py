"""Table tops as images: wood, planks, checks, marble, speckle and plain, each from a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np

TEXTURE_PX = 640  # over a table of 1.6 m: 2.5 mm a pixel, as fine as the camera sees

# Colours of the two tones of a table, RGB 0..1; dull, so that no object melts into its table.
WOODS = (
    ((0.72, 0.56, 0.40), (0.60, 0.44, 0.29)),
    ((0.80, 0.70, 0.56), (0.71, 0.60, 0.46)),
    ((0.52, 0.38, 0.27), (0.42, 0.29, 0.20)),
    ((0.66, 0.60, 0.53), (0.56, 0.50, 0.44)),
)
CLOTHS = (
    ((0.86, 0.84, 0.80), (0.62, 0.66, 0.72)),
    ((0.86, 0.84, 0.80), (0.74, 0.66, 0.58)),
    ((0.80, 0.82, 0.80), (0.62, 0.70, 0.64)),
)
STONES = (
    ((0.80, 0.79, 0.77), (0.66, 0.65, 0.65)),
    ((0.58, 0.58, 0.59), (0.48, 0.48, 0.50)),
    ((0.72, 0.68, 0.62), (0.62, 0.57, 0.51)),
)

Tones = tuple[tuple[float, float, float], tuple[float, float, float]]


def paint_table(kind: str, seed: int) -> np.ndarray:
    """The texture of one table, (TEXTURE_PX, TEXTURE_PX, 3) float32 RGB 0..1.

    Raises: KeyError if `kind` is not one of `TABLE_KINDS`.
    """
    tones_of, mix_of = _PAINTERS[kind]
    rng = np.random.default_rng(seed)
    tones = tones_of[int(rng.integers(len(tones_of)))]
    mix = np.clip(mix_of(rng), 0.0, 1.0)[..., None]
    first, second = (np.asarray(tone, np.float32) for tone in tones)
    return np.asarray(first * (1 - mix) + second * mix, np.float32)


def paint_tile(kind: str, seed: int) -> np.ndarray:
    """The same as uint8, (TEXTURE_PX, TEXTURE_PX, 3) RGB: a quarter of the memory."""
    return np.round(paint_table(kind, seed) * 255).astype(np.uint8)


def _noise(rng: np.random.Generator, cells_xy: tuple[int, int]) -> np.ndarray:
    """Smooth noise 0..1 with that many cells across and down, (TEXTURE_PX, TEXTURE_PX)."""
    coarse = rng.random((cells_xy[1], cells_xy[0]), np.float32)
    return cv2.resize(coarse, (TEXTURE_PX, TEXTURE_PX), interpolation=cv2.INTER_CUBIC)


def _wood(rng: np.random.Generator) -> np.ndarray:
    bend = _noise(rng, (3, 7))
    grain = _noise(rng, (5, 160)) * 0.55 + _noise(rng, (3, 45)) * 0.45
    rings = 0.5 + 0.5 * np.sin(40.0 * bend, dtype=np.float32)
    return 0.75 * grain + 0.35 * rings - 0.05


def _planks(rng: np.random.Generator) -> np.ndarray:
    width = int(rng.integers(64, 110))
    rows = np.arange(TEXTURE_PX) // width
    tone = rng.random(int(rows[-1]) + 1, np.float32)[rows][:, None]
    seam = (np.arange(TEXTURE_PX) % width < 2)[:, None]
    return 0.5 * tone + 0.5 * _wood(rng) + 0.6 * seam


def _checks(rng: np.random.Generator) -> np.ndarray:
    cell = int(rng.integers(22, 44))
    stripe = (np.arange(TEXTURE_PX) // cell % 2).astype(np.float32)
    weave = 0.12 * rng.random((TEXTURE_PX, TEXTURE_PX), np.float32)
    return 0.5 * (stripe[:, None] + stripe[None]) + weave


def _marble(rng: np.random.Generator) -> np.ndarray:
    cloud = sum(_noise(rng, (n, n)) / k for k, n in ((1, 5), (2, 11), (4, 23), (8, 47)))
    vein = 1.0 - np.abs(np.sin(5.0 * cloud))
    return np.asarray(0.35 * cloud + 0.9 * vein**6, np.float32)


def _speckle(rng: np.random.Generator) -> np.ndarray:
    dots = cv2.GaussianBlur(rng.random((TEXTURE_PX, TEXTURE_PX), np.float32), (0, 0), 1.2)
    return np.asarray((dots > 0.58) * 0.8 + 0.3 * _noise(rng, (9, 9)), np.float32)


def _plain(rng: np.random.Generator) -> np.ndarray:
    return 0.6 * _noise(rng, (4, 4)) + 0.1 * _noise(rng, (200, 200))


_Painter = tuple[tuple[Tones, ...], Callable[[np.random.Generator], np.ndarray]]
_PAINTERS: Mapping[str, _Painter] = {
    "wood": (WOODS, _wood),
    "planks": (WOODS, _planks),
    "checks": (CLOTHS, _checks),
    "marble": (STONES, _marble),
    "speckle": (STONES, _speckle),
    "plain": (WOODS + STONES, _plain),
}
TABLE_KINDS = tuple(_PAINTERS)
