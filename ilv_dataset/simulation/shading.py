"""Pictures from raw buffers: table texture, soft shadows, smaller frames, label maps and boxes.

Pure NumPy. The software rasteriser gives colour, depth and labels; it samples textures without
filtering and its shadows can barely be seen, so both are done here from the depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ilv_dataset.simulation.scenes import Camera, Light

NEAR_M, FAR_M = 0.2, 6.0
# A surface this near to what the light sees first is lit; things have steep sides, on which the
# coarse pixels of the light's view would draw stripes.
TABLE_BIAS_M, THING_BIAS_M = 0.005, 0.018
SHADOW_BLUR_PX = 9
# Cosines of the angle to the light between which the shadows on a surface fade.
GRAZING_COS, FACING_COS = 0.12, 0.36
SHININESS = 2.0  # of the rasteriser's meshes


@dataclass(frozen=True, eq=False)
class Buffers:
    """What the rasteriser saw, square."""

    rgb: np.ndarray  # (S, S, 3) uint8
    depth: np.ndarray  # (S, S) float32 OpenGL depth, 0 near .. 1 far
    body_ids: np.ndarray  # (S, S) int32, -1 where there is nothing


def view_matrix(camera: Camera) -> np.ndarray:
    """World to camera, (4, 4) float64, OpenGL convention: the camera looks along -z."""
    eye, target = np.asarray(camera.eye_xyz), np.asarray(camera.target_xyz)
    ahead = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(right, ahead), -ahead])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = axes, -axes @ eye
    return matrix


def projection_matrix(fov_deg: float) -> np.ndarray:
    """Camera to clip space of a square frame, (4, 4) float64, OpenGL convention."""
    scale = 1.0 / np.tan(np.deg2rad(fov_deg) / 2)
    matrix = np.diag([scale, scale, (FAR_M + NEAR_M) / (NEAR_M - FAR_M), 0.0])
    matrix[2, 3], matrix[3, 2] = 2 * FAR_M * NEAR_M / (NEAR_M - FAR_M), -1.0
    return matrix


def depth_to_metres(depth: np.ndarray) -> np.ndarray:
    """Distance along the optical axis in metres from an OpenGL depth of 0..1."""
    return np.asarray(FAR_M * NEAR_M / (FAR_M - (FAR_M - NEAR_M) * depth))


def pixel_rays(camera: Camera, size_px: int) -> np.ndarray:
    """What one metre along the optical axis is for each pixel in the world, (3, S, S) float32.

    Here and below x, y and z come first: NumPy is three times as fast on whole planes.
    """
    reach = np.tan(np.deg2rad(camera.fov_deg) / 2)
    across = ((np.arange(size_px) + 0.5) / size_px * 2 - 1) * reach
    right, up, back = view_matrix(camera)[:3, :3].astype(np.float32)[..., None, None]
    across = across.astype(np.float32)
    return np.asarray(right * across - up * across[:, None] - back)


def locate_pixels(metres: np.ndarray, rays: np.ndarray, camera: Camera) -> np.ndarray:
    """World position of each pixel, (3, S, S) float32, from its distance along the optical axis."""
    eye = np.asarray(camera.eye_xyz, np.float32)[:, None, None]
    return np.asarray(rays * metres.astype(np.float32, copy=False) + eye)


def plane_metres(rays: np.ndarray, camera: Camera, axis: int, at_m: float) -> np.ndarray:
    """Distance along the optical axis to a plane across an axis, (S, S) float32; FAR_M if none."""
    with np.errstate(divide="ignore"):
        metres = np.float32(at_m - camera.eye_xyz[axis]) / rays[axis]
    metres[~((metres > 0) & (metres < FAR_M))] = FAR_M
    return np.asarray(metres)


def plane_light(light: Light, normal_xyz: Sequence[float], specular: float) -> np.ndarray:
    """What the light makes of white on a plane, (3,) float32, as the rasteriser lights its meshes.

    Source: bullet3/examples/TinyRenderer/TinyRenderer.cpp, Shader::fragment.
    """
    normal, towards = np.asarray(normal_xyz), np.asarray(light.towards_xyz)
    towards = towards / np.linalg.norm(towards)
    facing = float(normal @ towards)
    mirrored = max(float((2 * facing * normal - towards)[2]), 0.0)
    lit = light.diffuse * max(facing, 0.0) + specular * mirrored**SHININESS
    return np.asarray(light.ambient + lit * np.asarray(light.rgb), np.float32)


def shade_share(
    points_xyz: np.ndarray, bias_m: np.ndarray, light_depth: np.ndarray, lamp: Camera
) -> np.ndarray:
    """How much of each point lies in shadow, (S, S) float32 0..1, soft at the edge.

    Args:
        points_xyz: (3, S, S) float32 metres.
        bias_m: (S, S), how far behind what the light sees first a point is still lit.
        light_depth: (L, L), what `lamp`, a camera at the light, sees.
    """
    turn = view_matrix(lamp).astype(np.float32)
    x, y, z = (turn[:3, :3] @ points_xyz.reshape(3, -1)).reshape(points_xyz.shape)
    away = -z - turn[2, 3]
    half = np.float32(len(light_depth) / 2)
    scale = np.float32(half / np.tan(np.deg2rad(lamp.fov_deg) / 2)) / away
    first = cv2.remap(
        depth_to_metres(light_depth).astype(np.float32),
        (x + turn[0, 3]) * scale + (half - np.float32(0.5)),
        (half - np.float32(0.5)) - (y + turn[1, 3]) * scale,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=FAR_M,
    )
    hidden = (away - first > bias_m) * _facing_share(points_xyz, lamp)
    return np.asarray(cv2.GaussianBlur(hidden, (SHADOW_BLUR_PX, SHADOW_BLUR_PX), 0))


def _facing_share(points_xyz: np.ndarray, lamp: Camera) -> np.ndarray:
    """How much a shadow shows on each point's surface, (S, S) float32: not at all where the
    light only grazes it, for there the lamp's coarse pixels would draw stripes.
    """
    ax, ay, az = points_xyz[:, 1:, :-1] - points_xyz[:, :-1, :-1]
    bx, by, bz = points_xyz[:, :-1, 1:] - points_xyz[:, :-1, :-1]
    normal = (ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
    towards = np.asarray(lamp.eye_xyz, np.float32) - np.asarray(lamp.target_xyz, np.float32)
    towards /= np.linalg.norm(towards)
    lengths = np.sqrt(sum(side * side for side in normal))
    along = sum(side * value for side, value in zip(normal, towards, strict=True))
    cosines = cv2.copyMakeBorder(
        along / np.maximum(lengths, np.float32(1e-12)), 0, 1, 0, 1, cv2.BORDER_REPLICATE
    )
    return np.clip((cosines - GRAZING_COS) / (FACING_COS - GRAZING_COS), 0.0, 1.0)


def sample_texture(
    texture: np.ndarray, points_xyz: np.ndarray, bounds_xy_m: tuple[tuple[float, float], ...]
) -> np.ndarray:
    """Colour of the texture under each point, (S, S, 3) of its dtype; it spans `bounds_xy_m`.

    Args:
        points_xyz: (3, S, S) float32, of which x and y count.
    """
    size = len(texture)
    where = [
        ((points_xyz[axis] - low) * (size / (high - low)) - 0.5).astype(np.float32)
        for axis, (low, high) in enumerate(bounds_xy_m)
    ]
    return np.asarray(
        cv2.remap(texture, where[1], where[0], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def shrink_image(rgb: np.ndarray, factor: int) -> np.ndarray:
    """Mean of each factor x factor block, (S / factor, S / factor, 3) uint8."""
    size = len(rgb) // factor
    mean = cv2.resize(rgb.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(np.clip(mean + np.float32(0.5), 0, 255), np.uint8)


def shrink_labels(labels: np.ndarray, factor: int) -> np.ndarray:
    """The label in the middle of each block's sorted labels, (S / factor, S / factor).

    A label that fills more than half of a block always wins it.
    """
    if factor == 1:
        return labels
    size = len(labels) // factor
    blocks = labels.reshape(size, factor, size, factor).transpose(0, 2, 1, 3)
    ordered = np.sort(blocks.reshape(size, size, factor * factor), axis=-1)
    return np.asarray(ordered[..., factor * factor // 2])


def label_boxes(labels: np.ndarray, num_objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Box and size of the visible pixels of each object; label i + 1 is object i.

    Returns:
        (N, 4) float32 ymin, xmin, ymax, xmax, normalised to 0..1, max edge exclusive, all zero
        where nothing is visible; and (N,) int32 pixels.
    """
    boxes = np.zeros((num_objects, 4), np.float32)
    counts = np.zeros(num_objects, np.int32)
    height, width = labels.shape
    for index in range(num_objects):
        rows, columns = np.nonzero(labels == index + 1)
        if not len(rows):
            continue
        counts[index] = len(rows)
        boxes[index] = (
            rows.min() / height,
            columns.min() / width,
            (rows.max() + 1) / height,
            (columns.max() + 1) / width,
        )
    return boxes, counts
