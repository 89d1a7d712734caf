"""The nouns and colours of the simulation, as data: what an object looks like and how it is held.

To widen the vocabulary add rows here; scenes, wording and motion follow. Metres throughout; every
object stands on z = 0 in its own frame, long along x, narrow along y.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from ilv_dataset.simulation.meshes import (
    Mesh,
    cuboid,
    ellipsoid,
    lathe,
    merge_meshes,
    move_mesh,
    open_box,
    tube,
)

Rgb = tuple[float, float, float]

# Display colours chosen by eye for the renderer's light: far apart, none as pale as the tables.
COLOURS: Mapping[str, Rgb] = {
    "red": (0.80, 0.07, 0.06),
    "orange": (0.96, 0.45, 0.03),
    "yellow": (0.97, 0.82, 0.06),
    "green": (0.10, 0.55, 0.15),
    "blue": (0.08, 0.25, 0.78),
    "purple": (0.42, 0.13, 0.58),
    "pink": (0.96, 0.48, 0.66),
    "brown": (0.40, 0.22, 0.10),
    "white": (0.94, 0.94, 0.92),
    "black": (0.07, 0.07, 0.08),
}
ANY_COLOUR = tuple(COLOURS)
BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink")

DARK_GREY: Rgb = (0.16, 0.16, 0.17)
STEEL: Rgb = (0.70, 0.71, 0.73)
LEAF: Rgb = (0.17, 0.45, 0.12)
STALK: Rgb = (0.35, 0.24, 0.12)
CREAM: Rgb = (0.93, 0.88, 0.76)
PAPER: Rgb = (0.93, 0.93, 0.90)
BEAK: Rgb = (0.95, 0.50, 0.05)
BUN: Rgb = (0.78, 0.53, 0.27)


@dataclass(frozen=True)
class Part:
    """One mesh of an object: in the object's colour times `shade`, or in a colour of its own."""

    shape: Callable[[], Mesh]
    rgb: Rgb | None = None
    shade: float = 1.0


@dataclass(frozen=True)
class Grasp:
    """Where the finger tips close, in the object's frame; they close along its y axis."""

    xyz_m: tuple[float, float, float]
    width_m: float


@dataclass(frozen=True)
class Seat:
    """Where another object comes to rest: `relation` is "into" or "onto"."""

    relation: str
    radius_m: float
    z_m: float
    has_rim: bool = True


@dataclass(frozen=True)
class Noun:
    """One kind of object.

    `radius_m` is the circle about its origin that holds its footprint, `body_m` the same without
    its handles (0 where it has none); `rolls` keeps it off
    seats without a rim; `seat` is None where nothing can be put; `is_mover` is False for what
    stays where it is.
    """

    name: str
    parts: tuple[Part, ...]
    radius_m: float
    height_m: float
    grasp: Grasp
    colours: tuple[str, ...] = ANY_COLOUR
    seat: Seat | None = None
    rolls: bool = False
    is_mover: bool = True
    body_m: float = 0.0
    yaw_rad: tuple[float, float] = (-np.pi, np.pi)  # how it may stand, 0 facing the camera


def _ring_handle(x: float, z: float, *, reach: float, rise: float, rod: float) -> Mesh:
    """A handle bent in the xz plane: from (x, z + rise) out by `reach` and back to z - rise."""
    angles = np.linspace(np.pi / 2, -np.pi / 2, 9)
    path = [(x + reach * np.cos(a), 0.0, z + rise * np.sin(a)) for a in angles]
    return tube(path, [rod] * len(path), sides=10)


def _banana() -> Mesh:
    angles = np.linspace(-0.85, 0.85, 11)
    path = [(0.085 * np.sin(a), 0.085 * np.cos(a) - 0.072, 0.017) for a in angles]
    radii = (0.004, 0.008, 0.013, 0.016, 0.017, 0.017, 0.017, 0.016, 0.013, 0.008, 0.005)
    return tube(path, radii)


def _brick() -> Mesh:
    stud = lathe([(0.0, 0.0), (0.0075, 0.0), (0.0075, 0.007), (0.0, 0.007)], sides=14)
    places = [(x, y) for x in (-0.033, -0.011, 0.011, 0.033) for y in (-0.011, 0.011)]
    studs = [move_mesh(stud, (x, y, 0.034)) for x, y in places]
    return merge_meshes([cuboid((0.09, 0.046, 0.034)), *studs])


def _torus_half(top: bool) -> Mesh:
    start = 0.0 if top else np.pi
    angles = np.linspace(start - 0.12, start + np.pi + 0.12, 13)
    size = 0.0172 if top else 0.0165
    return lathe([(0.026 + size * np.cos(a), 0.017 + size * np.sin(a)) for a in angles])


