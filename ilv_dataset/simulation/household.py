"""Nouns that stand about in a kitchen, as data; see `nouns.Noun`."""

from __future__ import annotations

from functools import partial

import numpy as np

from ilv_dataset.simulation.meshes import (
    Mesh,
    cuboid,
    ellipsoid,
    merge_meshes,
    prism,
    sheet,
    tube,
)
from ilv_dataset.simulation.nouns import (
    DARK_GREY,
    NOT_PAPER,
    PAPER,
    Grasp,
    Noun,
    Part,
    Rgb,
    Seat,
    spin,
)

SCOURER: Rgb = (0.06, 0.20, 0.12)
CLOTH_M = 0.068  # half its side
BAG_M = (0.060, 0.036)  # half its length and width


def _basket() -> Mesh:
    """Three frames on posts, open between them."""
    x, y, wall = 0.080, 0.062, 0.006
    frames = [
        merge_meshes(
            [
                *(cuboid((2 * x, wall, high), (0.0, side * (y - wall / 2), z)) for side in (-1, 1)),
                *(cuboid((wall, 2 * y, high), (side * (x - wall / 2), 0.0, z)) for side in (-1, 1)),
            ]
        )
        for z, high in ((0.0, 0.012), (0.033, 0.008), (0.066, 0.012))
    ]
    long = [
        cuboid((0.0085, wall * 0.7, 0.070), (along, side * (y - wall / 2), 0.0))
        for along in np.linspace(-x + 0.004, x - 0.004, 9)
        for side in (-1, 1)
    ]
    short = [
        cuboid((wall * 0.7, 0.0085, 0.070), (side * (x - wall / 2), along, 0.0))
        for along in np.linspace(-y + 0.02, y - 0.02, 5)
        for side in (-1, 1)
    ]
    floor = cuboid((2 * x - wall, 2 * y - wall, 0.006))
    return merge_meshes([floor, *frames, *long, *short])


def _sponge(low_z: float, high_z: float) -> Mesh:
    """A slab with a waist."""
    x = np.linspace(-0.048, 0.048, 17)
    half = 0.033 - 0.007 * np.cos(x / 0.048 * np.pi / 2) ** 4
    half[[0, -1]] = 0.024
    right = list(zip(x, -half, strict=True))
    left = list(zip(x[::-1], half[::-1], strict=True))
    return prism([*right, *left], low_z, high_z)


def _pores() -> Mesh:
    places = ((-0.034, 0.012), (-0.022, -0.016), (-0.010, 0.008), (0.004, -0.006), (0.016, 0.013))
    more = ((0.028, -0.014), (0.037, 0.006), (-0.038, -0.008), (0.012, -0.020))
    return merge_meshes(
        [ellipsoid((0.0042, 0.0036, 0.0012), (x, y, 0.034), sides=8) for x, y in (*places, *more)]
    )


