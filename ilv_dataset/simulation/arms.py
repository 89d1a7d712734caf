"""The arm of the simulation: a Franka Panda posed by inverse kinematics, one answer a pose."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ilv_dataset.simulation.meshes import coarsen_mesh, format_obj, parse_obj
from ilv_dataset.simulation.nouns import Rgb
from ilv_dataset.simulation.stage import Stage

URDF = Path("franka_panda") / "panda.urdf"
# Links of pybullet_data/franka_panda/panda.urdf: joints 0-6 turn, link 8 is the hand, joints 9
# and 10 are the fingers, link 11 is the point between the finger tips. Limits from its <limit>s.
NUM_TURNING_JOINTS = 7
HAND_LINKS = (8, 9, 10)
FINGER_JOINTS = (9, 10)
TIP_LINK = 11
REST_JOINTS = (0.0, -0.4, 0.0, -2.4, 0.0, 2.0, 0.785)
JOINT_LOWER = (-2.96, -1.83, -2.96, -3.14, -2.96, -0.08, -2.96)
JOINT_UPPER = (2.96, 1.83, 2.96, 0.0, 2.96, 3.82, 2.96)
HAND_SHADE = 0.35  # the hand is darker than the arm, so that it stands out from pale objects
COARSE_CELL_M = 0.010  # of the coarse meshes: three pixels of a frame
IK_ROUNDS = 20
IK_TOLERANCE_M = 0.002


class Arm:
    """One arm on a stage, its base at the world's origin on the table.

    Args:
        is_coarse: drawn with few triangles, which is several times faster.
    """

    def __init__(self, stage: Stage, rgb: Rgb, *, is_coarse: bool = False) -> None:
        self._bullet, self._client = stage.bullet, stage.client
        urdf = save_coarse_urdf(stage.models, stage.folder) if is_coarse else stage.models / URDF
        self._body: int = self._bullet.loadURDF(
            str(urdf), useFixedBase=True, physicsClientId=self._client
        )
        self.paint(rgb)

    def paint(self, rgb: Rgb) -> None:
        """Gives the arm another colour."""
        for link in range(-1, TIP_LINK):
            shade = HAND_SHADE if link in HAND_LINKS else 1.0
            colour = [value * shade for value in rgb]
            self._bullet.changeVisualShape(
                self._body, link, rgbaColor=[*colour, 1.0], physicsClientId=self._client
            )

    def pose(self, gripper_pose: np.ndarray, finger_gap_m: float) -> None:
        """Puts the finger tips at a pose, (6,): see `motion.Arrangement`.

        Starts from the same joints each time, so that a pose has one answer.

        Raises: ValueError if the arm does not reach it.
        """
        if not self.try_pose(gripper_pose, finger_gap_m):
            raise ValueError(f"the arm does not reach {np.round(gripper_pose, 3).tolist()}")

    def try_pose(self, gripper_pose: np.ndarray, finger_gap_m: float) -> bool:
        """As `pose`, but False where the arm does not reach it."""
        target = gripper_pose[:3]
        turn = self._turn(gripper_pose[3:])
        joints: Sequence[float] = (float(np.arctan2(target[1], target[0])), *REST_JOINTS[1:])
        for _ in range(IK_ROUNDS):
            self._set_joints(joints, finger_gap_m)
            if self._miss_m(target) < IK_TOLERANCE_M / 4:
                break
            joints = self._solve(target, turn)
        return self._miss_m(target) <= IK_TOLERANCE_M

    def _turn(self, rpy: np.ndarray) -> tuple[float, ...]:
        """Quaternion of the hand, whose own z axis points out of it: half a turn about x."""
        down = self._bullet.getQuaternionFromEuler((np.pi, 0.0, 0.0))
        turn = self._bullet.getQuaternionFromEuler(rpy.tolist())
        _, both = self._bullet.multiplyTransforms((0, 0, 0), turn, (0, 0, 0), down)
        return tuple(both)

    def _solve(self, target: np.ndarray, turn: tuple[float, ...]) -> Sequence[float]:
        spans = [high - low for low, high in zip(JOINT_LOWER, JOINT_UPPER, strict=True)]
        joints = self._bullet.calculateInverseKinematics(
            self._body,
            TIP_LINK,
            target.tolist(),
            turn,
            lowerLimits=JOINT_LOWER,
            upperLimits=JOINT_UPPER,
            jointRanges=spans,
            restPoses=REST_JOINTS,
            maxNumIterations=40,
            residualThreshold=1e-6,
            physicsClientId=self._client,
        )
        return tuple(joints[:NUM_TURNING_JOINTS])

    def _set_joints(self, joints: Sequence[float], finger_gap_m: float) -> None:
        fingers = [finger_gap_m / 2] * len(FINGER_JOINTS)
        for index, value in zip(
            (*range(NUM_TURNING_JOINTS), *FINGER_JOINTS), (*joints, *fingers), strict=True
        ):
            self._bullet.resetJointState(self._body, index, value, physicsClientId=self._client)

    def _miss_m(self, target: np.ndarray) -> float:
        """Distance from the finger tips to where they should be."""
        link = self._bullet.getLinkState(
            self._body, TIP_LINK, computeForwardKinematics=1, physicsClientId=self._client
        )
        return float(np.linalg.norm(np.asarray(link[4]) - target))


def save_coarse_urdf(models: Path, folder: Path) -> Path:
    """Writes the arm's URDF to `folder` with meshes of few triangles; returns its file.

    Its own have 100,000 triangles, more than all else in a picture together.
    """
    source = models / URDF
    text = source.read_text()
    for name in sorted(set(re.findall(r'"package://(meshes/[^"]+\.obj)"', text))):
        coarse = folder / f"{Path(name).parent.name}-{Path(name).name}"
        mesh = parse_obj((source.parent / name).read_text())
        coarse.write_text(format_obj(coarsen_mesh(mesh, COARSE_CELL_M)))
        text = text.replace(f"package://{name}", coarse.name)
    urdf = folder / source.name
    urdf.write_text(text)
    return urdf
