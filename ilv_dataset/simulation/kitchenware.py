"""Nouns that are drunk, cooked or served with, as data; see `nouns.Noun`."""

from __future__ import annotations

from functools import partial

import numpy as np

from ilv_dataset.simulation.meshes import (
    Mesh,
    ellipsoid,
    merge_meshes,
    move_mesh,
    open_box,
    tube,
)
from ilv_dataset.simulation.nouns import DARK_GREY, PAPER, STEEL, Grasp, Noun, Part, Seat, spin


def _ring_handle(x: float, z: float, *, reach: float, rise: float, rod: float) -> Mesh:
    """A handle bent in the xz plane: from (x, z + rise) out by `reach` and back to z - rise."""
    angles = np.linspace(np.pi / 2, -np.pi / 2, 9)
    path = [(x + reach * np.cos(a), 0.0, z + rise * np.sin(a)) for a in angles]
    return tube(path, [rod] * len(path), sides=10)


def _pot_handles() -> Mesh:
    one = _ring_handle(0.066, 0.065, reach=0.026, rise=0.012, rod=0.006)
    return merge_meshes([one, move_mesh(one, (0.0, 0.0, 0.0), yaw=np.pi)])


TABLEWARE = (
    Noun(
        "mug",
        (
            Part(spin(0, 0, 34, 0, 37, 4, 37, 85, 33, 85, 31, 8, 0, 8)),
            Part(partial(_ring_handle, 0.035, 0.044, reach=0.027, rise=0.024, rod=0.006)),
        ),
        radius_m=0.069,
        body_m=0.037,
        height_m=0.085,
        grasp=Grasp((0.0, 0.0, 0.055), 0.074),
        yaw_rad=(-2.2, 2.2),
    ),
    Noun(
        "can",
        (
            Part(spin(0, 0, 27, 0, 33, 8, 33, 106)),
            Part(
                spin(33, 106, 28, 114, 26, 111, 0, 111),
                rgb=STEEL,
            ),
        ),
        radius_m=0.034,
        height_m=0.114,
        grasp=Grasp((0.0, 0.0, 0.080), 0.066),
    ),
    Noun(
        "bottle",
        (
            Part(spin(0, 0, 33, 0, 35, 4, 35, 105, 31, 122, 15, 145, 14, 160)),
            Part(spin(35.4, 45, 35.4, 85), rgb=PAPER),
            Part(
                spin(14, 156, 17, 156, 17, 176, 0, 176),
                rgb=DARK_GREY,
            ),
        ),
        radius_m=0.036,
        height_m=0.176,
        grasp=Grasp((0.0, 0.0, 0.145), 0.030),
    ),
    Noun(
        "spoon",
        (
            Part(partial(ellipsoid, (0.030, 0.020, 0.006), (0.055, 0.0, 0.009))),
            Part(
                partial(
                    tube,
                    [
                        (0.034, 0.0, 0.008),
                        (0.0, 0.0, 0.010),
                        (-0.05, 0.0, 0.010),
                        (-0.085, 0.0, 0.009),
                    ],
                    (0.005, 0.006, 0.007, 0.006),
                    sides=10,
                )
            ),
        ),
        radius_m=0.090,
        foot_m=0.067,
        height_m=0.018,
        grasp=Grasp((-0.02, 0.0, 0.010), 0.013),
    ),
)

CONTAINERS = (
    Noun(
        "bowl",
        (Part(spin(0, 0, 40, 0, 44, 4, 63, 30, 72, 58, 68, 58, 60, 32, 48, 12, 0, 8)),),
        radius_m=0.073,
        height_m=0.058,
        grasp=Grasp((0.0, 0.068, 0.048), 0.010),
        seat=Seat("into", 0.045, 0.010),
    ),
    Noun(
        "plate",
        (
            Part(spin(0, 0, 50, 0, 88, 16, 88, 19, 60, 9)),
            Part(spin(60, 9, 54, 6, 0, 6), shade=0.8),
        ),
        radius_m=0.089,
        height_m=0.019,
        grasp=Grasp((0.0, 0.080, 0.014), 0.010),
        seat=Seat("onto", 0.064, 0.007),
        is_mover=False,
    ),
    Noun(
        "pan",
        (
            Part(spin(0, 0, 78, 0, 88, 38, 84, 38, 75, 6, 0, 5)),
            Part(
                partial(
                    tube,
                    [(0.084, 0.0, 0.030), (0.115, 0.0, 0.036), (0.152, 0.0, 0.042)],
                    (0.008, 0.008, 0.010),
                ),
                rgb=DARK_GREY,
            ),
        ),
        radius_m=0.154,
        body_m=0.088,
        height_m=0.052,
        grasp=Grasp((0.130, 0.0, 0.038), 0.018),
        colours=("red", "blue", "green", "black", "orange", "white"),
        seat=Seat("into", 0.066, 0.006),
        is_mover=False,
    ),
    Noun(
        "pot",
        (
            Part(spin(0, 0, 64, 0, 68, 5, 68, 85, 64, 85, 63, 8, 0, 6)),
            Part(_pot_handles, rgb=DARK_GREY),
        ),
        radius_m=0.099,
        body_m=0.068,
        height_m=0.085,
        grasp=Grasp((0.0, 0.066, 0.070), 0.010),
        colours=("red", "blue", "green", "orange", "white", "black", "purple"),
        seat=Seat("into", 0.056, 0.007),
        is_mover=False,
    ),
    Noun(
        "box",
        (Part(partial(open_box, (0.15, 0.12, 0.070), wall=0.006, floor=0.006)),),
        radius_m=0.097,
        height_m=0.070,
        grasp=Grasp((0.0, 0.057, 0.060), 0.010),
        seat=Seat("into", 0.054, 0.006),
        is_mover=False,
    ),
    Noun(
        "tray",
        (Part(partial(open_box, (0.21, 0.15, 0.022), wall=0.007, floor=0.006)),),
        radius_m=0.130,
        height_m=0.022,
        grasp=Grasp((0.0, 0.072, 0.018), 0.010),
        seat=Seat("onto", 0.072, 0.006),
        is_mover=False,
    ),
)
