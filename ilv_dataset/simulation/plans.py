"""Episodes before they are rendered: a scene for a case, its instructions and all its movements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ilv_dataset.simulation.expert import STEP_M, plan_actions
from ilv_dataset.simulation.motion import Arrangement, advance, begin, fits
from ilv_dataset.simulation.scenes import Scene, Thing, draw_look, draw_places, is_free
from ilv_dataset.simulation.tasks import Task, draw_task, is_done
from ilv_dataset.simulation.vocabulary import ALIKE, NOUNS, TWIN_NOUNS
from ilv_dataset.simulation.wording import word_task

RELATION_SHARES = {"into": 0.45, "onto": 0.30, "beside": 0.25}
SCALES = (0.95, 1.06)
SMALL_SCALE, LARGE_SCALE = 0.68, 1.06
# A pot this large, seen from this low, hides what stands close behind it and is not higher.
HIDING_SCALE, HIDING_ELEVATION_DEG, HIDING_GAP_M, HIDDEN_MAX_M = 1.22, (29.0, 33.0), 0.004, 0.071
HIDDEN_NEAREST_M = 0.33  # nearer to its base the arm cannot point straight down
# What happens in episode 0, 1, 2 …, again and again. One in twelve has no instruction.
CASES = (
    "plain",
    "same-noun",
    "clutter",
    "two-tasks",
    "same-colour",
    "hidden",
    "plain",
    "size",
    "same-noun",
    "clutter",
    "empty",
    "same-colour",
)


@dataclass(frozen=True, eq=False)
class Plan:
    """One episode, all but its pictures; parallel over T steps."""

    case: str
    scene: Scene
    arrangements: tuple[Arrangement, ...]
    actions: np.ndarray  # (T, 7) float32; the last step's does nothing
    instructions: tuple[str, ...]
    named: tuple[tuple[int, int], ...]  # things that the step's instruction is about

    @property
    def span_starts(self) -> tuple[int, ...]:
        """Steps at which an instruction begins."""
        changes = [
            step
            for step in range(1, len(self.named))
            if (self.instructions[step], self.named[step])
            != (self.instructions[step - 1], self.named[step - 1])
        ]
        return (0, *changes)


def draw_plan(case: str, rng: np.random.Generator, *, step_m: float = STEP_M) -> Plan | None:
    """One episode of a case, or None where the dice gave nothing that can be done."""
    scene = _draw_hidden_scene(rng) if case == "hidden" else _draw_scene(case, rng)
    if scene is None:
        return None
    plan = _Draft(case, scene, begin(scene))
    for number in range(2 if case == "two-tasks" else 1):
        task = _draw_any_task(plan, number, rng)
        if task is None:
            return None
        plan.carry_out(task, _word(case, scene, task, rng), step_m)
        if not is_done(scene, plan.now.poses, task):
            return None
    return plan.finish()


class _Draft:
    """A plan that grows by one task at a time."""

    def __init__(self, case: str, scene: Scene, now: Arrangement) -> None:
        self.case, self.scene, self.now = case, scene, now
        self._steps: list[tuple[Arrangement, np.ndarray, str, tuple[int, int]]] = []
        self.tasks: list[Task] = []

    def carry_out(self, task: Task, instruction: str, step_m: float) -> None:
        self.tasks.append(task)
        for action in plan_actions(self.scene, self.now, task, step_m=step_m):
            self._steps.append((self.now, action, instruction, (task.mover, task.target)))
            self.now = advance(self.scene, self.now, action)

    def finish(self) -> Plan:
        """Adds the last observation, after which nothing is done."""
        rest = np.append(np.zeros(6), 1.0).astype(np.float32)
        steps = [*self._steps, (self.now, rest, *self._steps[-1][2:])]
        arrangements, actions, instructions, named = zip(*steps, strict=True)
        return Plan(self.case, self.scene, arrangements, np.stack(actions), instructions, named)


def _word(case: str, scene: Scene, task: Task, rng: np.random.Generator) -> str:
    if case == "empty":
        return ""
    manner = "dragged" if task.is_dragged else task.relation
    return word_task(manner, task.mover, task.target, scene.things, rng)


def _draw_any_task(plan: _Draft, number: int, rng: np.random.Generator) -> Task | None:
    """The first task moves thing 0 to thing 1; a second one is any that can be done."""
    scene = replace(plan.scene, poses=plan.now.poses)
    if number == 0:
        relation = _relation_of(scene.things[0], scene.things[1], rng)
        return draw_task(scene, 0, 1, relation, rng)
    used = {plan.tasks[-1].mover, plan.tasks[-1].target}
    count = len(scene.things)
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b and a not in used]
    for row in rng.permutation(len(pairs)):
        mover, target = pairs[row]
        if not scene.things[mover].kind.is_mover:
            continue
        relation = _relation_of(scene.things[mover], scene.things[target], rng)
        task = draw_task(scene, mover, target, relation, rng)
        if task is not None and (relation == "beside" or target not in used):
            return task
    return None


def _relation_of(mover: Thing, target: Thing, rng: np.random.Generator) -> str:
    seat = target.kind.seat
    if seat is not None and fits(mover, target) and rng.random() < 0.9:
        return seat.relation
    return "beside"


def _draw_scene(case: str, rng: np.random.Generator) -> Scene | None:
    pair = _draw_pair(rng)
    others = _OTHERS.get(case, _draw_others)(pair, rng)
    if others is None:
        return None
    things = [*pair, *others]
    if case == "size":  # the twins differ in size alone: the first or second thing and the last
        things[1 if others[-1].noun == pair[1].noun else 0] = _resize(others[-1])
    if len({thing.name for thing in things}) < len(things) or _are_alike(things):
        return None
    look = draw_look(rng)
    poses = draw_places(things, rng)
    return None if poses is None else Scene(tuple(things), poses, look)


def _draw_pair(rng: np.random.Generator) -> list[Thing]:
    """A mover and a target between which something can be done."""
    relation = str(rng.choice(list(RELATION_SHARES), p=list(RELATION_SHARES.values())))
    mover = _draw_thing(rng, _pick([name for name, noun in NOUNS.items() if noun.is_mover], rng))
    targets = [_draw_thing(rng, name) for name in NOUNS if name != mover.noun]
    seats = [
        target
        for target in targets
        if target.kind.seat is not None
        and target.kind.seat.relation == relation
        and fits(mover, target)
    ]
    choices = seats or targets
    return [mover, choices[int(rng.integers(len(choices)))]]


def _pick(names: Sequence[str], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]


def _draw_thing(rng: np.random.Generator, noun: str = "", colour: str = "") -> Thing:
    noun = noun or _pick(list(NOUNS), rng)
    colour = colour or _pick(NOUNS[noun].colours, rng)
    return Thing(noun, colour, round(float(rng.uniform(*SCALES)), 3))


def _draw_others(
    pair: Sequence[Thing], rng: np.random.Generator, count: tuple[int, int] = (1, 3)
) -> list[Thing]:
    """Bystanders of other nouns than the pair's."""
    taken = {thing.noun for thing in pair}
    free = [name for name in NOUNS if name not in taken]
    number = int(rng.integers(count[0], count[1] + 1))
    return [_draw_thing(rng, free[row]) for row in rng.permutation(len(free))[:number]]


