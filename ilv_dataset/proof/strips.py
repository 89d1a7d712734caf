"""Pictures of a rollout: a strip of its steps beside what was asked, and a GIF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from ilv_dataset.canvases import INK, Item, Picture, beside, draw_flow, stack, words
from ilv_dataset.fields import IMAGE_PLACEHOLDER
from ilv_dataset.proof.rollouts import Instruction, Rollout
from ilv_dataset.proof.studio import Studio
from ilv_dataset.proof.trials import Trial
from ilv_dataset.simulation.motion import Arrangement, advance

FRAMES_MAX = 6
GIF_MS = 250  # a frame
HOVER_M, STEP_M = 0.24, 0.05  # of the way between two keyframes, which a policy does not see
_CROP_PX, _TEXT_PX, _WIDTH = 56, 15, 1200


def film(rollout: Rollout, trial: Trial, studio: Studio) -> list[np.ndarray]:
    """Pictures of a rollout, (S, S, 3) uint8 RGB: at its keyframes and on the way between them."""
    frames = [studio.take(trial.scene, rollout.course[0]).rgb]
    for before, after in pairwise(rollout.course):
        frames += [studio.take(trial.scene, now).rgb for now in _go(trial, before, after)]
        frames.append(studio.take(trial.scene, after).rgb)
    return frames


def _go(trial: Trial, before: Arrangement, after: Arrangement) -> Iterator[Arrangement]:
    """Up, over and down from one keyframe to the next, before the gripper changes there."""
    start, end = before.gripper_pose[:3], after.gripper_pose[:3]
    top = max(float(start[2]), float(end[2]), HOVER_M)
    corners = (start, (*start[:2], top), (*end[:2], top), end)
    path = [np.asarray(corner, np.float64) for corner in corners]
    points = [
        a + (b - a) * share
        for a, b in pairwise(path)
        if np.linalg.norm(b - a) > STEP_M / 2
        for share in (0.5, 1.0)
    ]
    now = before
    for point in points:
        change = np.append(point - now.gripper_pose[:3], np.zeros(3))
        now = advance(trial.scene, now, np.append(change, float(before.is_open)))
        yield now


def draw_strip(frames: Sequence[np.ndarray], instruction: Instruction, title: str) -> Image.Image:
    """What was asked, with its pictures, above FRAMES_MAX frames of what was done."""
    chosen = np.linspace(0, len(frames) - 1, min(FRAMES_MAX, len(frames))).round().astype(int)
    shown = [Image.fromarray(frames[row]) for row in dict.fromkeys(chosen.tolist())]
    head = draw_flow(words(title, _TEXT_PX), _WIDTH)
    asked = draw_flow(_instruction_items(instruction), _WIDTH)
    return stack([head, asked, beside(shown, gap=4, width=_WIDTH)], gap=6, margin=6)


def _instruction_items(instruction: Instruction) -> list[Item]:
    text, images = instruction
    items: list[Item] = []
    for number, part in enumerate(text.split(IMAGE_PLACEHOLDER)):
        if number:
            image = Image.fromarray(images[number - 1]).resize((_CROP_PX, _CROP_PX))
            items.append(Picture(image, "", INK, _CROP_PX))
        items += words(part, _TEXT_PX) if part.strip() else []
    return items


def save_gif(frames: Sequence[np.ndarray], path: Path) -> None:
    """Writes the frames as a GIF that begins again after its end."""
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(path, save_all=True, append_images=rest, duration=GIF_MS, loop=0)
