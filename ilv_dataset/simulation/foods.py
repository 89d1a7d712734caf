"""Nouns that are eaten, as data; see `nouns.Noun`."""

from __future__ import annotations

from functools import partial

import numpy as np

from ilv_dataset.simulation.meshes import (
    DOT_SIDES,
    Mesh,
    ellipsoid,
    lathe,
    merge_meshes,
    tube,
)
from ilv_dataset.simulation.nouns import BUN, CREAM, LEAF, STALK, Grasp, Noun, Part, spin


def _banana() -> Mesh:
    angles = np.linspace(-0.85, 0.85, 11)
    path = [(0.085 * np.sin(a), 0.085 * np.cos(a) - 0.072, 0.017) for a in angles]
    radii = (0.004, 0.008, 0.013, 0.016, 0.017, 0.017, 0.017, 0.016, 0.013, 0.008, 0.005)
    return tube(path, radii)


def _spots() -> Mesh:
    """Dots on a mushroom's cap: one on top, five around it, six lower down."""
    rings = ((0.0, 0.0755, 1), (0.021, 0.0695, 5), (0.0335, 0.0555, 6))
    return merge_meshes(
        [
            ellipsoid(
                (0.0055, 0.0055, 0.0030),
                (radius * np.cos(angle), radius * np.sin(angle), z),
                sides=DOT_SIDES,
            )
            for radius, z, number in rings
            for angle in np.arange(number) * (2 * np.pi / number)
        ]
    )


def _torus_half(top: bool) -> Mesh:
    start = 0.0 if top else np.pi
    angles = np.linspace(start - 0.12, start + np.pi + 0.12, 13)
    size = 0.0172 if top else 0.0165
    return lathe([(0.026 + size * np.cos(a), 0.017 + size * np.sin(a)) for a in angles])


FOODS = (
    Noun(
        "carrot",
        (
            Part(
                partial(
                    tube,
                    [(x, 0.0, 0.018) for x in (-0.070, -0.045, 0.0, 0.035, 0.045, 0.048)],
                    (0.002, 0.008, 0.014, 0.018, 0.016, 0.008),
                )
            ),
            Part(
                partial(
                    merge_meshes,
                    [
                        tube(
                            [(0.046, 0.0, 0.018), (0.06, y / 2, 0.02), (0.076, y, 0.022)],
                            (0.003, 0.006, 0.002),
                            sides=8,
                        )
                        for y in (-0.014, 0.0, 0.014)
                    ],
                ),
                rgb=LEAF,
            ),
        ),
        radius_m=0.078,
        foot_m=0.058,
        height_m=0.036,
        grasp=Grasp((0.0, 0.0, 0.016), 0.028),
        colours=("orange",),
        rolls=True,
    ),
    Noun(
        "banana",
        (
            Part(_banana),
            Part(
                partial(tube, [(0.061, -0.014, 0.017), (0.072, -0.022, 0.018)], (0.006, 0.004)),
                rgb=STALK,
            ),
        ),
        radius_m=0.078,
        foot_m=0.058,
        height_m=0.034,
        grasp=Grasp((0.0, 0.012, 0.016), 0.034),
        colours=("yellow", "green"),
        rolls=True,
    ),
    Noun(
        "lemon",
        (
            Part(partial(ellipsoid, (0.036, 0.027, 0.027), (0.0, 0.0, 0.027))),
            Part(partial(ellipsoid, (0.010, 0.010, 0.010), (0.034, 0.0, 0.027))),
            Part(partial(ellipsoid, (0.008, 0.009, 0.009), (-0.034, 0.0, 0.027))),
        ),
        radius_m=0.044,
        height_m=0.054,
        grasp=Grasp((0.0, 0.0, 0.025), 0.054),
        colours=("yellow",),
        rolls=True,
    ),
    Noun(
        "apple",
        (
            Part(spin(0, 4, 14, 0, 26, 8, 34, 22, 37, 38, 34, 54, 24, 65, 13, 66, 5, 61, 0, 58)),
            Part(
                partial(
                    tube,
                    [(0.0, 0.0, 0.056), (0.002, 0.0, 0.066), (0.006, 0.0, 0.074)],
                    (0.003,) * 3,
                ),
                rgb=STALK,
            ),
            Part(partial(ellipsoid, (0.013, 0.007, 0.002), (0.013, 0.004, 0.070)), rgb=LEAF),
        ),
        radius_m=0.038,
        height_m=0.076,
        grasp=Grasp((0.0, 0.0, 0.036), 0.074),
        colours=("red", "green"),
        rolls=True,
    ),
    Noun(
        "pear",
        (
            Part(spin(0, 3, 12, 0, 26, 8, 33, 26, 31, 42, 22, 60, 16, 76, 10, 84, 0, 86)),
            Part(
                partial(tube, [(0.0, 0.0, 0.084), (0.004, 0.0, 0.094)], (0.003, 0.003)), rgb=STALK
            ),
        ),
        radius_m=0.035,
        height_m=0.095,
        grasp=Grasp((0.0, 0.0, 0.052), 0.054),
        colours=("green", "yellow"),
    ),
    Noun(
        "eggplant",
        (
            Part(
                partial(
                    tube,
                    [(x, 0.0, 0.028) for x in (-0.066, -0.060, -0.045, -0.02, 0.015, 0.045, 0.058)],
                    (0.004, 0.015, 0.024, 0.028, 0.024, 0.017, 0.014),
                )
            ),
            Part(
                partial(
                    tube,
                    [
                        (0.044, 0.0, 0.028),
                        (0.052, 0.0, 0.028),
                        (0.062, 0.0, 0.028),
                        (0.080, 0.0, 0.031),
                    ],
                    (0.0185, 0.017, 0.007, 0.004),
                ),
                rgb=LEAF,
            ),
        ),
        radius_m=0.082,
        foot_m=0.058,
        height_m=0.056,
        grasp=Grasp((-0.01, 0.0, 0.026), 0.054),
        colours=("purple",),
        rolls=True,
    ),
    Noun(
        "mushroom",
        (
            Part(
                spin(0, 0, 15, 0, 18, 4, 14, 50),
                rgb=CREAM,
            ),
            Part(spin(0, 46, 33, 42, 37, 46, 34, 58, 25, 69, 13, 75, 0, 77)),
            Part(_spots, rgb=CREAM),
        ),
        radius_m=0.040,
        height_m=0.079,
        grasp=Grasp((0.0, 0.0, 0.050), 0.074),
        colours=("red", "brown"),
    ),
    Noun(
        "donut",
        (
            Part(partial(_torus_half, False), rgb=BUN),
            Part(partial(_torus_half, True)),
        ),
        radius_m=0.044,
        height_m=0.034,
        grasp=Grasp((0.0, 0.026, 0.018), 0.034),
        colours=("pink", "brown", "white"),
    ),
)
