"""How the table changes when the gripper moves: a kinematic world, without pybullet.

`advance` is the whole of it: the gripper goes where the action says, closing takes what is
between the finger tips, and opening lets it fall onto what is below. Closed-loop control uses it
just as the scripted expert does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ilv_dataset.simulation.scenes import Scene, Thing

START_POSE = (0.44, 0.0, 0.26, 0.0, 0.0, 0.0)
REACH_XYZ_M = ((0.30, 0.76), (-0.34, 0.34), (0.006, 0.45))  # bounds of the finger tips
GRIPPER_GAP_M = 0.08  # between the open fingers of a Panda
GRASP_SLACK_M = 0.025  # how far from its grasp point a thing can still be taken
NOTHING = -1


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Where everything is at one step.

    The gripper's roll, pitch and yaw are 0 where it points straight down, its fingers opening
    along the world's y axis.
    """

    gripper_pose: np.ndarray  # (6,) float64: x, y, z of the finger tips in metres, roll, pitch, yaw
    is_open: bool
    poses: np.ndarray  # (N, 4) float64: x, y, z of each thing's foot in metres, yaw in radians
    held: int = NOTHING  # index of the thing in the gripper
    hold: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # its pose seen from the tips
    finger_gap_m: float = GRIPPER_GAP_M

    def __post_init__(self) -> None:
        if self.gripper_pose.shape != (6,) or self.poses.shape[1:] != (4,):
            raise ValueError(f"gripper {self.gripper_pose.shape}, poses {self.poses.shape}")

    @property
    def state(self) -> np.ndarray:
        """(7,) float32: the gripper's pose, then 1 for open or 0 for closed."""
        return np.append(self.gripper_pose, float(self.is_open)).astype(np.float32)


def begin(scene: Scene) -> Arrangement:
    """The arm over the back of the table, open."""
    return Arrangement(np.array(START_POSE), True, scene.poses.copy())


def advance(scene: Scene, before: Arrangement, action: np.ndarray) -> Arrangement:
    """The arrangement after one action, (7,): change of x, y, z, roll, pitch, yaw, then gripper.

    A gripper value of 0.5 or more opens. The pose is changed first, then the gripper.
    """
    if action.shape != (7,) or not np.isfinite(action).all():
        raise ValueError(f"action must be 7 finite numbers, got {action.tolist()}")
    pose = before.gripper_pose + np.asarray(action[:6], np.float64)
    for axis, (low, high) in enumerate(REACH_XYZ_M):
        pose[axis] = min(max(pose[axis], low), high)
    moved = _carry(replace(before, gripper_pose=pose))
    wants_open = bool(action[6] >= 0.5)
    if wants_open == before.is_open:
        return moved
    return _release(scene, moved) if wants_open else _grasp(scene, moved)


def grasp_pose(thing: Thing, pose: np.ndarray) -> np.ndarray:
    """Where the finger tips take a thing, (4,): x, y, z in metres and yaw within +-90 degrees."""
    x, y, z = (value * thing.scale for value in thing.kind.grasp.xyz_m)
    turned = rotate_xy(np.array([x, y]), float(pose[3]))
    return np.array([*(pose[:2] + turned), pose[2] + z, wrap_half_turn(float(pose[3]))])


def rotate_xy(xy: np.ndarray, yaw: float) -> np.ndarray:
    """A point, (2,), turned about the origin by `yaw` radians."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([cos * xy[0] - sin * xy[1], sin * xy[0] + cos * xy[1]])


def wrap_half_turn(yaw: float) -> float:
    """The same line, as an angle in [-pi/2, pi/2): fingers do not care which is which."""
    return (yaw + np.pi / 2) % np.pi - np.pi / 2


def rest_place(scene: Scene, poses: np.ndarray, index: int) -> np.ndarray:
    """Where thing `index` comes to rest when let go above its place, (3,): x, y, z in metres.

    The highest seat under its middle that has room for it, else the table. A rim makes a thing
    slide to where it fits.
    """
    thing, best = scene.things[index], np.array([*poses[index, :2], 0.0])
    for other, below in enumerate(scene.things):
        seat = below.kind.seat
        if other == index or seat is None or not fits(thing, below):
            continue
        away = poses[index, :2] - poses[other, :2]
        distance, radius = float(np.hypot(*away)), seat.radius_m * below.scale
        height = float(poses[other, 2]) + seat.z_m * below.scale
        if distance > radius or height <= best[2]:
            continue
        slack = max(0.0, radius - thing.foot_m) if seat.has_rim else distance
        keep = min(1.0, slack / distance) if distance else 1.0
        best = np.array([*(poses[other, :2] + away * keep), height])
    return best


def fits(thing: Thing, below: Thing) -> bool:
    """True where `thing` can rest in or on `below`."""
    seat = below.kind.seat
    if seat is None or (thing.kind.rolls and not seat.has_rim):
        return False
    return thing.foot_m <= seat.radius_m * below.scale


def _carry(now: Arrangement) -> Arrangement:
    """Takes the held thing along."""
    if now.held == NOTHING:
        return now
    x, y, z, yaw = now.hold
    turned = rotate_xy(np.array([x, y]), float(now.gripper_pose[5]))
    poses = now.poses.copy()
    poses[now.held] = (
        *(now.gripper_pose[:2] + turned),
        max(0.0, float(now.gripper_pose[2]) + z),
        float(now.gripper_pose[5]) + yaw,
    )
    return replace(now, poses=poses)


def _grasp(scene: Scene, now: Arrangement) -> Arrangement:
    tips = now.gripper_pose[:3]
    gaps = [
        float(np.linalg.norm(grasp_pose(thing, pose)[:3] - tips))
        for thing, pose in zip(scene.things, now.poses, strict=True)
    ]
    nearest = int(np.argmin(gaps)) if gaps else NOTHING
    if not gaps or gaps[nearest] > GRASP_SLACK_M:
        return replace(now, is_open=False, finger_gap_m=0.0)
    thing, pose = scene.things[nearest], now.poses[nearest]
    x, y = rotate_xy(pose[:2] - tips[:2], -float(now.gripper_pose[5]))
    hold = (float(x), float(y), float(pose[2] - tips[2]), float(pose[3] - now.gripper_pose[5]))
    gap_m = min(GRIPPER_GAP_M, thing.kind.grasp.width_m * thing.scale)
    return replace(now, is_open=False, held=nearest, hold=hold, finger_gap_m=gap_m)


def _release(scene: Scene, now: Arrangement) -> Arrangement:
    opened = replace(now, is_open=True, finger_gap_m=GRIPPER_GAP_M, held=NOTHING)
    if now.held == NOTHING:
        return opened
    poses = now.poses.copy()
    poses[now.held, :3] = rest_place(scene, poses, now.held)
    return replace(opened, poses=poses)
