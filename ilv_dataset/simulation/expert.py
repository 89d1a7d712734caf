"""The scripted expert: reach, grasp, lift, move, place and retreat, as a list of actions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ilv_dataset.simulation.motion import Arrangement, advance, grasp_pose, rotate_xy
from ilv_dataset.simulation.scenes import Scene
from ilv_dataset.simulation.tasks import Task

STEP_M = 0.14  # what the gripper moves in a step at most: an episode has some 14 steps
STEP_RAD = 0.9
CLEARANCE_M = 0.035  # between what is carried and the tops of what stands on the table
HOVER_M = (0.15, 0.36)  # bounds of the height of the finger tips on the way
OPEN, CLOSED = 1.0, 0.0


@dataclass(frozen=True, eq=False)
class Waypoint:
    """Where the finger tips go next, and whether they are open once there."""

    xyz: np.ndarray  # (3,) float64 metres
    yaw: float
    gripper: float


def plan_actions(
    scene: Scene, now: Arrangement, task: Task, *, step_m: float = STEP_M
) -> list[np.ndarray]:
    """The actions of one task from where the arm is now; each (7,) float32.

    Carrying them out with `motion.advance` does the task: they are what an episode records.
    """
    actions: list[np.ndarray] = []
    for point in _waypoints(scene, now, task):
        for action in _approach(now, point, step_m):
            actions.append(action)
            now = advance(scene, now, action)
    return actions


def _waypoints(scene: Scene, now: Arrangement, task: Task) -> Iterator[Waypoint]:
    before = now.poses[task.mover]
    thing = scene.things[task.mover]
    take = grasp_pose(thing, before)
    # What is carried keeps its pose in the gripper, so both turn by as much.
    turned = float(task.goal[3] - before[3])
    offset = rotate_xy(take[:2] - before[:2], turned)
    put = np.array([*(task.goal[:2] + offset), task.goal[2] + take[2] - before[2]])
    put[2] += task.lift_m
    put_yaw = float(take[3]) + turned
    hover = _hover_m(scene, now, task, grip_m=float(take[2] - before[2]))
    above_take, above_put = np.array([*take[:2], hover]), np.array([*put[:2], hover])
    yield Waypoint(above_take, float(take[3]), OPEN)
    yield Waypoint(take[:3], float(take[3]), OPEN)
    yield Waypoint(take[:3], float(take[3]), CLOSED)
    if not task.is_dragged:
        yield Waypoint(above_take, float(take[3]), CLOSED)
        yield Waypoint(above_put, put_yaw, CLOSED)
    yield Waypoint(put, put_yaw, CLOSED)
    yield Waypoint(put, put_yaw, OPEN)
    yield Waypoint(above_put, put_yaw, OPEN)


def _hover_m(scene: Scene, now: Arrangement, task: Task, *, grip_m: float) -> float:
    """Height of the finger tips at which the mover passes over everything else."""
    tops = [
        float(pose[2]) + thing.kind.height_m * thing.scale
        for index, (thing, pose) in enumerate(zip(scene.things, now.poses, strict=True))
        if index != task.mover
    ]
    low, high = HOVER_M
    return min(max(max(tops, default=0.0) + grip_m + CLEARANCE_M, low), high)


def _approach(now: Arrangement, point: Waypoint, step_m: float) -> Iterator[np.ndarray]:
    """Equal steps to a waypoint; the gripper's change is a step of its own."""
    yaw_change = point.yaw - float(now.gripper_pose[5])
    change = np.array([*(point.xyz - now.gripper_pose[:3]), 0.0, 0.0, yaw_change])
    distance = float(np.linalg.norm(change[:3]))
    steps = int(np.ceil(max(distance / step_m, abs(yaw_change) / STEP_RAD) - 1e-6))
    before = OPEN if now.is_open else CLOSED
    for _ in range(steps):
        yield np.append(change / steps, before).astype(np.float32)
    if point.gripper != before:
        yield np.append(np.zeros(6), point.gripper).astype(np.float32)
