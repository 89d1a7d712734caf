"""What there is to do on a table: one thing goes into, onto or beside another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ilv_dataset.simulation.motion import fits, grasp_pose, rotate_xy
from ilv_dataset.simulation.scenes import GAP_M, WORKSPACE_XY_M, Scene, is_free

BESIDE_GAP_M = 0.025  # between the footprints of things that end beside each other
BESIDE_MAX_M = 0.08  # a wider gap is not "beside"
DROP_M = 0.01  # the gripper opens this far above what it fills
RIM_GAP_M = 0.008  # between the palm and the rim of what it fills
DRAG_SHARE = 0.5  # of the beside tasks with a clear way are done without lifting
DRAG_MIN_M = 0.08  # what is dragged less far hardly moves
# The hand of a Panda, seen from the finger tips: it begins 45 mm above them and is wider along
# the direction in which the fingers open. Source: franka_panda/meshes/visual/hand.obj.
PALM_M, HAND_HALF_M = 0.045, (0.035, 0.105)
FINGER_HALF_M = (0.012, 0.060)  # the open fingers, between their outer sides


@dataclass(frozen=True, eq=False)
class Task:
    """One instruction's worth of work; `relation` is "into", "onto" or "beside"."""

    relation: str
    mover: int
    target: int
    goal: np.ndarray  # (4,) float64: x, y, z of the mover's foot in metres, and its yaw
    lift_m: float = 0.0  # the gripper opens this far above the goal
    is_dragged: bool = False  # moved along the table, not lifted


def draw_task(
    scene: Scene, mover: int, target: int, relation: str, rng: np.random.Generator
) -> Task | None:
    """A way to do what is asked that hits nothing, or None where there is none."""
    if not _has_room_for_hand(scene, mover, scene.poses[mover], 0.0, {mover}):
        return None
    if _is_loaded(scene, mover) or (relation != "beside" and _is_loaded(scene, target)):
        return None
    lift_m = _lift_m(scene, mover, target) if relation == "into" else 0.0
    for goal in _goals(scene, mover, target, relation, rng):
        skipped = {mover} if relation == "beside" else {mover, target}
        if _has_room_for_hand(scene, mover, goal, lift_m, skipped):
            drag = relation == "beside" and rng.random() < DRAG_SHARE
            drag = drag and _is_way_clear(scene, mover, goal)
            task = Task(relation, mover, target, goal, lift_m, drag)
            return None if is_done(scene, scene.poses, task) else task
    return None


def is_done(scene: Scene, poses: np.ndarray, task: Task) -> bool:
    """True where the mover rests as the task asks, wherever exactly that is."""
    mover, target = scene.things[task.mover], scene.things[task.target]
    away_m = float(np.hypot(*(poses[task.mover, :2] - poses[task.target, :2])))
    rise_m = float(poses[task.mover, 2] - poses[task.target, 2])
    seat = target.kind.seat
    if task.relation == "beside":
        gap_m = away_m - mover.radius_m - target.radius_m
        return gap_m <= BESIDE_MAX_M and rise_m == 0.0
    if seat is None:
        return False
    on_seat = abs(rise_m - seat.z_m * target.scale) < 0.005
    return on_seat and away_m <= seat.radius_m * target.scale


