from collections import Counter

import numpy as np
import pytest

from ilv_dataset.simulation.motion import advance
from ilv_dataset.simulation.plans import CASES, Plan, draw_plan
from ilv_dataset.simulation.vocabulary import NOUNS


def first_plan(case: str, seed: int, *, step_m: float = 0.14) -> Plan:
    for draw in range(500):
        plan = draw_plan(case, np.random.default_rng([seed, draw]), step_m=step_m)
        if plan is not None:
            return plan
    raise AssertionError(f"no {case} plan for seed {seed}")


EVERY_CASE = pytest.mark.parametrize("case", sorted(set(CASES)))


def test_at_most_one_episode_in_five_has_no_instruction():
    for episodes in range(1, 50):
        assert (
            sum(CASES[index % len(CASES)] == "empty" for index in range(episodes)) * 5 <= episodes
        )


@EVERY_CASE
def test_recorded_actions_lead_from_step_to_step(case: str):
    plan = first_plan(case, 1)
    assert len(plan.arrangements) == len(plan.actions) == len(plan.instructions)
    for step, action in enumerate(plan.actions[:-1]):
        after = advance(plan.scene, plan.arrangements[step], action)
        assert after.state.tolist() == plan.arrangements[step + 1].state.tolist()
        assert np.array_equal(after.poses, plan.arrangements[step + 1].poses)
    assert plan.actions[-1].tolist() == [0, 0, 0, 0, 0, 0, 1]


@EVERY_CASE
def test_names_are_unique_and_said(case: str):
    for seed in range(5):
        plan = first_plan(case, seed)
        names = [thing.name for thing in plan.scene.things]
        assert len(set(names)) == len(names)
        for step in plan.span_starts if case != "empty" else ():
            text = plan.instructions[step].lower()
            for row in plan.named[step]:
                thing = plan.scene.things[row]
                assert thing.noun in text
                twins = [other for other in plan.scene.things if other.noun == thing.noun]
                if len({twin.colour for twin in twins}) > 1:
                    assert f"{thing.colour} {thing.noun}" in text
                elif len(twins) > 1:
                    assert thing.size in text


def test_cases_are_what_they_are_called():
    assert set(first_plan("empty", 0).instructions) == {""}
    assert len(set(first_plan("two-tasks", 0).instructions)) == 2
    assert len(first_plan("two-tasks", 0).span_starts) == 2
    assert first_plan("plain", 0).span_starts == (0,)
    assert len(first_plan("clutter", 0).scene.things) >= 6
    nouns = Counter(thing.noun for thing in first_plan("same-noun", 0).scene.things)
    assert max(nouns.values()) == 2
    colours = Counter(thing.colour for thing in first_plan("same-colour", 0).scene.things)
    assert max(colours.values()) >= 3
    assert {"small", "large"} <= {thing.size for thing in first_plan("size", 0).scene.things}
    hidden = first_plan("hidden", 0)
    assert hidden.scene.things[1].noun in ("pot", "box")
    assert hidden.scene.poses[0, 0] < hidden.scene.poses[1, 0]  # behind it, seen from the camera


def test_all_nouns_are_used():
    used = set()
    for seed in range(120):
        used |= {thing.noun for thing in first_plan(CASES[seed % len(CASES)], seed).scene.things}
    assert used == set(NOUNS)


def test_shorter_steps_make_longer_episodes():
    long, short = (first_plan("plain", 4, step_m=step_m) for step_m in (0.14, 0.03))
    assert len(short.actions) > 2 * len(long.actions)
