"""What each registered dataset has in a step, and the 7-D vectors that it becomes, by hand."""

import numpy as np

HALF = 0.5**0.5  # sine and cosine of 45 degrees
QUARTER_TURN = 1.5707964
HALF_TURN = 3.1415927


def count_up(*shape):
    """0, 1, 2, ... in this shape."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


# Dataset -> (what its record holds a step, its actions, its states).
MAPPED = {
    "demo": (
        {"action": [[1, 2, 3, 4, 5, 6, 0]], "observation/state": [[7, 6, 5, 4, 3, 2, 1]]},
        [[1, 2, 3, 4, 5, 6, 0]],
        [[7, 6, 5, 4, 3, 2, 1]],
    ),
    "bridge": (
        {
            "action": [[0, 0, 0, 0, 0, 0, 1], [1, 2, 3, 4, 5, 6, 0]],
            "observation/state": [[1, 1, 1, 2, 2, 2, 0.5], [7, 6, 5, 4, 3, 2, 1]],
        },
        [[0, 0, 0, 0, 0, 0, 1], [1, 2, 3, 4, 5, 6, 0]],
        [[1, 1, 1, 2, 2, 2, 0.5], [7, 6, 5, 4, 3, 2, 1]],
    ),
    "bridge_oxe": (
        {
            "action/world_vector": [[1, 2, 3], [4, 5, 6]],
            "action/rotation_delta": [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]],
            "action/open_gripper": np.array([[True], [False]]).astype(np.int64),
            "observation/state": [[1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1]],
        },
        [[1, 2, 3, 0.1, 0.2, 0.3, 1], [4, 5, 6, 0.4, 0.5, 0.6, 0]],
        [[1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1]],
    ),
    "fractal": (
        {
            "action/world_vector": [[1, 2, 3]] * 4,
            "action/rotation_delta": [[4, 5, 6]] * 4,
            "action/gripper_closedness_action": [[0], [1], [0], [-1]],
            # As it is, a quarter turn about z, the same of any length, half a turn about x.
            "observation/base_pose_tool_reached": [
                [1, 2, 3, 0, 0, 0, 1],
                [1, 2, 3, 0, 0, HALF, HALF],
                [1, 2, 3, 0, 0, 3, 3],
                [1, 2, 3, 1, 0, 0, 0],
            ],
            "observation/gripper_closed": [[0], [0.25], [1], [1]],
        },
        [[1, 2, 3, 4, 5, 6, gripper] for gripper in (1, 0, 0, 1)],
        [
            [1, 2, 3, 0, 0, 0, 0],
            [1, 2, 3, 0, 0, QUARTER_TURN, 0.25],
            [1, 2, 3, 0, 0, QUARTER_TURN, 1],
            [1, 2, 3, HALF_TURN, 0, 0, 1],
        ],
    ),
    "bc_z": (
        {
            "action/future/xyz_residual": count_up(2, 30),
            "action/future/axis_angle_residual": count_up(2, 30) + 100,
            "action/future/target_close": np.array([[1] + [0] * 9, [0] + [1] * 9]),
            "observation/present/xyz": [[1, 2, 3], [4, 5, 6]],
            "observation/present/axis_angle": [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]],
            "observation/present/sensed_close": [[0.25], [1]],
        },
        [[0, 1, 2, 100, 101, 102, 0], [30, 31, 32, 130, 131, 132, 1]],
        [[1, 2, 3, 0.1, 0.2, 0.3, 0.25], [4, 5, 6, 0.4, 0.5, 0.6, 1]],
    ),
    "jaco_play": (
        {
            "action/world_vector": [[1, 2, 3]] * 3,
            "action/gripper_closedness_action": [[0], [0], [-1]],
            "observation/end_effector_cartesian_pos": [[1, 2, 3, 4, 5, 6, 7]] * 3,
        },
        [[1, 2, 3, 0, 0, 0, gripper] for gripper in (0, 0, 1)],
        [[1, 2, 3, 4, 5, 6, 7]] * 3,
    ),
    "ur5": (
        {
            "action/world_vector": [[1, 2, 3]] * 2,
            "action/rotation_delta": [[4, 5, 6]] * 2,
            "action/gripper_closedness_action": [[0], [0]],
            # Joints 0 to 5, then the pose with a quarter turn about x, the gripper, and one more.
            "observation/robot_state": [[9] * 6 + [1, 2, 3, HALF, 0, 0, HALF, 0.5, 9]] * 2,
        },
        [[1, 2, 3, 4, 5, 6, 1]] * 2,
        [[1, 2, 3, QUARTER_TURN, 0, 0, 0.5]] * 2,
    ),
    "iamlab": (
        {
            "action": [[1, 2, 3, 0, 0, -HALF, HALF, 0.04]],
            "observation/state": [[1, 2, 3, 4, 5, 6, 7, 0.08]],
        },
        [[1, 2, 3, 0, 0, -QUARTER_TURN, 0.04]],
        [[1, 2, 3, 4, 5, 6, 7]],
    ),
    "hydra": (
        {"action": [[1, 2, 3, 4, 5, 6, 0.25]], "observation/state": count_up(1, 27)},
        [[1, 2, 3, 4, 5, 6, 0.75]],
        [[0, 1, 2, 7, 8, 9, 24]],
    ),
    "mutex": (
        {
            "action": [[1, 2, 3, 4, 5, 6, gripper] for gripper in (-1, 0.25, 1.5)],
            "observation/state": count_up(3, 24),
        },
        [[1, 2, 3, 4, 5, 6, gripper] for gripper in (1, 0.75, 0)],
        [[0, 1, 2, 3, 4, 5, 6], [24, 25, 26, 27, 28, 29, 30], [48, 49, 50, 51, 52, 53, 54]],
    ),
    "sirius": (
        {
            "action": [[1, 2, 3, 4, 5, 6, gripper] for gripper in (-1, 1)],
            "observation/state": count_up(2, 8),
        },
        [[1, 2, 3, 4, 5, 6, gripper] for gripper in (1, 0)],
        [[0, 1, 2, 3, 4, 5, 6], [8, 9, 10, 11, 12, 13, 14]],
    ),
    "ucsd_kitchen": (
        {"action": [[1, 2, 3, 4, 5, 6, 0.5, 1]], "observation/state": count_up(1, 21)},
        [[1, 2, 3, 4, 5, 6, 0.5]],
        [[0, 1, 2, 3, 4, 5, 6]],
    ),
    "language_table": (
        {"action": [[0.1, -0.2]], "observation/effector_translation": [[0.3, 0.4]]},
        [[0.1, -0.2, 0, 0, 0, 0, 1]],
        [[0.3, 0.4, 0, 0, 0, 0, 1]],
    ),
    "droid": (
        {
            "action_dict/cartesian_velocity": [[1, 2, 3, 4, 5, 6]],
            "action_dict/gripper_position": [[0.25]],
            "observation/cartesian_position": [[6, 5, 4, 3, 2, 1]],
            "observation/gripper_position": [[0.5]],
        },
        [[1, 2, 3, 4, 5, 6, 0.75]],
        [[6, 5, 4, 3, 2, 1, 0.5]],
    ),
}
