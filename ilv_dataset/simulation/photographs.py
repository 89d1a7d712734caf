"""The look of a still, drawn far wider than an episode's, and what a camera does to a picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from ilv_dataset.simulation.nouns import Rgb
from ilv_dataset.simulation.scenes import Camera, Light
from ilv_dataset.simulation.stage import Setting
from ilv_dataset.simulation.textures import TABLE_KINDS, paint_tile

_paint_tile = cache(paint_tile)

NUM_TILES = 8  # of each kind of table, kept in memory and toned anew for each still
# What a frame spans where the camera looks, metres: an episode's frames lie at 0.57 to 0.71.
SPAN_M = (0.48, 0.76)
FOV_DEG = (28.0, 56.0)
ELEVATION_DEG = (26.0, 76.0)
FRONT_AZIMUTH_DEG, SIDE_AZIMUTH_DEG = 45.0, 125.0  # 0 faces the arm
FRONT_SHARE = 0.6  # of the stills are taken from the front
SUPERSAMPLED_SHARE = 0.15
LAMP_PX = 240
BLUR_SHARE, NOISE_SHARE, JPEG_SHARE = 0.45, 0.5, 0.6


@dataclass(frozen=True, eq=False)
class StillLook:
    """All of a still but its objects."""

    setting: Setting
    arm_rgb: Rgb
    supersample: int


def draw_look(rng: np.random.Generator) -> StillLook:
    """Camera, light and colours of one still."""
    kind = TABLE_KINDS[int(rng.integers(len(TABLE_KINDS)))]
    setting = Setting(
        camera=_draw_camera(rng),
        light=_draw_light(rng),
        table=_paint_tile(kind, int(rng.integers(NUM_TILES))),
        floor_rgb=_near(rng, rng.uniform(0.15, 0.8), 0.05),
        table_gain=_near(rng, rng.uniform(0.55, 1.15), 0.06),
        specular=float(rng.uniform(0.0, 0.12)),
        lamp_px=LAMP_PX,
    )
    arm_rgb = _near(rng, rng.uniform(0.15, 0.95), 0.03)
    return StillLook(setting, arm_rgb, 2 if rng.random() < SUPERSAMPLED_SHARE else 1)


def spoil_image(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture as a cheap camera gives it: exposure, blur, noise and JPEG; same shape, uint8."""
    gain, gamma = rng.uniform(0.80, 1.20), rng.uniform(0.88, 1.14)
    lift = rng.uniform(0.0, 0.04)
    tones = np.clip(((np.arange(256) / 255) ** gamma) * gain + lift, 0, 1) * 255
    spoilt = cv2.LUT(rgb, np.round(tones).astype(np.uint8))
    if rng.random() < BLUR_SHARE:
        spoilt = cv2.GaussianBlur(spoilt, (0, 0), float(rng.uniform(0.3, 0.95)))
    if rng.random() < NOISE_SHARE:
        noise = rng.standard_normal(rgb.shape, np.float32) * np.float32(rng.uniform(1.0, 8.0))
        spoilt = np.clip(spoilt + noise, 0, 255).astype(np.uint8)
    if rng.random() < JPEG_SHARE:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 96))]
        _, file = cv2.imencode(".jpg", spoilt, quality)
        spoilt = np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR))
    return np.asarray(spoilt, np.uint8)


def _near(rng: np.random.Generator, value: float, spread: float) -> Rgb:
    red, green, blue = (float(np.clip(value + rng.uniform(-spread, spread), 0, 2)) for _ in "rgb")
    return red, green, blue


def _draw_camera(rng: np.random.Generator) -> Camera:
    width = FRONT_AZIMUTH_DEG if rng.random() < FRONT_SHARE else SIDE_AZIMUTH_DEG
    azimuth = np.deg2rad(rng.uniform(-width, width))
    height = np.deg2rad(rng.uniform(*ELEVATION_DEG))
    target = np.array([rng.uniform(0.47, 0.57), rng.uniform(-0.05, 0.05), rng.uniform(0.0, 0.06)])
    fov = float(rng.uniform(*FOV_DEG))
    away_m = rng.uniform(*SPAN_M) / (2 * np.tan(np.deg2rad(fov) / 2))
    flat = np.cos(height)
    eye = target + away_m * np.array(
        [np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(height)]
    )
    return Camera(_triple(eye), _triple(target), fov)


def _draw_light(rng: np.random.Generator) -> Light:
    azimuth, height = rng.uniform(-np.pi, np.pi), rng.uniform(0.6, 1.4)
    flat = np.cos(height)
    ambient, warm = float(rng.uniform(0.42, 0.72)), rng.uniform(-0.11, 0.11)
    return Light(
        towards_xyz=_triple(
            np.array([np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(height)])
        ),
        rgb=_triple(np.array([1 + min(warm, 0), 1 - abs(warm) / 2, 1 - max(warm, 0)])),
        ambient=ambient,
        diffuse=float(rng.uniform(0.85, 1.10)) - ambient,
        shadow=float(rng.uniform(0.12, 0.52)),
    )


def _triple(values: np.ndarray) -> Rgb:
    x, y, z = (round(float(value), 4) for value in values)
    return x, y, z
