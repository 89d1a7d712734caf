"""More nouns that are eaten, as data; see `nouns.Noun` and `foods`."""

from __future__ import annotations

from functools import partial

import numpy as np

from ilv_dataset.simulation.meshes import (
    DOT_SIDES,
    Mesh,
    ellipsoid,
    merge_meshes,
    move_mesh,
    prism,
    tube,
)
from ilv_dataset.simulation.nouns import CREAM, LEAF, Grasp, Noun, Part, Rgb, spin

STEM: Rgb = (0.55, 0.68, 0.35)
SEED: Rgb = (0.95, 0.85, 0.45)


def _lying(x_radius_mm: tuple[tuple[float, float], ...], z_m: float) -> Mesh:
    """A round body along x, of (x, radius) in millimetres."""
    path = [(x / 1000, 0.0, z_m) for x, _ in x_radius_mm]
    return tube(path, [radius / 1000 for _, radius in x_radius_mm], sides=18)


def _cob() -> Mesh:
    """Kernels are rings: at a few pixels a ring each is what is seen of them."""
    x = np.linspace(-0.070, 0.035, 25)
    taper = 1.0 - 0.55 * np.clip((-0.02 - x) / 0.05, 0, 1) ** 2
    waves = np.where(np.arange(len(x)) % 2, 0.86, 1.0)
    return tube([(value, 0.0, 0.022) for value in x], (0.022 * taper * waves).tolist(), sides=16)


def _husk() -> Mesh:
    leaves = [
        tube(
            [(0.018, 0.4 * y, z), (0.045, y, z), (0.082, 1.5 * y, z + 0.004)],
            (0.012, 0.013, 0.003),
            sides=10,
        )
        for y, z in ((-0.017, 0.016), (0.017, 0.016), (0.0, 0.030))
    ]
    return merge_meshes([*leaves, _lying(((30, 21), (52, 17), (66, 7), (80, 6)), 0.022)])


def _cucumber_path(shift_yz: tuple[float, float] = (0.0, 0.0)) -> list[tuple[float, float, float]]:
    y, z = shift_yz
    return [
        (x, 3.0 * x * x - 0.008 + y, 0.0185 + z)
        for x in (-0.080, -0.076, -0.062, -0.03, 0.0, 0.03, 0.062, 0.076, 0.080)
    ]


def _cucumber_stripes() -> Mesh:
    spots = ((-0.011, 0.0135), (0.0, 0.0172), (0.011, 0.0135))
    return merge_meshes([tube(_cucumber_path(s)[2:-2], [0.0022] * 5, sides=6) for s in spots])


def _berry_radius(x: float) -> float:
    """Of a strawberry along its length, metres."""
    return float(np.interp(x, (-0.034, -0.030, -0.012, 0.010, 0.022, 0.028), _BERRY_M))


_BERRY_M = (0.003, 0.009, 0.020, 0.026, 0.022, 0.008)


def _seeds() -> Mesh:
    spots = [
        (x, angle + k * 0.35)
        for k, x in enumerate((-0.022, -0.010, 0.003, 0.015))
        for angle in np.linspace(0.35, np.pi - 0.35, 4)
    ]
    return merge_meshes(
        [
            ellipsoid(
                (0.0026, 0.0026, 0.0022),
                (
                    x,
                    _berry_radius(x) * np.cos(angle),
                    0.026 + _berry_radius(x) * np.sin(angle),
                ),
                sides=DOT_SIDES,
            )
            for x, angle in spots
        ]
    )


def _berry_leaves() -> Mesh:
    angles = np.arange(6) * (np.pi / 3) + 0.3
    leaves = [
        tube(
            [
                (0.028, 0.0, 0.027),
                (0.027, 0.016 * np.cos(a), 0.027 + 0.016 * np.sin(a)),
                (0.019, 0.027 * np.cos(a), 0.027 + 0.025 * np.sin(a)),
            ],
            (0.004, 0.006, 0.002),
            sides=8,
        )
        for a in angles
    ]
    return merge_meshes([*leaves, _lying(((26, 4), (40, 3)), 0.027)])


def _cuts() -> Mesh:
    """Three slanting cuts over the top of a loaf."""
    cut = tube(
        [(0.0, y, 0.0605 - 9.0 * y * y) for y in (-0.028, -0.014, 0.0, 0.014, 0.028)],
        (0.002, 0.0048, 0.0055, 0.0048, 0.002),
        sides=8,
    )
    return merge_meshes(
        [move_mesh(cut, (x, 0.0, -drop), yaw=0.45) for x, drop in _CUTS],
    )


_CUTS = ((-0.036, 0.0068), (0.0, 0.0), (0.036, 0.0068))


def _wedge() -> Mesh:
    angles = np.linspace(-0.42, 0.42, 7)
    arc = [(0.098 * np.cos(a) - 0.055, 0.098 * np.sin(a)) for a in angles]
    return prism([(-0.055, 0.0), *arc], 0.0, 0.040)


