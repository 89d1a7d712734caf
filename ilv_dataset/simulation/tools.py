"""Nouns that one works, cooks or eats with, long and flat, as data; see `nouns.Noun`."""

from __future__ import annotations

from functools import partial

import numpy as np

from ilv_dataset.simulation.meshes import (
    Mesh,
    cuboid,
    merge_meshes,
    prism,
    tube,
)
from ilv_dataset.simulation.nouns import DARK_GREY, NOT_STEEL, STEEL, Grasp, Noun, Part


def _rod(x_m: tuple[float, float], z_m: float, radius_m: float) -> Mesh:
    """A round rod along x."""
    return tube([(x, 0.0, z_m) for x in x_m], [radius_m] * 2, sides=12)


def _fork() -> Mesh:
    tines = [cuboid((0.048, 0.0065, 0.005), (0.072, y, 0.007)) for y in (-0.0145, 0.0, 0.0145)]
    bridge = prism(
        [
            (0.016, -0.006),
            (0.036, -0.0178),
            (0.052, -0.0178),
            (0.052, 0.0178),
            (0.036, 0.0178),
            (0.016, 0.006),
        ],
        0.007,
        0.012,
    )
    handle = tube(
        [(0.02, 0.0, 0.009), (-0.03, 0.0, 0.010), (-0.092, 0.0, 0.010)],
        (0.005, 0.006, 0.009),
        sides=10,
    )
    return merge_meshes([handle, bridge, *tines])


def _blade() -> Mesh:
    edge = [(0.000, -0.017), (0.060, -0.016), (0.085, -0.008), (0.100, 0.010), (0.0, 0.012)]
    return prism(edge, 0.006, 0.010)


def _spatula_head() -> Mesh:
    bars = [
        cuboid((0.075, 0.0095, 0.005), (0.062, y, 0.004)) for y in (-0.030, -0.010, 0.010, 0.03)
    ]
    ends = [cuboid((0.012, 0.0695, 0.005), (x, 0.0, 0.004)) for x in (0.028, 0.098)]
    return merge_meshes([*bars, *ends])


def _wrench() -> Mesh:
    def ring(x: float, start: float, end: float) -> Mesh:
        angles = np.linspace(start, end, 15)
        path = [(x + 0.017 * np.cos(a), 0.017 * np.sin(a), 0.007) for a in angles]
        return tube(path, [0.007] * len(path), sides=8)

    jaws = ring(0.075, 0.8, 2 * np.pi - 0.8)
    eye = ring(-0.075, np.pi, 3 * np.pi)
    return merge_meshes([cuboid((0.120, 0.017, 0.010), (0.0, 0.0, 0.002)), jaws, eye])


TOOLS = (
    Noun(
        "fork",
        (Part(_fork),),
        radius_m=0.102,
        foot_m=0.070,
        height_m=0.019,
        grasp=Grasp((-0.03, 0.0, 0.010), 0.013),
    ),
    Noun(
        "knife",
        (
            Part(_blade, rgb=STEEL),
            Part(partial(cuboid, (0.082, 0.021, 0.016), (-0.040, -0.002, 0.0))),
        ),
        radius_m=0.101,
        foot_m=0.070,
        height_m=0.016,
        grasp=Grasp((-0.04, -0.002, 0.009), 0.021),
        colours=NOT_STEEL,
    ),
    Noun(
        "spatula",
        (
            Part(_spatula_head),
            Part(
                partial(
                    tube,
                    [
                        (0.024, 0.0, 0.007),
                        (0.0, 0.0, 0.01),
                        (-0.03, 0.0, 0.011),
                        (-0.098, 0.0, 0.011),
                    ],
                    (0.005, 0.006, 0.009, 0.010),
                    sides=10,
                ),
            ),
        ),
        radius_m=0.110,
        foot_m=0.071,
        height_m=0.021,
        grasp=Grasp((-0.03, 0.0, 0.011), 0.018),
    ),
    Noun(
        "hammer",
        (
            Part(partial(_rod, (-0.105, 0.070), 0.013, 0.0105)),
            Part(
                partial(
                    merge_meshes,
                    [
                        cuboid((0.026, 0.050, 0.026), (0.066, 0.004, 0.0)),
                        tube([(0.066, -0.020, 0.013), (0.066, -0.044, 0.013)], (0.016, 0.016)),
                        prism(
                            [(0.053, 0.028), (0.079, 0.028), (0.069, 0.052), (0.063, 0.052)],
                            0.003,
                            0.023,
                        ),
                    ],
                ),
                rgb=STEEL,
            ),
        ),
        radius_m=0.106,
        foot_m=0.071,
        height_m=0.029,
        grasp=Grasp((-0.02, 0.0, 0.013), 0.021),
        colours=NOT_STEEL,
    ),
    Noun(
        "screwdriver",
        (
            Part(
                partial(
                    tube,
                    [(x, 0.0, 0.0165) for x in (-0.088, -0.084, -0.070, -0.030, -0.016, -0.008)],
                    (0.010, 0.0155, 0.0165, 0.0165, 0.011, 0.013),
                    sides=12,
                )
            ),
            Part(
                partial(
                    merge_meshes,
                    [
                        _rod((-0.010, 0.078), 0.0165, 0.0045),
                        cuboid((0.014, 0.012, 0.004), (0.082, 0.0, 0.0145)),
                    ],
                ),
                rgb=STEEL,
            ),
            Part(partial(_rod, (-0.079, -0.075), 0.0165, 0.0172), rgb=DARK_GREY),
        ),
        radius_m=0.089,
        foot_m=0.066,
        height_m=0.034,
        grasp=Grasp((-0.045, 0.0, 0.016), 0.033),
        colours=NOT_STEEL,
        rolls=True,
    ),
    Noun(
        "wrench",
        (Part(_wrench),),
        radius_m=0.099,
        foot_m=0.070,
        height_m=0.014,
        grasp=Grasp((0.0, 0.0, 0.008), 0.017),
    ),
)
