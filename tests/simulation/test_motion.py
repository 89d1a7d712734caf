from dataclasses import replace

import numpy as np
import pytest
from simulation.builders import make_action, make_scene

from ilv_dataset.simulation.motion import (
    NOTHING,
    Arrangement,
    advance,
    begin,
    fits,
    grasp_pose,
    rest_place,
    wrap_half_turn,
)
from ilv_dataset.simulation.scenes import Thing

BLOCK_AND_BOWL = make_scene(("red block", (0.5, 0.0)), ("blue bowl", (0.5, 0.2)))


def above_block(z: float) -> Arrangement:
    return replace(begin(BLOCK_AND_BOWL), gripper_pose=np.array([0.5, 0.0, z, 0, 0, 0]))


def test_begin_is_open_over_the_back_of_the_table():
    state = begin(BLOCK_AND_BOWL).state
    assert state.dtype == np.float32
    assert state.round(3).tolist() == pytest.approx([0.44, 0.0, 0.26, 0.0, 0.0, 0.0, 1.0])


def test_advance_moves_the_gripper_and_stays_within_reach():
    now = advance(BLOCK_AND_BOWL, above_block(0.2), make_action(x=0.1, y=-0.05, yaw=0.3))
    assert now.gripper_pose.round(4).tolist() == [0.6, -0.05, 0.2, 0.0, 0.0, 0.3]
    assert advance(BLOCK_AND_BOWL, now, make_action(z=-1.0)).gripper_pose[2] == 0.006


def test_closing_takes_what_is_between_the_finger_tips():
    now = advance(BLOCK_AND_BOWL, above_block(0.03), make_action(gripper=0.0))
    assert now.held == 0
    assert now.finger_gap_m == 0.052
    assert now.state[6] == 0.0


def test_closing_on_nothing_holds_nothing():
    now = advance(BLOCK_AND_BOWL, above_block(0.10), make_action(gripper=0.0))
    assert (now.held, now.finger_gap_m) == (NOTHING, 0.0)


def test_what_is_held_comes_along_and_turns():
    held = advance(BLOCK_AND_BOWL, above_block(0.03), make_action(gripper=0.0))
    now = advance(BLOCK_AND_BOWL, held, make_action(y=0.1, z=0.1, yaw=0.5, gripper=0.0))
    assert now.poses[0].round(4).tolist() == [0.5, 0.1, 0.1, 0.5]
    assert now.poses[1].tolist() == [0.5, 0.2, 0.0, 0.0]


def test_opening_lets_it_fall_onto_the_table_or_into_the_bowl():
    held = advance(BLOCK_AND_BOWL, above_block(0.03), make_action(gripper=0.0))
    aside = advance(BLOCK_AND_BOWL, held, make_action(y=-0.1, z=0.1, gripper=0.0))
    fallen = advance(BLOCK_AND_BOWL, aside, make_action(gripper=1.0))
    assert fallen.poses[0].round(4).tolist() == [0.5, -0.1, 0.0, 0.0]
    # 15 mm off the middle of the bowl; its floor has 8 mm to spare around a block.
    over = advance(BLOCK_AND_BOWL, held, make_action(y=0.185, z=0.1, gripper=0.0))
    inside = advance(BLOCK_AND_BOWL, over, make_action(gripper=1.0))
    assert inside.poses[0].round(4).tolist() == [0.5, 0.192, 0.01, 0.0]
    assert inside.held == NOTHING


def test_advance_leaves_what_was_before_alone():
    before = above_block(0.03)
    held = advance(BLOCK_AND_BOWL, before, make_action(gripper=0.0))
    advance(BLOCK_AND_BOWL, held, make_action(z=0.1, gripper=0.0))
    assert held.poses[0].tolist() == [0.5, 0.0, 0.0, 0.0]
    assert before.gripper_pose[2] == 0.03


def test_advance_of_a_bad_action_raises():
    with pytest.raises(ValueError, match="7 finite numbers"):
        advance(BLOCK_AND_BOWL, above_block(0.1), np.full(7, np.nan))
    with pytest.raises(ValueError, match="7 finite numbers"):
        advance(BLOCK_AND_BOWL, above_block(0.1), np.zeros(6))


def test_rest_place_is_on_the_highest_seat():
    scene = make_scene(
        ("red block", (0.5, 0.0)), ("green block", (0.5, 0.0)), ("blue plate", (0.5, 0.0))
    )
    poses = scene.poses.copy()
    poses[1, 2] = 0.007  # the green block is on the plate
    assert rest_place(scene, poses, 0).round(4).tolist() == [0.5, 0.0, 0.059]


def test_fits_needs_room_and_a_rim_for_what_rolls():
    block, ball, can = Thing("block", "red"), Thing("ball", "red"), Thing("can", "red")
    assert fits(can, block)
    assert not fits(ball, block)
    assert fits(ball, Thing("bowl", "red"))
    assert not fits(ball, Thing("bowl", "red", scale=0.7))
    assert not fits(block, can)


def test_grasp_pose_of_a_turned_thing():
    # The donut is held at its ring, 26 mm along its y axis, which a quarter turn puts along -x.
    pose = grasp_pose(Thing("donut", "pink"), np.array([0.5, 0.1, 0.0, np.pi / 2]))
    assert pose.round(4).tolist() == [0.474, 0.1, 0.018, -1.5708]


def test_wrap_half_turn():
    assert wrap_half_turn(np.pi) == pytest.approx(0.0)
    assert wrap_half_turn(2.0) == pytest.approx(2.0 - np.pi)
    assert wrap_half_turn(0.3) == pytest.approx(0.3)
