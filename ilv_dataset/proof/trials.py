"""Table tops with one task, "put X in/on Y", for training and for each of the four tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ilv_dataset.fields import PROOF_TESTS
from ilv_dataset.proof.splits import (
    SEEN_COLOURS,
    SEEN_NOUNS,
    SEEN_TABLES,
    UNSEEN_COLOURS,
    UNSEEN_NOUNS,
    UNSEEN_TABLES,
)
from ilv_dataset.simulation.motion import fits
from ilv_dataset.simulation.scenes import Camera, Light, Look, Scene, Thing, draw_look, draw_places
from ilv_dataset.simulation.tasks import Task, draw_task
from ilv_dataset.simulation.vocabulary import ALIKE, NOUNS
from ilv_dataset.simulation.wording import name_thing

# What the mover and the target are, by test; `train` is what the policy learns from.
KINDS = ("train", *PROOF_TESTS)
SCALES = (0.85, 1.15)
NUM_TARGETS = 2
NUM_OTHER_MOVERS = (2, 3)
# Of the scenes hold a second thing of the mover's noun, in another colour; none where all that
# stands around has to be unseen.
TWIN_SHARE = 0.15
YAW_RAD = (-0.8, 0.8)
# The camera of one set-up, which moves a little from one day to the next.
EYE_XYZ_M, TARGET_XYZ_M, FOV_DEG = (1.03, 0.0, 0.81), (0.53, 0.0, 0.01), 37.0
EYE_JITTER_M = 0.03
START_XYZ_M = ((0.36, 0.50), (-0.12, 0.12), (0.24, 0.34))
DRAWS = 400
WORDS = {"into": "in", "onto": "on"}


@dataclass(frozen=True, eq=False)
class Trial:
    """One scene and what is to be done in it."""

    scene: Scene
    task: Task
    text: str  # "put the mug on the plate"
    start_pose: np.ndarray  # (6,) as of motion.Arrangement
    chance: float  # of doing the task with a random mover and a random target


def draw_trial(kind: str, rng: np.random.Generator) -> Trial:
    """One trial of a kind, see KINDS.

    Raises: ValueError for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    for _ in range(DRAWS):
        target = _draw_thing(kind, rng, is_target=True)
        trial = _arrange(kind, _draw_movers(kind, target, rng), target, rng, says_colour=False)
        if trial is not None:
            return trial
    raise RuntimeError(f"no {kind} trial in {DRAWS} draws")


def move_trial(kind: str, trial: Trial, rng: np.random.Generator) -> Trial:
    """The same two objects elsewhere, their colours said: what a bank is cut from."""
    mover, target = (trial.scene.things[row] for row in (trial.task.mover, trial.task.target))
    for _ in range(DRAWS):
        others = _draw_movers(kind, target, rng)[1:]
        if mover.noun in {other.noun for other in others}:
            continue
        moved = _arrange(kind, [mover, *others], target, rng, says_colour=True)
        if moved is not None:
            return moved
    raise RuntimeError(f"no other scene of {mover.name} and {target.name} in {DRAWS} draws")


def _arrange(
    kind: str,
    movers: Sequence[Thing],
    target: Thing,
    rng: np.random.Generator,
    *,
    says_colour: bool,
) -> Trial | None:
    """A scene where the first mover goes to the target, or None where the dice gave none."""
    other = _draw_thing(_kind_of_others(kind, rng), rng, is_target=True)
    things = (movers[0], target, *movers[1:], other)
    is_odd = target.noun == other.noun or _are_alike(things)
    if is_odd or len({thing.name for thing in things}) < len(things):
        return None
    poses = draw_places(things, rng)
    if poses is None:
        return None
    poses[:, 3] = rng.uniform(*YAW_RAD, len(things)).round(4)
    scene = Scene(things, poses, _draw_look(kind, rng))
    relation = target.kind.seat.relation if target.kind.seat is not None else ""
    task = draw_task(scene, 0, 1, relation, rng)
    if task is None:
        return None
    # The gripper keeps its yaw in these tasks, and so does what it carries.
    task = replace(task, goal=np.append(task.goal[:3], poses[0, 3]))
    first, second = (
        name_thing(row, things, article="the", says_colour=says_colour) for row in (0, 1)
    )
    start = np.append([rng.uniform(*bounds) for bounds in START_XYZ_M], np.zeros(3)).round(4)
    chance = 1 / (len(movers) * NUM_TARGETS)
    text = f"put {first} {WORDS[relation]} {second}"
    return Trial(scene, task, text, start, chance)


