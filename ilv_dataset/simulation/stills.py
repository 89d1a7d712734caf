"""Random table tops as single pictures, without a task: what vision models train and test on.

Far more varied than an episode's frames, whose camera, light and tables lie inside the range.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeVar

import numpy as np

from ilv_dataset.simulation.arms import Arm
from ilv_dataset.simulation.clutter import Clutter, draw_clutter, shape_clutter
from ilv_dataset.simulation.motion import GRIPPER_GAP_M, START_POSE, fits, grasp_pose
from ilv_dataset.simulation.nouns import COLOURS, Rgb
from ilv_dataset.simulation.photographs import StillLook, draw_look, spoil_image
from ilv_dataset.simulation.scenes import ARM_COLOURS, Thing, is_free
from ilv_dataset.simulation.stage import MIDDLE_XYZ, Stage
from ilv_dataset.simulation.vocabulary import ALIKE, NOUNS

STILL_PX = 256
NUM_THINGS = (3, 9)
SCALES = (0.8, 1.25)
HELD_OUT_SHARE = 0.10
KEPT_PER_NOUN, KEPT_PER_COLOUR = 3, 6  # pairs that are never held out
TWIN_SHARE = 0.28  # of the things share their noun with one before them; as many their colour
SEAT_SHARE = 0.12  # of the things that fit are in or on another
ARM_SHARE, HOLD_SHARE = 0.6, 0.3  # of the stills show the arm; of these, holding a thing
COLOUR_JITTER = 0.035
THING_DRAWS, PLACE_DRAWS, ARM_DRAWS = 60, 80, 6
# Of things, and of finger tips that may be turned and tilted.
PLACE_XY_M = ((0.34, 0.72), (-0.27, 0.27))
TIPS_XYZ_M = ((0.34, 0.70), (-0.28, 0.28), (0.02, 0.38))

T = TypeVar("T")
Pair = tuple[str, str]  # colour, noun


@dataclass(frozen=True, eq=False)
class Still:
    """One picture of some things and where each is seen."""

    rgb: np.ndarray  # (S, S, 3) uint8
    labels: np.ndarray  # (S, S) uint8: i + 1 where things[i] is seen, else 0
    things: tuple[Thing, ...]


def choose_held_out(pairs: Sequence[Pair]) -> frozenset[Pair]:
    """About a tenth of the pairs, by the SHA-256 of `colour noun`.

    Each noun keeps KEPT_PER_NOUN pairs and each colour KEPT_PER_COLOUR, or all that it has.
    """
    colours, nouns = (Counter(pair[k] for pair in pairs) for k in (0, 1))
    chosen: set[Pair] = set()
    for pair in sorted(pairs, key=lambda pair: hashlib.sha256(" ".join(pair).encode()).digest()):
        colour, noun = pair
        if len(chosen) >= HELD_OUT_SHARE * len(pairs):
            break
        if colours[colour] > KEPT_PER_COLOUR and nouns[noun] > KEPT_PER_NOUN:
            chosen.add(pair)
            colours[colour] -= 1
            nouns[noun] -= 1
    return frozenset(chosen)


PAIRS: tuple[Pair, ...] = tuple(
    (colour, noun.name) for noun in NOUNS.values() for colour in noun.colours
)
# Never drawn unless asked for: they show whether a model composes colour and noun.
HELD_OUT = choose_held_out(PAIRS)


def draw_still(seed: int, *, held_out: bool = False, size_px: int = STILL_PX) -> Still:
    """The still of a seed: 3 to 9 things of different names; the same seed gives the same pixels.

    The first call of a process takes some seconds, for it sets up what later ones reuse.

    Args:
        held_out: at least one of the things is of HELD_OUT; otherwise none is.

    Raises: ConfigError if pybullet is not installed.
    """
    rng = np.random.default_rng([seed, int(held_out)])
    look = draw_look(rng)
    while True:
        things, poses = _place_things(_draw_things(rng, held_out), rng, look)
        if len(things) >= NUM_THINGS[0]:
            break
    return _open_studio(bool(rng.random() < ARM_SHARE)).take(things, poses, look, rng, size_px)


def _draw_things(rng: np.random.Generator, held_out: bool) -> list[Thing]:
    """Things of different names, many with the noun or the colour of another."""
    count = int(rng.integers(NUM_THINGS[0], NUM_THINGS[1] + 1))
    allowed = PAIRS if held_out else [pair for pair in PAIRS if pair not in HELD_OUT]
    pairs = [_pick(sorted(HELD_OUT), rng)] if held_out else []
    for _ in range(THING_DRAWS):
        if len(pairs) == count:
            break
        style, anchor = float(rng.random()), _pick(pairs, rng) if pairs else ("", "")
        likes = allowed
        if pairs and style < 2 * TWIN_SHARE:
            row = 1 if style < TWIN_SHARE else 0
            likes = [pair for pair in allowed if pair[row] == anchor[row]]
        # A noun first: else those of many colours would crowd out the others.
        noun = _pick(sorted({noun for _, noun in likes}), rng)
        pair = _pick([pair for pair in likes if pair[1] == noun], rng)
        alike = frozenset().union(*(group for group in ALIKE if noun in group)) - {noun}
        if pair not in pairs and not alike & {other for _, other in pairs}:
            pairs.append(pair)
    return [Thing(noun, colour, float(rng.uniform(*SCALES))) for colour, noun in pairs]


def _pick(choices: Sequence[T], rng: np.random.Generator) -> T:
    return choices[int(rng.integers(len(choices)))]


def _place_things(
    things: Sequence[Thing], rng: np.random.Generator, look: StillLook
) -> tuple[list[Thing], np.ndarray]:
    """Those of the things that find a place, the first for certain, and poses as of a Scene."""
    eye = look.setting.camera.eye_xyz
    facing = float(np.arctan2(eye[1], eye[0] - MIDDLE_XYZ[0]))
    kept: list[Thing] = []
    poses: list[tuple[float, float, float, float]] = []
    filled: set[int] = set()
    order = sorted(range(1, len(things)), key=lambda row: -things[row].radius_m)
    for thing in (things[0], *(things[row] for row in order)):
        yaw = float(rng.uniform(*thing.kind.yaw_rad)) + facing
        seats = [row for row in range(len(kept)) if row not in filled and fits(thing, kept[row])]
        if seats and thing.kind.is_mover and rng.random() < SEAT_SHARE:
            row = _pick(seats, rng)
            filled |= {row, len(kept)}
            poses.append((*poses[row][:2], poses[row][2] + _seat_m(kept[row]), yaw))
            kept.append(thing)
            continue
        taken = [
            (np.array(pose[:2]), other.radius_m) for other, pose in zip(kept, poses, strict=True)
        ]
        for _ in range(PLACE_DRAWS):
            xy = np.array([rng.uniform(*bounds) for bounds in PLACE_XY_M])
            if is_free(xy, thing.radius_m, taken):
                kept.append(thing)
                poses.append((float(xy[0]), float(xy[1]), 0.0, yaw))
                break
    return kept, np.array(poses)


def _seat_m(below: Thing) -> float:
    """Height of its seat above its foot."""
    return below.kind.seat.z_m * below.scale if below.kind.seat else 0.0


def _jitter(rgb: Rgb, rng: np.random.Generator) -> Rgb:
    """A little off: as lighter or darker as bluer or redder."""
    red, green, blue = np.clip(
        np.array(rgb) * rng.uniform(0.9, 1.08) + rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, 3), 0, 1
    )
    return float(red), float(green), float(blue)


class _Studio:
    """A stage, with an arm or without, that is set up once; things come and go."""

    def __init__(self, has_arm: bool) -> None:
        self._stage = Stage()
        self._arm = Arm(self._stage, ARM_COLOURS[0], is_coarse=True) if has_arm else None

    def take(
        self,
        things: Sequence[Thing],
        poses: np.ndarray,
        look: StillLook,
        rng: np.random.Generator,
        size_px: int,
    ) -> Still:
        """The still of things at poses, (N, 4) as of a Scene, one of which the arm may lift."""
        if self._arm is not None:
            self._arm.paint(look.arm_rgb)
            poses = self._pose_arm(self._arm, things, poses, rng)
        circles = [(pose[:2], thing.radius_m) for thing, pose in zip(things, poses, strict=True)]
        bodies = []
        for thing, (*xyz, yaw) in zip(things, poses, strict=True):
            bodies.append(self._stage.load_thing(thing, rgb=_jitter(COLOURS[thing.colour], rng)))
            self._stage.place(bodies[-1], xyz, rpy=(0.0, 0.0, yaw))
        others = [self._load_clutter(one) for one in draw_clutter(rng, PLACE_XY_M, circles)]
        picture = self._stage.take_picture(
            look.setting, bodies, size_px=size_px, supersample=look.supersample
        )
        # The last first: the stage then draws the rest in the order that it had.
        for body in reversed([*bodies, *others]):
            self._stage.remove(body)
        return Still(spoil_image(picture.rgb, rng), picture.labels, tuple(things))

    def _load_clutter(self, one: Clutter) -> int:
        path = (
            one.mesh_file(self._stage.models)
            if one.is_model
            else self._stage.save_mesh(one.name, partial(shape_clutter, one.number))
        )
        body = self._stage.load_body([(path, one.rgb)], scale=one.scale)
        self._stage.place(body, one.xyz_m, rpy=one.rpy)
        return body

    def _pose_arm(
        self, arm: Arm, things: Sequence[Thing], poses: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Poses the arm; the poses of the things, one of them perhaps in the gripper."""
        row = int(rng.integers(len(things)))
        is_alone = (poses[:, :2] == poses[row, :2]).all(axis=1).sum() == 1
        if rng.random() < HOLD_SHARE and things[row].kind.is_mover and is_alone:
            lifted = poses.copy()
            lifted[row, 2] += rng.uniform(0.0, 0.2)
            x, y, z, yaw = grasp_pose(things[row], lifted[row])
            width_m = min(GRIPPER_GAP_M, things[row].kind.grasp.width_m * things[row].scale)
            if arm.try_pose(np.array([x, y, z, 0.0, 0.0, yaw]), width_m):
                return lifted
        for _ in range(ARM_DRAWS):
            tips = [rng.uniform(*bounds) for bounds in TIPS_XYZ_M]
            turn = rng.uniform((-0.25, -0.25, -1.4), (0.25, 0.25, 1.4))
            if arm.try_pose(np.array([*tips, *turn]), float(rng.uniform(0.0, GRIPPER_GAP_M))):
                return poses
        arm.pose(np.array(START_POSE), GRIPPER_GAP_M)
        return poses


@cache
def _open_studio(has_arm: bool) -> _Studio:
    """The studios of this process."""
    return _Studio(has_arm)