def _draw_clutter(pair: Sequence[Thing], rng: np.random.Generator) -> list[Thing]:
    return _draw_others(pair, rng, (4, 5))


def _draw_noun_twin(pair: Sequence[Thing], rng: np.random.Generator) -> list[Thing] | None:
    """Bystanders, one of them like the mover or the target but for its colour."""
    thing = pair[int(rng.integers(2))]
    colours = [colour for colour in thing.kind.colours if colour != thing.colour]
    if not colours:
        return None
    twin = _draw_thing(rng, thing.noun, _pick(colours, rng))
    return [twin, *_draw_others(pair, rng, (0, 2))]


def _draw_colour_twins(pair: Sequence[Thing], rng: np.random.Generator) -> list[Thing] | None:
    """Bystanders, all in the mover's colour or the target's."""
    others = _draw_others(pair, rng, (2, 3))
    colour = pair[int(rng.integers(2))].colour
    if any(colour not in thing.kind.colours for thing in others):
        return None
    return [replace(thing, colour=colour) for thing in others]


def _draw_size_twin(pair: Sequence[Thing], rng: np.random.Generator) -> list[Thing] | None:
    """Bystanders; the last has the noun and colour of one of the pair and another size."""
    row = int(rng.integers(2))
    if pair[row].noun not in TWIN_NOUNS:
        return None
    # What is filled is the large one, what is moved is the small one: that always fits.
    size, scale = ("small", SMALL_SCALE) if row == 1 else ("large", LARGE_SCALE)
    return [*_draw_others(pair, rng, (0, 1)), replace(pair[row], scale=scale, size=size)]


def _resize(twin: Thing) -> Thing:
    """The other one of two that differ in size."""
    if twin.size == "small":
        return replace(twin, scale=LARGE_SCALE, size="large")
    return replace(twin, scale=SMALL_SCALE, size="small")


def _are_alike(things: Sequence[Thing]) -> bool:
    nouns = {thing.noun for thing in things}
    return any(len(group & nouns) > 1 for group in ALIKE)


_OTHERS: Mapping[str, Callable[[Sequence[Thing], np.random.Generator], list[Thing] | None]] = {
    "clutter": _draw_clutter,
    "same-noun": _draw_noun_twin,
    "same-colour": _draw_colour_twins,
    "size": _draw_size_twin,
}


def _draw_hidden_scene(rng: np.random.Generator) -> Scene | None:
    """A pot or box that hides what is to be put into it, until the arm lifts that."""
    target = replace(_draw_thing(rng, _pick(("pot", "box"), rng)), scale=HIDING_SCALE)
    low = [name for name, noun in NOUNS.items() if noun.is_mover and noun.height_m < HIDDEN_MAX_M]
    mover = _draw_thing(rng, _pick(low, rng))
    look = draw_look(rng, elevation_deg=HIDING_ELEVATION_DEG)
    things = [mover, target, *_draw_others([mover, target], rng, (1, 2))]
    poses = draw_places(things, rng)
    if poses is None or not fits(mover, target) or _are_alike(things):
        return None
    eye = np.asarray(look.camera.eye_xyz[:2])
    behind = poses[1, :2] - eye
    behind /= np.linalg.norm(behind)
    # The pot's handles and the box's corners point sideways, seen from the camera.
    across = float(np.arctan2(behind[1], behind[0])) + np.pi / 2
    depth = 0.062 if target.noun == "box" else 0.070
    poses[1, 3] = across
    # The hand is narrow along the mover's long side, so that side points away from the pot.
    poses[0, 3] = across - np.pi / 2
    poses[0, :2] = poses[1, :2] + behind * (depth * target.scale + mover.radius_m + HIDING_GAP_M)
    others = [(poses[row, :2], things[row].radius_m) for row in range(2, len(things))]
    is_reached = poses[0, 0] > HIDDEN_NEAREST_M and is_free(poses[0, :2], mover.radius_m, others)
    return Scene(tuple(things), poses, look) if is_reached else None
