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
    prism,
    tube,
)
from ilv_dataset.simulation.nouns import (
    BEAK,
    BRIGHT,
    CREAM,
    DARK_GREY,
    INK,
    NOT_PAPER,
    PAPER,
    Grasp,
    Noun,
    Part,
    Rgb,
    Seat,
    spin,
)

GLASS: Rgb = (0.24, 0.28, 0.32)


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


def _wheels() -> Mesh:
    rims = [(x, side * y) for x in (-0.031, 0.031) for y in (0.030,) for side in (-1, 1)]
    return merge_meshes(
        [tube([(x, y - 0.006, 0.0145), (x, y + 0.006, 0.0145)], (0.0145,) * 2) for x, y in rims]
    )


def _car_body() -> Mesh:
    roof = cuboid((0.044, 0.046, 0.005), (-0.006, 0.0, 0.060))
    return merge_meshes([cuboid((0.108, 0.054, 0.028), (0.0, 0.0, 0.011)), roof])


def _lamps() -> Mesh:
    return merge_meshes([cuboid((0.003, 0.012, 0.010), (0.054, y, 0.022)) for y in (-0.017, 0.017)])


def _star() -> Mesh:
    angles = np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2, 0.021, 0.050)
    return prism(np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1).tolist(), 0.0, 0.024)


def _bear() -> Mesh:
    limbs = [
        part
        for y in (-1.0, 1.0)
        for part in (
            ellipsoid((0.013, 0.011, 0.021), (0.016, y * 0.032, 0.042), sides=14),
            ellipsoid((0.024, 0.014, 0.013), (0.026, y * 0.021, 0.013), sides=14),
            ellipsoid((0.007, 0.012, 0.012), (0.000, y * 0.023, 0.100), sides=14),
        )
    ]
    body = ellipsoid((0.028, 0.031, 0.035), (-0.004, 0.0, 0.035))
    return merge_meshes([body, ellipsoid((0.026, 0.029, 0.026), (0.002, 0.0, 0.082)), *limbs])


def _bear_pale() -> Mesh:
    soles = [ellipsoid((0.004, 0.010, 0.010), (0.049, y, 0.014), sides=10) for y in (-0.021, 0.021)]
    muzzle = ellipsoid((0.011, 0.014, 0.010), (0.024, 0.0, 0.076), sides=14)
    return merge_meshes([muzzle, ellipsoid((0.008, 0.018, 0.021), (0.020, 0.0, 0.036)), *soles])


def _bear_face() -> Mesh:
    eyes = [ellipsoid((0.004,) * 3, (0.0235, y, 0.089), sides=8) for y in (-0.011, 0.011)]
    return merge_meshes([*eyes, ellipsoid((0.004, 0.006, 0.004), (0.034, 0.0, 0.080), sides=10)])


def _airplane() -> Mesh:
    hull = tube(
        [(x, 0.0, z) for x, z in ((-0.080, 0.032), (-0.05, 0.028), (0.0, 0.024), (0.05, 0.022))]
        + [(0.068, 0.0, 0.021), (0.078, 0.0, 0.020)],
        (0.004, 0.012, 0.018, 0.018, 0.013, 0.005),
    )
    wing = [(-0.032, -0.088), (-0.010, -0.088), (0.026, 0.0), (-0.010, 0.088), (-0.032, 0.088)]
    tail = [(-0.084, -0.034), (-0.070, -0.034), (-0.050, 0.0), (-0.070, 0.034), (-0.084, 0.034)]
    wings = [
        prism([*wing, (-0.014, 0.0)], 0.016, 0.021),
        prism([*tail, (-0.074, 0.0)], 0.032, 0.036),
    ]
    fin = cuboid((0.018, 0.004, 0.030), (-0.074, 0.0, 0.034))
    return merge_meshes(
        [
            hull,
            *wings,
            fin,
            *[ellipsoid((0.018, 0.007, 0.007), (0.014, y, 0.010)) for y in (-0.034, 0.034)],
        ]
    )


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
        colours=NOT_PAPER,
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
            Part(_eyes, rgb=INK),
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
    Noun(
        "car",
        (
            Part(_car_body),
            Part(partial(cuboid, (0.052, 0.044, 0.022), (-0.006, 0.0, 0.039)), rgb=GLASS),
            Part(_wheels, rgb=DARK_GREY),
            Part(_lamps, rgb=PAPER),
        ),
        radius_m=0.064,
        foot_m=0.058,
        height_m=0.065,
        grasp=Grasp((0.0, 0.0, 0.030), 0.056),
    ),
    Noun(
        "star",
        (Part(_star),),
        radius_m=0.051,
        height_m=0.024,
        grasp=Grasp((-0.007, 0.0, 0.013), 0.042),
    ),
    Noun(
        "bear",
        (Part(_bear), Part(_bear_pale, rgb=CREAM), Part(_bear_face, rgb=INK)),
        radius_m=0.059,
        foot_m=0.052,
        height_m=0.112,
        grasp=Grasp((0.0, 0.0, 0.070), 0.060),
        colours=("brown", "pink", "blue", "grey", "purple", "turquoise"),
        yaw_rad=(-2.2, 2.2),
    ),
    Noun(
        "airplane",
        (
            Part(_airplane),
            Part(partial(ellipsoid, (0.016, 0.012, 0.010), (0.040, 0.0, 0.034)), rgb=GLASS),
        ),
        radius_m=0.094,
        body_m=0.070,
        foot_m=0.068,
        height_m=0.064,
        grasp=Grasp((0.030, 0.0, 0.024), 0.036),
    ),
)