def _book_cover() -> Mesh:
    boards = [cuboid((0.15, 0.11, 0.004), (0.0, 0.0, z)) for z in (0.0, 0.022)]
    return merge_meshes([*boards, cuboid((0.15, 0.004, 0.018), (0.0, -0.053, 0.004))])


def _pot_handles() -> Mesh:
    one = _ring_handle(0.066, 0.065, reach=0.026, rise=0.012, rod=0.006)
    return merge_meshes([one, move_mesh(one, (0.0, 0.0, 0.0), yaw=np.pi)])


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


_DRINKS = (
    Noun(
        "mug",
        (
            Part(
                partial(
                    lathe,
                    [(0.0, 0.0), (0.034, 0.0), (0.037, 0.004), (0.037, 0.085), (0.033, 0.085)]
                    + [(0.031, 0.008), (0.0, 0.008)],
                )
            ),
            Part(partial(_ring_handle, 0.035, 0.044, reach=0.027, rise=0.024, rod=0.006)),
        ),
        radius_m=0.065,
        body_m=0.037,
        height_m=0.085,
        grasp=Grasp((0.0, 0.0, 0.055), 0.074),
        yaw_rad=(-2.2, 2.2),
    ),
    Noun(
        "can",
        (
            Part(partial(lathe, [(0.0, 0.0), (0.027, 0.0), (0.033, 0.008), (0.033, 0.106)])),
            Part(
                partial(lathe, [(0.033, 0.106), (0.028, 0.114), (0.026, 0.111), (0.0, 0.111)]),
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
            Part(
                partial(
                    lathe,
                    [(0.0, 0.0), (0.033, 0.0), (0.035, 0.004), (0.035, 0.105), (0.031, 0.122)]
                    + [(0.015, 0.145), (0.014, 0.160)],
                )
            ),
            Part(partial(lathe, [(0.0354, 0.045), (0.0354, 0.085)]), rgb=PAPER),
            Part(
                partial(lathe, [(0.014, 0.156), (0.017, 0.156), (0.017, 0.176), (0.0, 0.176)]),
                rgb=DARK_GREY,
            ),
        ),
        radius_m=0.036,
        height_m=0.176,
        grasp=Grasp((0.0, 0.0, 0.145), 0.030),
    ),
)

_FOODS = (
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
            Part(
                partial(
                    lathe,
                    [(0.0, 0.004), (0.014, 0.0), (0.026, 0.008), (0.034, 0.022), (0.037, 0.038)]
                    + [(0.034, 0.054), (0.024, 0.065), (0.013, 0.066), (0.005, 0.061), (0.0, 0.058)],
                )
            ),
            Part(
                partial(tube, [(0.0, 0.0, 0.056), (0.002, 0.0, 0.070), (0.008, 0.0, 0.080)], (0.003,) * 3),
                rgb=STALK,
            ),
            Part(partial(ellipsoid, (0.013, 0.007, 0.002), (0.014, 0.004, 0.073)), rgb=LEAF),
        ),
        radius_m=0.038,
        height_m=0.066,
        grasp=Grasp((0.0, 0.0, 0.036), 0.074),
        colours=("red", "green"),
        rolls=True,
    ),
    Noun(
        "pear",
        (
            Part(
                partial(
                    lathe,
                    [(0.0, 0.003), (0.012, 0.0), (0.026, 0.008), (0.033, 0.026), (0.031, 0.042)]
                    + [(0.022, 0.060), (0.016, 0.076), (0.010, 0.084), (0.0, 0.086)],
                )
            ),
            Part(partial(tube, [(0.0, 0.0, 0.084), (0.004, 0.0, 0.102)], (0.003, 0.003)), rgb=STALK),
        ),
        radius_m=0.034,
        height_m=0.086,
        grasp=Grasp((0.0, 0.0, 0.048), 0.058),
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
                    [(0.044, 0.0, 0.028), (0.052, 0.0, 0.028), (0.062, 0.0, 0.028), (0.080, 0.0, 0.031)],
                    (0.0185, 0.017, 0.007, 0.004),
                ),
                rgb=LEAF,
            ),
        ),
        radius_m=0.082,
        height_m=0.056,
        grasp=Grasp((-0.01, 0.0, 0.026), 0.054),
        colours=("purple",),
        rolls=True,
    ),
    Noun(
        "mushroom",
        (
            Part(
                partial(lathe, [(0.0, 0.0), (0.015, 0.0), (0.018, 0.004), (0.014, 0.050)]),
                rgb=CREAM,
            ),
            Part(
                partial(
                    lathe,
                    [(0.0, 0.046), (0.033, 0.042), (0.037, 0.046), (0.034, 0.058), (0.025, 0.069)]
                    + [(0.013, 0.075), (0.0, 0.077)],
                )
            ),
        ),
        radius_m=0.038,
        height_m=0.077,
        grasp=Grasp((0.0, 0.0, 0.050), 0.074),
        colours=("red", "brown", "white"),
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

_TOYS = (
    Noun(
        "ball",
        (Part(partial(ellipsoid, (0.035,) * 3, (0.0, 0.0, 0.035))),),
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
        grasp=Grasp((0.0, 0.0, 0.030), 0.060),
        colours=("yellow", "white", "blue", "pink", "red"),
    ),
    Noun(
        "cone",
        (
            Part(partial(cuboid, (0.074, 0.074, 0.006))),
            Part(partial(lathe, [(0.030, 0.006), (0.021, 0.040)])),
            Part(partial(lathe, [(0.021, 0.040), (0.014, 0.064)]), rgb=PAPER),
            Part(partial(lathe, [(0.014, 0.064), (0.007, 0.092), (0.0, 0.093)])),
        ),
        radius_m=0.053,
        height_m=0.093,
        grasp=Grasp((0.0, 0.0, 0.062), 0.030),
        colours=BRIGHT,
    ),
)

_TOOLS = (
    Noun(
        "spoon",
        (
            Part(partial(ellipsoid, (0.030, 0.020, 0.006), (0.055, 0.0, 0.009))),
            Part(
                partial(
                    tube,
                    [(0.034, 0.0, 0.008), (0.0, 0.0, 0.010), (-0.05, 0.0, 0.010), (-0.085, 0.0, 0.009)],
                    (0.005, 0.006, 0.007, 0.006),
                    sides=10,
                )
            ),
        ),
        radius_m=0.090,
        height_m=0.018,
        grasp=Grasp((-0.02, 0.0, 0.010), 0.013),
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

_CONTAINERS = (
    Noun(
        "bowl",
        (
            Part(
                partial(
                    lathe,
                    [(0.0, 0.0), (0.040, 0.0), (0.044, 0.004), (0.063, 0.030), (0.072, 0.058)]
                    + [(0.068, 0.058), (0.060, 0.032), (0.048, 0.012), (0.0, 0.008)],
                )
            ),
        ),
        radius_m=0.073,
        height_m=0.058,
        grasp=Grasp((0.0, 0.068, 0.048), 0.010),
        seat=Seat("into", 0.045, 0.010),
    ),
    Noun(
        "plate",
        (
            Part(
                partial(
                    lathe,
                    [(0.0, 0.0), (0.050, 0.0), (0.088, 0.016), (0.088, 0.019), (0.060, 0.009)]
                    + [(0.054, 0.006), (0.0, 0.006)],
                )
            ),
        ),
        radius_m=0.089,
        height_m=0.019,
        grasp=Grasp((0.0, 0.080, 0.014), 0.010),
        seat=Seat("onto", 0.058, 0.007),
        is_mover=False,
    ),
    Noun(
        "pan",
        (
            Part(
                partial(
                    lathe,
                    [(0.0, 0.0), (0.070, 0.0), (0.080, 0.036), (0.076, 0.036), (0.067, 0.006)]
                    + [(0.0, 0.005)],
                )
            ),
            Part(
                partial(tube, [(0.076, 0.0, 0.028), (0.12, 0.0, 0.036), (0.175, 0.0, 0.044)], (0.008, 0.008, 0.010)),
                rgb=DARK_GREY,
            ),
        ),
        radius_m=0.135,
        body_m=0.080,
        height_m=0.036,
        grasp=Grasp((0.145, 0.0, 0.038), 0.018),
        colours=("red", "blue", "green", "black", "orange", "white"),
        seat=Seat("into", 0.066, 0.006),
        is_mover=False,
    ),
    Noun(
        "pot",
        (
            Part(
                partial(
                    lathe,
                    [(0.0, 0.0), (0.064, 0.0), (0.068, 0.005), (0.068, 0.085), (0.064, 0.085)]
                    + [(0.063, 0.008), (0.0, 0.006)],
                )
            ),
            Part(_pot_handles, rgb=DARK_GREY),
        ),
        radius_m=0.094,
        body_m=0.068,
        height_m=0.085,
        grasp=Grasp((0.0, 0.066, 0.070), 0.010),
        colours=("red", "blue", "green", "orange", "white", "black", "purple"),
        seat=Seat("into", 0.060, 0.007),
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
        seat=Seat("onto", 0.068, 0.006),
        is_mover=False,
    ),
)

NOUNS: Mapping[str, Noun] = {
    noun.name: noun for noun in (*_DRINKS, *_FOODS, *_TOYS, *_TOOLS, *_CONTAINERS)
}

# Nouns that people mix up or use for each other: never two of a group on one table.
ALIKE = (frozenset({"block", "brick"}), frozenset({"tray", "box"}))
# Nouns that may stand on the table twice in one colour, told apart by size.
TWIN_NOUNS = ("block", "ball", "bowl", "plate", "box")
