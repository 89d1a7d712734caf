"""What one table looks like before anything moves: things, places, table, light and camera.

Pure values drawn from a random generator; the renderer and the motion read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ilv_dataset.simulation.nouns import Noun, Rgb
from ilv_dataset.simulation.textures import TABLE_KINDS
from ilv_dataset.simulation.vocabulary import NOUNS

# The part of the table that the arm reaches, metres: x away from its base, y to its left.
WORKSPACE_XY_M = ((0.40, 0.68), (-0.23, 0.23))
GAP_M = 0.012  # between the footprints of two things
PLACE_TRIES = 200
ARM_COLOURS: tuple[Rgb, ...] = ((0.88, 0.88, 0.88), (0.62, 0.63, 0.66), (0.28, 0.28, 0.30))
FLOORS: tuple[Rgb, ...] = ((0.45, 0.43, 0.41), (0.36, 0.38, 0.40), (0.58, 0.55, 0.50))


@dataclass(frozen=True)
class Thing:
    """One object of a scene; `size` is "small" or "large" where a twin stands beside it."""

    noun: str
    colour: str
    scale: float = 1.0
    size: str = ""

    @property
    def name(self) -> str:
        """What the dataset calls it, e.g. `red mug` or `small red block`."""
        return " ".join(word for word in (self.size, self.colour, self.noun) if word)

    @property
    def kind(self) -> Noun:
        """Its row of the vocabulary, in metres at scale 1."""
        return NOUNS[self.noun]

    @property
    def radius_m(self) -> float:
        """Radius of the circle that holds its footprint."""
        return self.kind.radius_m * self.scale

    @property
    def foot_m(self) -> float:
        """Radius of what it needs of a seat."""
        return (self.kind.foot_m or self.kind.radius_m) * self.scale


@dataclass(frozen=True)
class Camera:
    """A pinhole that looks from `eye_xyz` at `target_xyz`, metres; square frames."""

    eye_xyz: tuple[float, float, float]
    target_xyz: tuple[float, float, float]
    fov_deg: float


@dataclass(frozen=True)
class Light:
    """One lamp far away; `towards_xyz` points from the table to it."""

    towards_xyz: tuple[float, float, float]
    rgb: Rgb
    ambient: float
    diffuse: float
    shadow: float  # share of the light that a shadow takes, 0..1


@dataclass(frozen=True)
class Look:
    """All that changes the picture but not the task."""

    table_kind: str
    table_seed: int
    floor_rgb: Rgb
    arm_rgb: Rgb
    light: Light
    camera: Camera


@dataclass(frozen=True, eq=False)
class Scene:
    """Things at rest on a table."""

    things: tuple[Thing, ...]
    poses: np.ndarray  # (N, 4) float64: x, y, z in metres of the thing's foot, yaw in radians
    look: Look

    def __post_init__(self) -> None:
        if self.poses.shape != (len(self.things), 4):
            raise ValueError(f"poses must be ({len(self.things)}, 4), got {self.poses.shape}")


def draw_look(rng: np.random.Generator, *, elevation_deg: tuple[float, float] = (38, 54)) -> Look:
    """A table, a light and a camera that faces the arm from the other side of the table."""
    return Look(
        table_kind=TABLE_KINDS[int(rng.integers(len(TABLE_KINDS)))],
        table_seed=int(rng.integers(2**31)),
        floor_rgb=FLOORS[int(rng.integers(len(FLOORS)))],
        arm_rgb=ARM_COLOURS[int(rng.integers(len(ARM_COLOURS)))],
        light=_draw_light(rng),
        camera=_draw_camera(rng, elevation_deg),
    )


def draw_places(things: Sequence[Thing], rng: np.random.Generator) -> np.ndarray | None:
    """Poses (N, 4) at which no two footprints touch, or None where there is no room.

    Large things are placed first, so that small ones fill what is left.
    """
    poses = np.zeros((len(things), 4))
    placed: list[int] = []
    for index in sorted(range(len(things)), key=lambda i: -things[i].radius_m):
        for _ in range(PLACE_TRIES):
            xy = [round(float(rng.uniform(*bounds)), 4) for bounds in WORKSPACE_XY_M]
            others = [(poses[i, :2], things[i].radius_m) for i in placed]
            if is_free(np.asarray(xy), things[index].radius_m, others):
                break
        else:
            return None
        poses[index] = (*xy, 0.0, round(float(rng.uniform(*things[index].kind.yaw_rad)), 4))
        placed.append(index)
    return poses


def is_free(xy: np.ndarray, radius_m: float, others: Sequence[tuple[np.ndarray, float]]) -> bool:
    """True where a circle keeps its distance from all the other (centre, radius)."""
    return all(
        float(np.hypot(*(xy - place))) >= radius_m + other_m + GAP_M for place, other_m in others
    )


def _draw_light(rng: np.random.Generator) -> Light:
    # From the camera's side of the table, so that the arm's shadow falls behind it.
    azimuth, height = rng.uniform(-1.7, 1.7), rng.uniform(0.85, 1.25)
    towards = (np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height))
    warm = float(rng.uniform(-0.05, 0.05))
    ambient = float(rng.uniform(0.52, 0.66))
    return Light(
        towards_xyz=_rounded(towards),
        rgb=_rounded((1.0 + min(warm, 0.0), 1.0 - abs(warm) / 2, 1.0 - max(warm, 0.0))),
        ambient=round(ambient, 4),
        diffuse=round(float(rng.uniform(0.95, 1.06)) - ambient, 4),
        shadow=round(float(rng.uniform(0.32, 0.5)), 4),
    )


def _draw_camera(rng: np.random.Generator, elevation_deg: tuple[float, float]) -> Camera:
    azimuth = np.deg2rad(rng.uniform(-38, 38))
    height = np.deg2rad(rng.uniform(*elevation_deg))
    target = np.array([rng.uniform(0.50, 0.53), rng.uniform(-0.02, 0.02), 0.04])
    towards = np.array(
        [np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)]
    )
    eye = target + towards * rng.uniform(0.82, 0.92)
    return Camera(_rounded(eye), _rounded(target), round(float(rng.uniform(38, 42)), 3))


def _rounded(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Four decimals: coarser than any difference between two machines' cosines."""
    x, y, z = (round(float(value), 4) for value in values)
    return x, y, z
