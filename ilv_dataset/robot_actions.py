"""The 7-D action and state that trainers want, made of what a dataset has.

Which numbers of a dataset they are is in `datasets.toml`; here is what becomes of them. Works on
the arrays of a whole episode, for a relative gripper adds up over its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ilv_dataset.dataset_specs import VECTOR_LENGTH, VectorPart

# Source: OpenVLA's and Octo's rel2abs_gripper_actions. Up to that the gripper keeps its state.
_GRIPPER_MOVE_MIN = np.float32(0.1)
# Source: tensorflow_graphics, euler.from_quaternion; of the sine of the pitch.
_GIMBAL_LOCK_WITHIN = 1e-6


def map_parts(
    parts: Sequence[VectorPart], values: Mapping[str, np.ndarray], *, num_steps: int
) -> np.ndarray:
    """The mapped vectors of an episode, (T, sum of the parts' numbers) float32.

    Args:
        values: (T, N) numbers or flags of each key that the parts name.

    >>> part = VectorPart("invert", 1, "action", 0, 1)
    >>> map_parts([part], {"action": np.array([[0.25], [1.0]])}, num_steps=2).tolist()
    [[0.75], [0.0]]
    """
    columns = []
    for part in parts:
        if not part.key:
            columns.append(np.full((num_steps, part.num_values), _FILLS[part.transform]))
            continue
        found = values[part.key][:, part.start : part.stop].astype(np.float64)
        columns.append(_TRANSFORMS[part.transform](found))
    return np.concatenate([*columns, np.zeros((num_steps, 0))], axis=1).astype(np.float32)


def fit_length(vectors: np.ndarray) -> np.ndarray:
    """(T, N) as (T, 7): more numbers are cut off, fewer are filled up with zeros.

    Eight are seven joint angles and a gripper, where no pose is given.
    """
    kept = vectors[:, :VECTOR_LENGTH]
    return np.pad(kept, ((0, 0), (0, VECTOR_LENGTH - kept.shape[1])))


def kept_steps(step_start: int, step_end: int, *, drop_first_step: bool) -> range:
    """The steps of a span that have an action, as steps of the source's episode.

    Where the first step of an episode has none, it is dropped, unless it is all that the span has.

    >>> kept_steps(0, 3, drop_first_step=True), kept_steps(3, 5, drop_first_step=True)
    (range(1, 3), range(3, 5))
    """
    is_dropped = drop_first_step and step_start == 0 and step_end > 1
    return range(step_start + is_dropped, step_end)


def integrate_gripper(moves: np.ndarray) -> np.ndarray:
    """(T,) of a relative gripper, 1 closes and -1 opens, as (T,) absolute: 1 open, 0 closed.

    Up to the first move the gripper is what that move ends; without any it is open.

    >>> integrate_gripper(np.array([0.0, 1.0, 0.05, -0.6, 0.0])).tolist()
    [1.0, 0.0, 0.0, 1.0, 1.0]

    Source: OpenVLA, rel2abs_gripper_actions, which it took from Octo.
    """
    is_move = np.abs(moves) > _GRIPPER_MOVE_MIN
    is_open = moves < 0  # where it is a move
    if not is_move.any():
        return np.ones(len(moves))
    last_move = np.maximum.accumulate(np.where(is_move, np.arange(len(moves)), -1))
    before = ~is_open[np.argmax(is_move)]
    return np.where(last_move < 0, before, is_open[last_move]).astype(np.float64)


def quaternion_to_euler(quaternions_xyzw: np.ndarray) -> np.ndarray:
    """(T, 4) rotations x, y, z, w of any length as (T, 3) roll, pitch, yaw in radians.

    The rotation is first about x, then y, then z, all fixed. Where the pitch is upright the yaw
    is 0; four zeros, which are no rotation, are three zeros.

    Source: tensorflow_graphics, euler.from_quaternion, the convention of OpenVLA's registry.
    """
    lengths = np.linalg.norm(quaternions_xyzw, axis=1, keepdims=True)
    x, y, z, w = (quaternions_xyzw / np.where(lengths > 0, lengths, 1)).T
    sine = np.clip(2 * (w * y - x * z), -1, 1)
    sign = np.where(sine < 0, -1, 1)
    is_locked = 1 - np.abs(sine) < _GIMBAL_LOCK_WITHIN
    locked_roll = np.arctan2(sign * 2 * (x * y - w * z), sign * 2 * (x * z + w * y))
    roll = np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return np.stack(
        [
            np.where(is_locked, locked_roll, roll),
            np.where(is_locked, sign * np.pi / 2, np.arcsin(sine)),
            np.where(is_locked, 0, yaw),
        ],
        axis=1,
    )


_FILLS = {"zeros": 0.0, "ones": 1.0}
_TRANSFORMS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "copy": lambda values: values,
    "invert": lambda values: 1 - values,
    "clip-invert": lambda values: 1 - np.clip(values, 0, 1),
    "rel2abs": lambda values: np.apply_along_axis(integrate_gripper, 0, values),
    "euler": quaternion_to_euler,
}