def _cloth_height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Folds, low at the edges."""
    folds = np.sin(70 * x + 28 * y) * np.cos(38 * y - 22 * x + 0.6)
    rim = np.clip((CLOTH_M - np.maximum(np.abs(x), np.abs(y))) / 0.012, 0, 1)
    return np.asarray(0.004 + (0.013 + 0.011 * folds) * rim)


def _cloth(middle_m: float = 0.0, half_m: float = CLOTH_M, *, above_m: float = 0.0) -> Mesh:
    """A square whose sides wave, or a strip along y of it that lies on top."""
    x = np.linspace(middle_m - half_m, middle_m + half_m, 31 if half_m == CLOTH_M else 4)
    mesh = sheet(x, np.linspace(-CLOTH_M, CLOTH_M, 31), _cloth_height)
    x, y, z = mesh.vertices.T
    waved = np.stack([x + 0.006 * np.sin(60 * y), y + 0.006 * np.sin(55 * x + 1), z + above_m], 1)
    return Mesh(waved, mesh.normals, mesh.faces)


def _cloth_stripes() -> Mesh:
    places = (-0.045, -0.027, 0.027, 0.045)
    return merge_meshes([_cloth(middle, 0.0035, above_m=0.0006) for middle in places])


def _bag_height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    along = 1 - np.clip(np.abs(x) / BAG_M[0], 0, 1) ** 4
    across = np.sqrt(np.clip(1 - (y / BAG_M[1]) ** 2, 0, 1))
    return np.asarray(0.002 + 0.036 * along * across)


def _bag() -> Mesh:
    x, y = (np.linspace(-half, half, 15) for half in BAG_M)
    return sheet(x, y, _bag_height)


def _crimps() -> Mesh:
    """The pressed ends of a bag, cut in teeth."""
    ends = []
    for side in (-1.0, 1.0):
        near, far, tooth = (side * value for value in (0.058, 0.070, 0.075))
        y = np.linspace(-0.037, 0.037, 13)
        teeth = [(tooth if k % 2 else far, value) for k, value in enumerate(y)]
        outline = [(near, 0.037), (near, -0.037), *teeth]
        ends.append(prism(outline if side > 0 else outline[::-1], 0.001, 0.006))
    return merge_meshes(ends)


def _bag_label() -> Mesh:
    """A disc on top of a bag, bent as it is."""
    angles = np.linspace(0, 2 * np.pi, 21)[:-1]
    rings = []
    for inner, outer in ((0.001, 0.010), (0.010, 0.020)):
        corners = np.array([(r * np.cos(a), r * np.sin(a)) for r in (inner, outer) for a in angles])
        z = _bag_height(corners[:, 0], corners[:, 1]) + 0.0012
        count, index = len(angles), np.arange(len(angles))
        after = (index + 1) % count
        faces = np.concatenate(
            [
                np.stack([index, index + count, after + count], 1),
                np.stack([index, after + count, after], 1),
            ]
        )
        up = np.tile([0.0, 0.0, 1.0], (2 * count, 1))
        rings.append(Mesh(np.column_stack([corners, z]), up, faces))
    return merge_meshes(rings)


def _roof() -> Mesh:
    """The gable of a carton: two slopes, two triangles and the fin on top."""
    low, high, half = 0.088, 0.116, 0.029
    a, b = np.array([-half, -half, low]), np.array([half, -half, low])
    c, d = np.array([half, half, low]), np.array([-half, half, low])
    e, f = np.array([-half, 0.0, high]), np.array([half, 0.0, high])
    sides = []
    for corners in ((a, b, f, e), (c, d, e, f), (b, c, f), (d, a, e)):
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
        normals = np.tile(normal / np.linalg.norm(normal), (len(corners), 1))
        faces = [[0, k, k + 1] for k in range(1, len(corners) - 1)]
        sides.append(Mesh(np.array(corners), normals, np.array(faces)))
    return merge_meshes([*sides, cuboid((2 * half, 0.005, 0.016), (0.0, 0.0, 0.113))])


def _kettle_handle() -> Mesh:
    angles = np.linspace(0.12 * np.pi, 0.88 * np.pi, 13)
    path = [(0.042 * np.cos(a), 0.0, 0.062 + 0.056 * np.sin(a)) for a in angles]
    return merge_meshes(
        [
            tube(path, [0.0065] * len(path), sides=10),
            ellipsoid((0.009, 0.009, 0.009), (0.0, 0.0, 0.086), sides=12),
        ]
    )


HOUSEHOLD = (
    Noun(
        "cup",
        (
            Part(spin(0, 0, 25, 0, 36, 84, 38, 84, 38, 88, 33, 88, 23, 6, 0, 6)),
            Part(spin(29.4, 30, 34.2, 66), rgb=PAPER),
        ),
        radius_m=0.038,
        height_m=0.088,
        grasp=Grasp((0.0, 0.0, 0.055), 0.068),
        colours=NOT_PAPER,
    ),
    Noun(
        "kettle",
        (
            Part(spin(0, 0, 50, 0, 56, 8, 55, 30, 44, 58, 24, 76, 20, 79, 0, 80)),
            Part(
                partial(
                    tube,
                    [
                        (0.04, 0.0, 0.026),
                        (0.066, 0.0, 0.04),
                        (0.078, 0.0, 0.066),
                        (0.088, 0.0, 0.074),
                    ],
                    (0.014, 0.011, 0.008, 0.007),
                    sides=12,
                )
            ),
            Part(_kettle_handle, rgb=DARK_GREY),
        ),
        radius_m=0.093,
        body_m=0.056,
        foot_m=0.057,
        height_m=0.125,
        grasp=Grasp((0.0, 0.0, 0.116), 0.013),
    ),
    Noun(
        "carton",
        (
            Part(partial(cuboid, (0.060, 0.060, 0.088))),
            Part(_roof, rgb=PAPER),
            Part(partial(cuboid, (0.0612, 0.0612, 0.020), (0.0, 0.0, 0.050)), rgb=PAPER),
        ),
        radius_m=0.043,
        height_m=0.129,
        grasp=Grasp((0.0, 0.0, 0.085), 0.060),
        colours=NOT_PAPER,
    ),
    Noun(
        "lid",
        (
            Part(spin(0, 0, 76, 0, 78, 5, 74, 9, 56, 21, 26, 29, 0, 31)),
            Part(spin(7, 28, 7, 36, 15, 40, 15, 48, 0, 50), rgb=DARK_GREY),
        ),
        radius_m=0.079,
        height_m=0.050,
        grasp=Grasp((0.0, 0.0, 0.042), 0.030),
    ),
    Noun(
        "sponge",
        (
            Part(partial(_sponge, 0.010, 0.034)),
            Part(partial(_sponge, 0.0, 0.010), rgb=SCOURER),
            Part(_pores, shade=0.6),
        ),
        radius_m=0.055,
        foot_m=0.053,
        height_m=0.035,
        grasp=Grasp((0.0, 0.0, 0.020), 0.054),
        colours=("yellow", "orange", "pink", "blue", "purple", "turquoise", "red", "white"),
    ),
    Noun(
        "cloth",
        (Part(_cloth), Part(_cloth_stripes, rgb=PAPER)),
        radius_m=0.104,
        foot_m=0.056,
        height_m=0.029,
        grasp=Grasp((0.0, 0.0, 0.014), 0.030),
        colours=NOT_PAPER,
    ),
    Noun(
        "bag",
        (Part(_bag), Part(_crimps, shade=0.72), Part(_bag_label, rgb=PAPER)),
        radius_m=0.083,
        foot_m=0.062,
        height_m=0.039,
        grasp=Grasp((0.0, 0.0, 0.018), 0.070),
        colours=NOT_PAPER,
    ),
    Noun(
        "basket",
        (Part(_basket),),
        radius_m=0.101,
        height_m=0.078,
        grasp=Grasp((0.0, 0.059, 0.070), 0.010),
        seat=Seat("into", 0.054, 0.006),
        is_mover=False,
    ),
)
