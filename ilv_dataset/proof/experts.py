"""The scripted expert of the proof: two keyframes, where to grasp and where to let go."""

from __future__ import annotations

import numpy as np

from ilv_dataset.proof.trials import Trial
from ilv_dataset.simulation.motion import Arrangement, advance, grasp_pose
from ilv_dataset.simulation.scenes import Scene

OPEN, CLOSED = 1.0, 0.0
# Source: ours. Which thing is taken is the question, not millimetres: a gripper that closes this
# near to a thing's grasp point takes it.
REACH_M = 0.04


def begin_trial(trial: Trial) -> Arrangement:
    """The open gripper where the trial begins."""
    return Arrangement(trial.start_pose.copy(), True, trial.scene.poses.copy())


def plan_course(trial: Trial) -> tuple[list[Arrangement], np.ndarray]:
    """What the expert does: T arrangements and (T, 7) float32 actions.

    An action goes to a keyframe and then changes the gripper, as the picks and places of CLIPort
    (arXiv 2109.12098) do; the gripper keeps its yaw.
    """
    scene, task = trial.scene, trial.task
    before = scene.poses[task.mover]
    take = grasp_pose(scene.things[task.mover], before)[:3]
    put = task.goal[:3] + take - before[:3] + np.array([0.0, 0.0, task.lift_m])
    now = begin_trial(trial)
    course, actions = [], []
    for xyz, gripper in ((take, CLOSED), (put, OPEN)):
        change = xyz - now.gripper_pose[:3]
        action = np.array([*change, 0.0, 0.0, 0.0, gripper], np.float32)
        course.append(now)
        actions.append(action)
        now = advance(scene, now, action)
    return [*course, now], np.stack(actions)


def settle(scene: Scene, now: Arrangement, action: np.ndarray) -> np.ndarray:
    """The action as the arm carries it out, (7,): without a turn, and with a grasp that gives way.

    Where the open gripper closes within REACH_M of a thing's grasp point, its tips end there.
    """
    moved = np.array([*action[:3], 0.0, 0.0, 0.0, action[6]], np.float64)
    if not now.is_open or action[6] >= 0.5:
        return moved
    tips = now.gripper_pose[:3] + moved[:3]
    grasps = np.array(
        [grasp_pose(one, pose)[:3] for one, pose in zip(scene.things, now.poses, strict=True)]
    )
    gaps = np.linalg.norm(grasps - tips, axis=1)
    nearest = int(np.argmin(gaps))
    if gaps[nearest] <= REACH_M:
        moved[:3] = grasps[nearest] - now.gripper_pose[:3]
    return moved
