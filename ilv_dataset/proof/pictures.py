"""Pictures of single objects from outside of any episode: a clean render, and a sketch of it."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from ilv_dataset.crops import make_crop
from ilv_dataset.simulation.scenes import Camera, Light, Thing
from ilv_dataset.simulation.shading import label_boxes
from ilv_dataset.simulation.stage import Setting, Stage

SIZE_PX = 192
# From the side and lower than the episodes' camera, so that no view of an episode is like it.
EYE_XYZ_M, MIDDLE_XYZ_M, FOV_DEG = (0.30, 0.62, 0.42), (0.0, 0.0, 0.04), 30.0
LIGHT = Light((0.3, 0.5, 0.81), (1.0, 1.0, 1.0), 0.62, 0.40, 0.0)
WHITE = 255
EDGE_THRESHOLDS = (40, 110)


def render_outside(thing: Thing) -> np.ndarray:
    """The thing on white, from another side, as a crop: (224, 224, 3) uint8 RGB."""
    stage = _open_stage()
    body = stage.load_thing(thing)
    table = np.full((8, 8, 3), WHITE, np.uint8)
    camera = Camera(EYE_XYZ_M, MIDDLE_XYZ_M, FOV_DEG)
    setting = Setting(camera, LIGHT, table, (1.0, 1.0, 1.0), lamp_px=64)
    picture = stage.take_picture(setting, [body], size_px=SIZE_PX, supersample=2)
    stage.remove(body)
    rgb = np.where(picture.labels[..., None] == 1, picture.rgb, np.uint8(WHITE))
    boxes, _ = label_boxes(picture.labels, 1)
    top, left, bottom, right = boxes[0] * SIZE_PX
    return make_crop(rgb, np.array([left, top, right, bottom]))


def sketch(rgb: np.ndarray) -> np.ndarray:
    """The edges of a picture, (S, S, 3) uint8, as dark lines on white."""
    edges = cv2.Canny(cv2.GaussianBlur(rgb, (0, 0), 1.5), *EDGE_THRESHOLDS)
    lines = cv2.dilate(edges, np.ones((3, 3), np.uint8))
    return np.repeat(WHITE - lines[..., None], 3, axis=2)


@cache
def _open_stage() -> Stage:
    """The stage of this process: without an arm, without a table."""
    return Stage()