def _cheese_holes() -> Mesh:
    places = (
        ((0.008, 0.008, 0.002), (0.018, 0.016, 0.040)),
        ((0.006, 0.006, 0.002), (-0.010, -0.004, 0.040)),
        ((0.006, 0.006, 0.002), (0.026, -0.018, 0.040)),
        ((0.007, 0.003, 0.007), (0.012, 0.0300, 0.020)),
        ((0.005, 0.003, 0.005), (-0.018, 0.0165, 0.026)),
        ((0.007, 0.003, 0.007), (0.008, -0.0282, 0.018)),
        ((0.002, 0.008, 0.008), (0.0425, 0.008, 0.020)),
    )
    return merge_meshes([ellipsoid(size, at, sides=12) for size, at in places])


def _crown() -> Mesh:
    lumps = [
        (0.030 * np.cos(a), 0.030 * np.sin(a), z, 0.0165)
        for k, z in ((0, 0.048), (1, 0.046))
        for a in np.arange(4) * np.pi / 2 + k * np.pi / 4
    ]
    lumps += [(0.016 * np.cos(a), 0.016 * np.sin(a), 0.062, 0.016) for a in (0.3, 2.4, 4.5)]
    return merge_meshes([ellipsoid((r,) * 3, (x, y, z), sides=14) for x, y, z, r in lumps])


def _croissant() -> Mesh:
    angles = np.linspace(-1.25, 1.25, 22)
    path = [(0.056 * np.sin(a), 0.056 * np.cos(a) - 0.040, 0.022) for a in angles]
    plump = 0.023 * np.cos(angles / 1.25 * 1.22)
    ridges = np.where(np.arange(len(angles)) % 3 == 0, 0.80, 1.0)
    return tube(path, (plump * ridges + 0.001).tolist(), sides=14)


GROCERIES = (
    Noun(
        "corn",
        (Part(_cob), Part(_husk, rgb=LEAF)),
        radius_m=0.086,
        foot_m=0.066,
        height_m=0.044,
        grasp=Grasp((-0.02, 0.0, 0.022), 0.042),
        colours=("yellow",),
        rolls=True,
    ),
    Noun(
        "cucumber",
        (
            Part(
                partial(
                    tube,
                    _cucumber_path(),
                    (0.006, 0.012, 0.017, 0.0185, 0.0185, 0.0185, 0.017, 0.012, 0.006),
                    sides=18,
                )
            ),
            Part(_cucumber_stripes, rgb=STEM),
        ),
        radius_m=0.083,
        foot_m=0.064,
        height_m=0.038,
        grasp=Grasp((0.0, -0.008, 0.018), 0.037),
        colours=("green",),
        rolls=True,
    ),
    Noun(
        "strawberry",
        (
            Part(
                partial(_lying, ((-34, 3), (-30, 9), (-12, 20), (10, 26), (22, 22), (28, 8)), 0.026)
            ),
            Part(_seeds, rgb=SEED),
            Part(_berry_leaves, rgb=LEAF),
        ),
        radius_m=0.042,
        height_m=0.054,
        grasp=Grasp((0.0, 0.0, 0.024), 0.050),
        colours=("red",),
        rolls=True,
    ),
    Noun(
        "egg",
        (
            Part(
                partial(
                    _lying,
                    (
                        (-34, 2),
                        (-33, 8),
                        (-28, 16),
                        (-18, 23),
                        (-4, 26),
                        (10, 24),
                        (22, 18),
                        (31, 10),
                        (34, 2),
                    ),
                    0.026,
                )
            ),
        ),
        radius_m=0.036,
        height_m=0.052,
        grasp=Grasp((-0.004, 0.0, 0.025), 0.052),
        colours=("white", "brown"),
        rolls=True,
    ),
    Noun(
        "bread",
        (
            Part(partial(ellipsoid, (0.070, 0.036, 0.030), (0.0, 0.0, 0.030)), shade=1.45),
            Part(_cuts, rgb=CREAM),
        ),
        radius_m=0.071,
        foot_m=0.058,
        height_m=0.066,
        grasp=Grasp((0.0, 0.0, 0.028), 0.071),
        colours=("brown",),
    ),
    Noun(
        "cheese",
        (Part(_wedge), Part(_cheese_holes, shade=0.62)),
        radius_m=0.056,
        foot_m=0.052,
        height_m=0.042,
        grasp=Grasp((0.0, 0.0, 0.020), 0.050),
        colours=("yellow", "orange"),
    ),
    Noun(
        "broccoli",
        (
            Part(_crown),
            Part(spin(0, 0, 12, 0, 11, 20, 20, 42), rgb=STEM),
        ),
        radius_m=0.047,
        height_m=0.078,
        grasp=Grasp((0.0, 0.0, 0.045), 0.074),
        colours=("green",),
    ),
    Noun(
        "croissant",
        (Part(_croissant, shade=1.6),),
        radius_m=0.064,
        foot_m=0.056,
        height_m=0.046,
        grasp=Grasp((0.0, 0.014, 0.020), 0.046),
        colours=("brown",),
    ),
)
