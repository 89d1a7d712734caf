"""What the tests of the simulation share: a scene by hand."""

import numpy as np

from ilv_dataset.simulation.scenes import Camera, Light, Look, Scene, Thing

LOOK = Look(
    table_kind="plain",
    table_seed=1,
    floor_rgb=(0.4, 0.4, 0.4),
    arm_rgb=(0.9, 0.9, 0.9),
    light=Light((0.3, 0.6, 0.75), (1.0, 1.0, 1.0), ambient=0.6, diffuse=0.4, shadow=0.4),
    camera=Camera((1.2, 0.0, 0.7), (0.52, 0.0, 0.04), 40.0),
)


def make_scene(*things: tuple[str, tuple[float, float]]) -> Scene:
    """Things such as ("red block", (x, y)) on the table, not turned."""
    named = [(*name.split(), place) for name, place in things]
    return Scene(
        tuple(Thing(noun, colour) for colour, noun, _ in named),
        np.array([[*place, 0.0, 0.0] for _, _, place in named]).reshape(-1, 4),
        LOOK,
    )


def make_action(
    *, x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0, gripper: float = 1.0
) -> np.ndarray:
    return np.array([x, y, z, 0.0, 0.0, yaw, gripper], np.float32)
