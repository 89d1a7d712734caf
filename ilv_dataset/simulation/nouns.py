"""What the simulation knows of one kind of object: its looks, how it is held and what it holds.

Metres throughout; every object stands on z = 0 in its own frame, long along x, narrow along y.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from ilv_dataset.simulation.meshes import Mesh, lathe

Rgb = tuple[float, float, float]

# Display colours chosen by eye for the renderer's light: far apart, none as pale as the tables;
# grey is as far from black as from STEEL.
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
    "grey": (0.40, 0.41, 0.43),
    "turquoise": (0.05, 0.70, 0.70),
}
ANY_COLOUR = tuple(COLOURS)
BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "turquoise")
# Of what has parts of steel or paper, which would be taken for its colour.
NOT_STEEL = tuple(colour for colour in COLOURS if colour != "grey")
NOT_PAPER = tuple(colour for colour in COLOURS if colour != "white")

DARK_GREY: Rgb = (0.16, 0.16, 0.17)
STEEL: Rgb = (0.70, 0.71, 0.73)
LEAF: Rgb = (0.17, 0.45, 0.12)
STALK: Rgb = (0.35, 0.24, 0.12)
CREAM: Rgb = (0.93, 0.88, 0.76)
PAPER: Rgb = (0.93, 0.93, 0.90)
BEAK: Rgb = (0.95, 0.50, 0.05)
BUN: Rgb = (0.78, 0.53, 0.27)
INK: Rgb = (0.03, 0.03, 0.03)


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
    its handles, `foot_m` what it needs of a seat, over which thin ends may reach (0: as
    `radius_m`); `rolls` keeps it off
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
    foot_m: float = 0.0
    yaw_rad: tuple[float, float] = (-np.pi, np.pi)  # how it may stand, 0 facing the camera


def spin(*radius_z_mm: float) -> Callable[[], Mesh]:
    """The recipe of an outline turned about z: radius, z, radius, z …, in millimetres.

    The outline goes outwards along the bottom, up the wall and back to the axis.
    """
    outline = np.reshape(radius_z_mm, (-1, 2)) / 1000
    return partial(lathe, [(float(radius), float(z)) for radius, z in outline])
