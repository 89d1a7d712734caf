"""Episodes with their pictures: plans rendered, checked by what is seen, and drawn anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ilv_dataset.simulation.expert import STEP_M
from ilv_dataset.simulation.plans import CASES, Plan, draw_plan
from ilv_dataset.simulation.render import World
from ilv_dataset.simulation.shading import label_boxes
from ilv_dataset.simulation.stage import Picture

DRAWS = 2000  # of a plan, before it counts as a bug; most cases need fewer than ten
CLEAR_PX = 100  # of a named thing when its instruction begins; some 10 x 10 pixels
HIDDEN_PX = 0  # of the hidden thing of the case `hidden` in the first frame
SEEN_PX = 40  # of any thing in at least one frame
BORDER_PX = 3  # a named thing keeps this far from the edge of the first frame


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode as it is written; parallel over T steps."""

    index: int
    seed: int
    plan: Plan
    pictures: tuple[Picture, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What its objects are called, in the order of the labels."""
        return tuple(thing.name for thing in self.plan.scene.things)


def render_episode(index: int, *, seed: int, step_m: float = STEP_M) -> Episode:
    """The episode of that number: the same for a seed, whatever was rendered before it.

    Args:
        step_m: what the gripper moves in a step at most, metres: smaller ones, longer episodes.
    """
    case = CASES[index % len(CASES)]
    for draw in range(DRAWS):
        plan = draw_plan(case, np.random.default_rng([seed, index, draw]), step_m=step_m)
        pictures = None if plan is None else _take_pictures(plan)
        if plan is not None and pictures is not None:
            return Episode(index, seed, plan, pictures)
    raise RuntimeError(f"no {case} episode in {DRAWS} draws of seed {seed}, episode {index}")


def _take_pictures(plan: Plan) -> tuple[Picture, ...] | None:
    """All pictures of a plan, or None as soon as one shows that it is no good."""
    pictures: list[Picture] = []
    with World(plan.scene) as world:
        for step, arrangement in enumerate(plan.arrangements):
            world.arrange(arrangement)
            pictures.append(world.picture())
            if step in plan.span_starts and not _is_clear(plan, step, pictures[-1].labels):
                return None
    return tuple(pictures) if _are_all_seen(plan, pictures) else None


def _is_clear(plan: Plan, step: int, labels: np.ndarray) -> bool:
    """True where the things that an instruction names can be seen when it begins."""
    boxes, counts = label_boxes(labels, len(plan.scene.things))
    mover, target = plan.named[step]
    margin = BORDER_PX / len(labels)
    inside = all(
        boxes[row, :2].min() >= margin and boxes[row, 2:].max() <= 1 - margin
        for row in (mover, target)
        if counts[row]
    )
    if plan.case == "hidden":
        return bool(inside and counts[mover] <= HIDDEN_PX and counts[target] >= CLEAR_PX)
    return bool(inside and min(counts[mover], counts[target]) >= CLEAR_PX)


def _are_all_seen(plan: Plan, pictures: list[Picture]) -> bool:
    """True where every thing shows at some time, and a hidden one in the middle of the episode."""
    count = len(plan.scene.things)
    seen = np.stack([label_boxes(picture.labels, count)[1] for picture in pictures])
    if plan.case == "hidden":
        # Frames are probed at steps 0, 5, 10 …: one of them must show it.
        return bool(seen[5::5, plan.named[0][0]].max(initial=0) >= CLEAR_PX)
    return bool(seen.max(axis=0).min() >= SEEN_PX)