def _kind_of_others(kind: str, rng: np.random.Generator) -> str:
    """What distractors are drawn as: half like the test's own objects, all unseen in (d)."""
    if kind == "surroundings":
        return "nouns"
    return kind if kind in ("train", "known") or rng.random() < 0.5 else "train"


def _draw_movers(kind: str, target: Thing, rng: np.random.Generator) -> list[Thing]:
    count = 1 + int(rng.integers(NUM_OTHER_MOVERS[0], NUM_OTHER_MOVERS[1] + 1))
    first = kind if kind != "surroundings" else "train"
    movers: list[Thing] = []
    for _ in range(DRAWS):
        own = first if not movers else _kind_of_others(kind, rng)
        if len(movers) == count:
            break
        mover = _draw_thing(own, rng, is_target=False)
        if fits(mover, target) and mover.noun not in {other.noun for other in movers}:
            movers.append(mover)
    if kind != "surroundings" and len(movers) > 1 and rng.random() < TWIN_SHARE:
        colours = [c for c in _colours(first, movers[0].noun) if c != movers[0].colour]
        if colours:
            movers[-1] = replace(movers[0], colour=colours[int(rng.integers(len(colours)))])
    return movers


def _colours(kind: str, noun: str) -> tuple[str, ...]:
    if kind == "nouns":
        return NOUNS[noun].colours
    return UNSEEN_COLOURS[noun] if kind == "pairs" else SEEN_COLOURS[noun]


def _draw_thing(kind: str, rng: np.random.Generator, *, is_target: bool) -> Thing:
    """A noun first, else those of many colours would crowd out the others."""
    nouns = UNSEEN_NOUNS if kind == "nouns" else SEEN_NOUNS
    choices = [
        noun
        for noun in nouns
        if _colours(kind, noun)
        and (NOUNS[noun].seat is not None if is_target else NOUNS[noun].is_mover)
        and (is_target or NOUNS[noun].seat is None)
        and not (is_target and noun == "block")  # too small a seat for most things
    ]
    noun = choices[int(rng.integers(len(choices)))]
    colours = _colours(kind, noun)
    colour = colours[int(rng.integers(len(colours)))]
    return Thing(noun, colour, round(float(rng.uniform(*SCALES)), 3))


def _are_alike(things: Sequence[Thing]) -> bool:
    nouns = {thing.noun for thing in things}
    return any(len(group & nouns) > 1 for group in ALIKE)


def _draw_look(kind: str, rng: np.random.Generator) -> Look:
    look = draw_look(rng)
    is_new = kind == "surroundings"
    tables = UNSEEN_TABLES if is_new else SEEN_TABLES
    eye = np.array(EYE_XYZ_M) + rng.uniform(-EYE_JITTER_M, EYE_JITTER_M, 3)
    aim = np.array(TARGET_XYZ_M) + rng.uniform(-0.01, 0.01, 3)
    camera = Camera(_triple(eye), _triple(aim), FOV_DEG)
    light = _dim(look.light, rng) if is_new else look.light
    table = tables[int(rng.integers(len(tables)))]
    return replace(look, table_kind=table, camera=camera, light=light)


def _dim(light: Light, rng: np.random.Generator) -> Light:
    """Light outside of what training shows: darker or lighter, and tinted."""
    gain = float(rng.choice([rng.uniform(0.68, 0.85), rng.uniform(1.08, 1.2)]))
    tint = rng.uniform(0.82, 1.0, 3)
    red, green, blue = (float(value) for value in np.array(light.rgb) * tint)
    return replace(
        light,
        rgb=(red, green, blue),
        ambient=light.ambient * gain,
        diffuse=light.diffuse * gain,
    )


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 4) for value in values)
    return x, y, z
