from types import SimpleNamespace

import numpy as np
import pytest

from ilv_dataset.proof.experts import begin_trial, plan_course, settle
from ilv_dataset.proof.rollouts import roll_out
from ilv_dataset.proof.trials import draw_trial
from ilv_dataset.simulation.motion import NOTHING
from ilv_dataset.simulation.tasks import is_done


class FakeStudio:
    """Gives grey frames and counts them."""

    def __init__(self):
        self.taken = 0

    def take(self, scene, now):
        self.taken += 1
        return SimpleNamespace(rgb=np.full((8, 8, 3), 90, np.uint8))


@pytest.fixture(scope="module")
def trials():
    return [draw_trial("known", np.random.default_rng([5, number])) for number in range(3)]


def expert(trials, *, error_m=0.0):
    """Acts by what it was told: the number of the trial."""
    plans = [plan_course(trial)[1] for trial in trials]

    def act(frames, states, instructions):
        rows = [
            plans[int(text)][0 if state[-1][6] > 0.5 else 1]
            for (text, _), state in zip(instructions, states, strict=True)
        ]
        return np.stack(rows)[:, None] + error_m * np.array([1.0, 0, 0, 0, 0, 0, 0])

    return act


def told(trials):
    return [(str(number), ()) for number in range(len(trials))]


def test_expert_does_the_task_in_a_pick_and_a_place(trials):
    for trial in trials:
        course, actions = plan_course(trial)
        assert actions.shape == (2, 7)
        assert actions[:, 6].tolist() == [0.0, 1.0]
        assert course[1].held == trial.task.mover
        assert course[2].held == NOTHING
        assert is_done(trial.scene, course[2].poses, trial.task)


def test_expert_succeeds_in_closed_loop_and_looks_once_an_action(trials):
    studio = FakeStudio()
    results = roll_out(expert(trials), trials, told(trials), studio, frame_px=8)
    assert [result.is_success for result in results] == [True, True, True]
    assert [len(result.course) for result in results] == [3, 3, 3]
    assert studio.taken == 6


def test_a_small_error_is_given_way_to_and_a_large_one_is_not(trials):
    near, far = (
        roll_out(expert(trials, error_m=error), trials, told(trials), FakeStudio(), frame_px=8)
        for error in (0.015, 0.30)
    )
    assert all(result.is_success for result in near)
    assert not any(result.is_success for result in far)


def test_frames_that_are_known_are_not_taken_again(trials):
    studio = FakeStudio()
    known = [np.zeros((8, 8, 3), np.uint8)] * 3
    roll_out(expert(trials), trials, told(trials), studio, frame_px=8, first_frames=known)
    assert studio.taken == 3


def test_a_policy_that_does_nothing_is_stopped(trials):
    results = roll_out(
        lambda frames, states, instructions: np.tile([0, 0, 0, 0, 0, 0, 1.0], (len(frames), 1, 1)),
        trials,
        told(trials),
        FakeStudio(),
        frame_px=8,
        steps_max=4,
    )
    assert [len(result.course) for result in results] == [5, 5, 5]
    assert not any(result.is_success for result in results)


def test_settle_keeps_the_yaw_and_leaves_a_far_grasp_alone(trials):
    now = begin_trial(trials[0])
    up = np.array([0.0, 0.0, 0.1, 0.3, 0.3, 0.3, 0.0])
    assert settle(trials[0].scene, now, up).tolist() == [0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0]