def _goals(
    scene: Scene, mover: int, target: int, relation: str, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Places that would do, each (4,), the preferred ones first."""
    thing, below, poses = scene.things[mover], scene.things[target], scene.poses
    if relation == "beside":
        yield from _places_beside(scene, mover, target, rng)
        return
    seat = below.kind.seat
    if seat is None or not fits(thing, below):
        return
    yaw, square = float(poses[mover, 3]), float(poses[target, 3])
    if not seat.has_rim:  # a block stands square on a block, whichever of its sides is in front
        turns = [square + np.pi / 2 * float(np.round((yaw - square) / (np.pi / 2)))]
    elif thing.foot_m < thing.radius_m:  # long things lie along a tray, not across it
        turns = [square + np.pi * float(np.round((yaw - square) / np.pi))]
    else:
        turns = [yaw + extra for extra in (0.0, 0.5, -0.5, 1.0, -1.0)]
    height = float(poses[target, 2]) + seat.z_m * below.scale
    for turn in turns:
        yield np.array([*poses[target, :2], height, turn])


def _places_beside(
    scene: Scene, mover: int, target: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    thing, other = scene.things[mover], scene.things[target]
    distance = thing.radius_m + other.radius_m + BESIDE_GAP_M
    others = [
        (scene.poses[index, :2], scene.things[index].radius_m)
        for index in range(len(scene.things))
        if index != mover
    ]
    for angle in rng.permutation(16) * (np.pi / 8):
        xy = scene.poses[target, :2] + rotate_xy(np.array([distance, 0.0]), float(angle))
        inside = all(
            low <= value <= high for value, (low, high) in zip(xy, WORKSPACE_XY_M, strict=True)
        )
        if inside and is_free(xy, thing.radius_m, others):
            yield np.array([*xy, 0.0, scene.poses[mover, 3]])


def _lift_m(scene: Scene, mover: int, target: int) -> float:
    """How far above its seat a thing is let go, for the palm is wider than what it fills."""
    thing, below = scene.things[mover], scene.things[target]
    if below.kind.seat is None:
        return DROP_M
    tips_z = below.kind.seat.z_m * below.scale + thing.kind.grasp.xyz_m[2] * thing.scale
    return max(DROP_M, below.kind.height_m * below.scale + RIM_GAP_M - PALM_M - tips_z)


def _has_room_for_hand(
    scene: Scene, mover: int, pose: np.ndarray, lift_m: float, skipped: set[int]
) -> bool:
    """True where hand and fingers, with the mover at `pose`, touch no other thing."""
    tips = grasp_pose(scene.things[mover], pose)
    tips_z = float(tips[2]) + lift_m
    for index, thing in enumerate(scene.things):
        if index in skipped:
            continue
        top = float(scene.poses[index, 2]) + thing.kind.height_m * thing.scale
        away = np.abs(rotate_xy(scene.poses[index, :2] - tips[:2], -float(tips[3])))
        for bottom_z, half in ((tips_z + PALM_M, HAND_HALF_M), (tips_z, FINGER_HALF_M)):
            apart = np.maximum(away - half, 0.0)
            body_m = (thing.kind.body_m or thing.kind.radius_m) * thing.scale
            if top > bottom_z and float(np.hypot(*apart)) < body_m:
                return False
    return True


def _is_loaded(scene: Scene, index: int) -> bool:
    """True where something rests in or on a thing."""
    away = np.hypot(*(scene.poses[:, :2] - scene.poses[index, :2]).T)
    above = scene.poses[:, 2] > scene.poses[index, 2]
    return bool((above & (away < scene.things[index].radius_m)).any())


def _is_way_clear(scene: Scene, mover: int, goal: np.ndarray) -> bool:
    """True where the mover can be dragged straight to its goal."""
    start, end = scene.poses[mover, :2], goal[:2]
    length = float(np.hypot(*(end - start)))
    palm_z = float(grasp_pose(scene.things[mover], scene.poses[mover])[2]) + PALM_M
    if length < DRAG_MIN_M:
        return False
    for index, thing in enumerate(scene.things):
        if index == mover:
            continue
        share = float(np.clip((scene.poses[index, :2] - start) @ (end - start) / length**2, 0, 1))
        nearest = start + share * (end - start)
        gap = float(np.hypot(*(scene.poses[index, :2] - nearest)))
        is_tall = thing.kind.height_m * thing.scale > palm_z
        reach = HAND_HALF_M[1] if is_tall else scene.things[mover].radius_m
        if gap < reach + thing.radius_m + GAP_M:
            return False
    return True
