"""Things without a name, in dull colours: what a table also holds and no phrase asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ilv_dataset.simulation.meshes import Mesh, cuboid, lathe, merge_meshes, move_mesh, tube
from ilv_dataset.simulation.nouns import Rgb
from ilv_dataset.simulation.scenes import is_free

NUM_SHAPES = 40  # procedural ones, each from its number
NUM_MODELS = 1000  # pybullet_data/random_urdfs/000 … 999
MODEL_SCALE = (0.007, 0.014)  # their URDFs say 0.015, which is as large as a mug
CLUTTER_SHARE = 0.5  # of the stills have some
CLUTTER_MAX = 4
MODEL_SHARE = 0.6  # of the clutter is of pybullet_data
RADIUS_M = 0.045
TRIES = 20


@dataclass(frozen=True)
class Clutter:
    """One thing without a name; `number` of a model or of a procedural shape."""

    number: int
    is_model: bool
    scale: float
    rgb: Rgb
    xyz_m: tuple[float, float, float]
    rpy: tuple[float, float, float]

    @property
    def name(self) -> str:
        """Of its mesh among all meshes of a stage."""
        return f"{'model' if self.is_model else 'clutter'}-{self.number}"

    def mesh_file(self, models: Path) -> Path:
        """Where pybullet_data, unpacked at `models`, has its mesh."""
        return models / "random_urdfs" / f"{self.number:03d}" / f"{self.number:03d}.obj"


def draw_clutter(
    rng: np.random.Generator,
    bounds_xy_m: Sequence[tuple[float, float]],
    others: Sequence[tuple[np.ndarray, float]],
) -> list[Clutter]:
    """Some clutter within the bounds that keeps away from circles of (centre, radius), or none."""
    if rng.random() >= CLUTTER_SHARE:
        return []
    taken, drawn = list(others), []
    for _ in range(int(rng.integers(1, CLUTTER_MAX + 1))):
        for _ in range(TRIES):
            xy = np.array([rng.uniform(*bounds) for bounds in bounds_xy_m])
            if is_free(xy, RADIUS_M, taken):
                drawn.append(_draw_one(rng, xy))
                taken.append((xy, RADIUS_M))
                break
    return drawn


def _draw_one(rng: np.random.Generator, xy: np.ndarray) -> Clutter:
    is_model = bool(rng.random() < MODEL_SHARE)
    yaw = float(rng.uniform(-np.pi, np.pi))
    # Models lie in any way, sunk into the table where they would float.
    tilt = [float(value) for value in rng.uniform(-np.pi, np.pi, 2)] if is_model else [0.0, 0.0]
    grey = float(rng.uniform(0.12, 0.80))
    red, green, blue = (float(np.clip(grey + rng.uniform(-0.05, 0.05), 0, 1)) for _ in range(3))
    return Clutter(
        number=int(rng.integers(NUM_MODELS if is_model else NUM_SHAPES)),
        is_model=is_model,
        scale=float(rng.uniform(*MODEL_SCALE) if is_model else rng.uniform(0.8, 1.2)),
        rgb=(red, green, blue),
        xyz_m=(float(xy[0]), float(xy[1]), 0.012 if is_model else 0.0),
        rpy=(tilt[0], tilt[1], yaw),
    )


def shape_clutter(number: int) -> Mesh:
    """The procedural shape of a number: a stick, an odd-sided tower, a bent rod or some steps."""
    rng = np.random.default_rng([number, 7])
    kind = number % 4
    if kind == 0:
        return cuboid((rng.uniform(0.09, 0.16), rng.uniform(0.008, 0.02), rng.uniform(0.006, 0.02)))
    if kind == 1:
        low, middle, top = rng.uniform(0.012, 0.04, 3)
        rise = rng.uniform(0.02, 0.06)
        outline = [(0.0, 0.0), (low, 0.0), (middle, rise / 2), (top, rise), (0.0, rise)]
        return lathe(outline, sides=(3, 5, 6)[number % 3])
    if kind == 2:
        bends = rng.uniform(-0.03, 0.03, (5, 2))
        path = [(-0.06 + 0.03 * k, bends[k, 0], 0.012 + abs(bends[k, 1])) for k in range(5)]
        return tube(path, [rng.uniform(0.005, 0.011)] * 5, sides=8)
    steps = [
        move_mesh(
            cuboid((*rng.uniform(0.015, 0.06, 2), rng.uniform(0.008, 0.04))),
            (*rng.uniform(-0.02, 0.02, 2), 0.0),
            yaw=float(rng.uniform(0, np.pi)),
        )
        for _ in range(3)
    ]
    return merge_meshes(steps)
