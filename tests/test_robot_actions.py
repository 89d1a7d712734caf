"""The 7-D action and state of every registered dataset, against values worked by hand."""

import numpy as np
import pytest
from mapped_datasets import HALF, MAPPED, QUARTER_TURN

from ilv_dataset.dataset_specs import VectorPart
from ilv_dataset.datasets import find_dataset, list_datasets
from ilv_dataset.robot_actions import (
    fit_length,
    integrate_gripper,
    kept_steps,
    map_parts,
    quaternion_to_euler,
)


def test_every_registered_dataset_is_mapped():
    assert sorted(MAPPED) == sorted(spec.key for spec in list_datasets())


@pytest.mark.parametrize("key", sorted(MAPPED))
def test_mapping_of(key):
    record, actions, states = MAPPED[key]
    values = {name: np.asarray(rows) for name, rows in record.items()}
    spec, num_steps = find_dataset(key), len(actions)
    found = map_parts(spec.action, values, num_steps=num_steps)
    assert (found.dtype, found.shape) == (np.float32, (num_steps, 7))
    np.testing.assert_allclose(found, actions, atol=1e-6)
    found = fit_length(map_parts(spec.state, values, num_steps=num_steps))
    assert (found.dtype, found.shape) == (np.float32, (num_steps, 7))
    np.testing.assert_allclose(found, states, atol=1e-6)


def test_copied_numbers_keep_every_bit():
    numbers = np.array([[0.1, 1e-42, -3.4e38]], np.float32)
    found = map_parts([VectorPart("copy", 3, "a", 0, 3)], {"a": numbers}, num_steps=1)
    assert found.tobytes() == numbers.tobytes()


def test_without_parts_there_is_nothing_but_zeros():
    nothing = map_parts([], {}, num_steps=2)
    assert nothing.shape == (2, 0)
    assert fit_length(nothing).tolist() == [[0] * 7] * 2


def test_of_an_episode_without_steps():
    parts = find_dataset("fractal").action
    values = {key: np.zeros((0, 3), np.float32) for key in {part.key for part in parts}}
    assert map_parts(parts, values, num_steps=0).shape == (0, 7)


@pytest.mark.parametrize(
    ("moves", "is_open"),
    [
        ([], []),
        ([0], [1]),
        ([0, 0.1, -0.1], [1, 1, 1]),  # too small to be a move
        ([1], [0]),
        ([-1], [1]),
        ([0, 0, 1, 0], [1, 1, 0, 0]),
        ([0, 0, -1, 0], [0, 0, 1, 1]),
        ([0, 0.2, 0, -0.2, -1, 0, 0.5], [1, 0, 0, 1, 1, 1, 0]),
    ],
)
def test_integrate_gripper(moves, is_open):
    found = integrate_gripper(np.array(moves, np.float32).astype(np.float64))
    assert found.tolist() == is_open


@pytest.mark.parametrize(
    ("xyzw", "euler"),
    [
        ([0, 0, 0, 1], [0, 0, 0]),
        ([0, 0, 0, -1], [0, 0, 0]),  # the same rotation
        ([0, 0, 0, 0], [0, 0, 0]),  # none at all
        ([HALF, 0, 0, HALF], [QUARTER_TURN, 0, 0]),
        ([0, 0, -HALF, HALF], [0, 0, -QUARTER_TURN]),
        ([0, 1, 0, 1], [0, QUARTER_TURN, 0]),
        ([0, -1, 0, 1], [0, -QUARTER_TURN, 0]),
        # A quarter turn about x and then one about z: x -> y -> z -> x.
        ([0.5, 0.5, 0.5, 0.5], [QUARTER_TURN, 0, QUARTER_TURN]),
        # Upright, with a quarter turn about x before: the yaw is 0.
        ([0.5, 0.5, -0.5, 0.5], [QUARTER_TURN, QUARTER_TURN, 0]),
        ([0.5, -0.5, 0.5, 0.5], [QUARTER_TURN, -QUARTER_TURN, 0]),
    ],
)
def test_quaternion_to_euler(xyzw, euler):
    found = quaternion_to_euler(np.array([xyzw], np.float64))
    np.testing.assert_allclose(found, [euler], atol=1e-6)


def test_quaternion_to_euler_gives_the_rotation_back():
    quaternions = np.random.default_rng(0).normal(size=(200, 4))
    vectors = np.random.default_rng(1).normal(size=(200, 3))
    roll, pitch, yaw = quaternion_to_euler(quaternions).T
    by_angles = turn(turn(turn(vectors, 0, roll), 1, pitch), 2, yaw)
    np.testing.assert_allclose(by_angles, rotate(vectors, quaternions), atol=1e-9)


def turn(vectors, axis, angles):
    """Vectors turned about an axis, counter-clockwise."""
    one, other = (axis + 1) % 3, (axis + 2) % 3
    turned = vectors.copy()
    turned[:, one] = np.cos(angles) * vectors[:, one] - np.sin(angles) * vectors[:, other]
    turned[:, other] = np.sin(angles) * vectors[:, one] + np.cos(angles) * vectors[:, other]
    return turned


def rotate(vectors, quaternions):
    """v + 2 w (u x v) + 2 u x (u x v), of unit quaternions u, w."""
    units = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
    axes, scalars = units[:, :3], units[:, 3:]
    crossed = np.cross(axes, vectors)
    return vectors + 2 * scalars * crossed + 2 * np.cross(axes, crossed)


@pytest.mark.parametrize(
    ("start", "end", "drops", "steps"),
    [
        (0, 3, True, [1, 2]),
        (0, 3, False, [0, 1, 2]),
        (2, 4, True, [2, 3]),  # a later span of the episode
        (0, 1, True, [0]),  # all that there is
    ],
)
def test_kept_steps(start, end, drops, steps):
    assert list(kept_steps(start, end, drop_first_step=drops)) == steps
