"""Nouns that are played with or read, as data; see `nouns.Noun`."""

from __future__ import annotations

from functools import partial

import numpy as np

from ilv_dataset.simulation.meshes import (
    Mesh,
    cuboid,
    ellipsoid,
    lathe,
    merge_meshes,
    move_mesh,
    tube,
)
from ilv_dataset.simulation.nouns import BEAK, BRIGHT, PAPER, Grasp, Noun, Part, Seat, spin


def _brick() -> Mesh:
    stud = lathe([(0.0, 0.0), (0.0075, 0.0), (0.0075, 0.007), (0.0, 0.007)], sides=14)
    places = [(x, y) for x in (-0.033, -0.011, 0.011, 0.033) for y in (-0.011, 0.011)]
    studs = [move_mesh(stud, (x, y, 0.034)) for x, y in places]
    return merge_meshes([cuboid((0.09, 0.046, 0.034)), *studs])


def _stripe() -> Mesh:
    """A band over the top of the ball, by which it is no fruit."""
    angles = np.linspace(-0.6, np.pi + 0.6, 21)
    path = [(0.0315 * np.cos(a), 0.0, 0.035 + 0.0315 * np.sin(a)) for a in angles]
    return tube(path, [0.0042] * len(path), sides=10)


def _eyes() -> Mesh:
    return merge_meshes([ellipsoid((0.004,) * 3, (0.039, y, 0.066)) for y in (-0.012, 0.012)])


def _duck() -> Mesh:
    return merge_meshes(
        [
            ellipsoid((0.043, 0.031, 0.027), (0.0, 0.0, 0.027)),
            ellipsoid((0.021, 0.020, 0.020), (0.024, 0.0, 0.060)),
            ellipsoid((0.017, 0.013, 0.010), (-0.040, 0.0, 0.040)),
        ]
    )


def _book_cover() -> Mesh:
    boards = [cuboid((0.15, 0.11, 0.004), (0.0, 0.0, z)) for z in (0.0, 0.022)]
    return merge_meshes([*boards, cuboid((0.15, 0.004, 0.018), (0.0, -0.053, 0.004))])


TOYS = (
    Noun(
        "ball",
        (
            Part(partial(ellipsoid, (0.035,) * 3, (0.0, 0.0, 0.035))),
            Part(_stripe, rgb=PAPER),
        ),
        radius_m=0.036,
        height_m=0.070,
        grasp=Grasp((0.0, 0.0, 0.036), 0.070),
        rolls=True,
    ),
    Noun(
        "block",
        (Part(partial(cuboid, (0.052, 0.052, 0.052))),),
        radius_m=0.037,
        height_m=0.052,
        grasp=Grasp((0.0, 0.0, 0.030), 0.052),
        seat=Seat("onto", 0.038, 0.052, has_rim=False),
    ),
    Noun(
        "brick",
        (Part(_brick),),
        radius_m=0.051,
        height_m=0.041,
        grasp=Grasp((0.0, 0.0, 0.022), 0.046),
    ),
    Noun(
        "duck",
        (
            Part(_duck),
            Part(partial(ellipsoid, (0.014, 0.010, 0.005), (0.047, 0.0, 0.057)), rgb=BEAK),
            Part(_eyes, rgb=(0.03, 0.03, 0.03)),
        ),
        radius_m=0.062,
        height_m=0.080,
        grasp=Grasp((0.0, 0.0, 0.036), 0.058),
        colours=("yellow", "white", "blue", "pink", "red"),
    ),
    Noun(
        "cone",
        (
            Part(partial(cuboid, (0.074, 0.074, 0.006))),
            Part(spin(30, 6, 21, 40)),
            Part(spin(21, 40, 14, 64), rgb=PAPER),
            Part(spin(14, 64, 7, 92, 0, 93)),
        ),
        radius_m=0.053,
        height_m=0.093,
        grasp=Grasp((0.0, 0.0, 0.062), 0.030),
        colours=BRIGHT,
    ),
    Noun(
        "book",
        (
            Part(_book_cover),
            Part(partial(cuboid, (0.144, 0.104, 0.018), (0.0, 0.0, 0.004)), rgb=PAPER),
        ),
        radius_m=0.094,
        height_m=0.026,
        grasp=Grasp((0.0, 0.0, 0.016), 0.078),
        seat=Seat("onto", 0.054, 0.026, has_rim=False),
        is_mover=False,
    ),
)
