import numpy as np
import pytest
from simulation.builders import make_scene

from ilv_dataset.simulation.expert import plan_actions
from ilv_dataset.simulation.motion import Arrangement, advance, begin
from ilv_dataset.simulation.scenes import Scene
from ilv_dataset.simulation.tasks import Task, draw_task, is_done

PEAR_AND_BOX = make_scene(("green pear", (0.5, -0.1)), ("red box", (0.5, 0.12)))


def make_task(scene: Scene, relation: str) -> Task:
    task = draw_task(scene, 0, 1, relation, np.random.default_rng(0))
    assert task is not None
    return task


def carry_out(scene: Scene, task: Task) -> Arrangement:
    now = begin(scene)
    for action in plan_actions(scene, now, task):
        now = advance(scene, now, action)
    return now


@pytest.mark.parametrize(
    ("mover", "target", "relation"),
    [
        ("green pear", "red box", "into"),
        ("yellow ball", "black pot", "into"),
        ("blue can", "white book", "onto"),
        ("orange carrot", "pink tray", "onto"),
        ("red block", "blue block", "onto"),
        ("blue bowl", "yellow lemon", "beside"),
        ("brown spoon", "green apple", "beside"),
        ("orange cheese", "grey basket", "into"),
        ("turquoise hammer", "blue tray", "onto"),
        ("grey cloth", "white egg", "beside"),
    ],
)
def test_expert_does_what_is_asked(mover: str, target: str, relation: str):
    scene = make_scene((mover, (0.5, -0.12)), (target, (0.5, 0.12)))
    task = make_task(scene, relation)
    assert not is_done(scene, scene.poses, task)
    done = carry_out(scene, task)
    assert is_done(scene, done.poses, task)
    assert done.is_open
    assert done.poses[1].tolist() == scene.poses[1].tolist()  # the target is not touched


def test_into_ends_on_the_floor_of_the_box():
    done = carry_out(PEAR_AND_BOX, make_task(PEAR_AND_BOX, "into"))
    assert done.poses[0, :3].round(4).tolist() == [0.5, 0.12, 0.006]


def test_actions_are_steps_that_the_arm_can_take():
    actions = np.stack(
        plan_actions(PEAR_AND_BOX, begin(PEAR_AND_BOX), make_task(PEAR_AND_BOX, "into"))
    )
    assert actions.dtype == np.float32
    assert np.linalg.norm(actions[:, :3], axis=1).max() <= 0.14 + 1e-6
    assert np.abs(actions[:, 5]).max() <= 0.9 + 1e-6
    changes = np.flatnonzero(np.diff(actions[:, 6]))
    assert actions[changes, 6].tolist() == [1.0, 0.0]  # open, then closed, then open again
    half = plan_actions(
        PEAR_AND_BOX, begin(PEAR_AND_BOX), make_task(PEAR_AND_BOX, "into"), step_m=0.07
    )
    assert len(half) > len(actions)


def test_dragging_stays_on_the_table():
    scene = make_scene(("red block", (0.45, -0.15)), ("blue plate", (0.55, 0.1)))
    task = make_task(scene, "beside")
    dragged = Task("beside", 0, 1, task.goal, is_dragged=True)
    now, heights = begin(scene), []
    for action in plan_actions(scene, now, dragged):
        now = advance(scene, now, action)
        heights.append(now.poses[0, 2])
    assert max(heights) < 1e-6
    assert is_done(scene, now.poses, dragged)


def test_draw_task_without_room_for_the_hand_is_none():
    # A bottle beside the ball is taller than the palm is when it takes the ball.
    scene = make_scene(
        ("red ball", (0.5, 0.0)), ("blue bowl", (0.5, 0.2)), ("green bottle", (0.5, -0.08))
    )
    assert draw_task(scene, 0, 1, "into", np.random.default_rng(0)) is None


def test_draw_task_of_what_does_not_fit_or_is_full_is_none():
    scene = make_scene(("white mug", (0.5, -0.1)), ("blue bowl", (0.5, 0.1)))
    assert draw_task(scene, 0, 1, "into", np.random.default_rng(0)) is None
    full = make_scene(
        ("red ball", (0.5, -0.12)), ("blue bowl", (0.5, 0.1)), ("red block", (0.5, 0.1))
    )
    full.poses[2, 2] = 0.01
    assert draw_task(full, 0, 1, "into", np.random.default_rng(0)) is None


def test_draw_task_that_is_done_already_is_none():
    scene = make_scene(("red block", (0.5, 0.0)), ("blue ball", (0.5, 0.1)))
    assert draw_task(scene, 0, 1, "beside", np.random.default_rng(0)) is None
