"""How good a segmenter's masks are on stills with known ones, asked as the product asks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ilv_dataset.boxes import AREA_MIN_PX
from ilv_dataset.crop_scores import iou_of_masks
from ilv_dataset.models.protocols import Segmenter
from ilv_dataset.training.scenes import TrainingScene
from ilv_dataset.training.segmenter_samples import inner_point, jitter_box

JITTER = 0.05  # of the box's side, each edge
# Longer side of what is seen of a thing, pixels; the last has no end.
SIZES_PX = (0, 12, 18, 30, 60)

# (mask (H, W) bool, box (4,), rng) -> prompt (4,) or (2,)
AskFor = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def _exact(mask: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return box


def _jittered(mask: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return jitter_box(box, JITTER, rng, size_wh=(mask.shape[1], mask.shape[0]))


def _inner(mask: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return inner_point(mask)


def _anywhere(mask: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    picked = int(rng.integers(len(rows)))
    return np.array([columns[picked] + 0.5, rows[picked] + 0.5])


PROMPTS: Mapping[str, AskFor] = {
    "exact box": _exact,
    "box jittered by 5 %": _jittered,
    "innermost point": _inner,
    "any point": _anywhere,
}


def measure_ious(
    segmenter: Segmenter, scenes: Sequence[TrainingScene], prompt: str
) -> tuple[np.ndarray, np.ndarray]:
    """IoU and longer side in pixels, (N,) each, of every thing that is large enough to crop.

    Args:
        prompt: one of PROMPTS; the randomness of a still's is its seed's.
    """
    ious, sides = [], []
    for scene in scenes:
        rng = np.random.default_rng(scene.seed)
        things = np.flatnonzero(scene.visible_px >= AREA_MIN_PX)
        if not len(things):
            continue
        truths, boxes = scene.masks()[things], scene.boxes_xyxy[things]
        asked = [PROMPTS[prompt](*pair, rng) for pair in zip(truths, boxes, strict=True)]
        ask = segmenter.segment_points if "point" in prompt else segmenter
        (found,) = ask([scene.rgb], [np.stack(asked)])
        ious += [iou_of_masks(*pair) for pair in zip(found.masks, truths, strict=True)]
        sides += (boxes[:, 2:] - boxes[:, :2]).max(axis=1).tolist()
    return np.array(ious), np.array(sides)


def summarise_ious(ious: np.ndarray, sides_px: np.ndarray) -> dict[str, Any]:
    """Mean IoU with its 95 % interval, how many are right or nearly so, and the mean by size."""
    margin = 1.96 * float(ious.std()) / max(1, len(ious)) ** 0.5
    bins = np.digitize(sides_px, SIZES_PX) - 1
    return {
        "objects": len(ious),
        "mean_iou": round(float(ious.mean()), 4),
        "interval_95": [round(float(ious.mean()) + sign * margin, 4) for sign in (-1, 1)],
        "share_over_0.5": round(float((ious >= 0.5).mean()), 4),
        "share_over_0.9": round(float((ious >= 0.9).mean()), 4),
        "mean_iou_by_side_px": {
            f"{low}+": round(float(ious[bins == number].mean()), 4)
            for number, low in enumerate(SIZES_PX)
            if (bins == number).any()
        },
    }


def measure_segmenter(segmenter: Segmenter, scenes: Sequence[TrainingScene]) -> dict[str, Any]:
    """The summary of each kind of prompt."""
    return {prompt: summarise_ious(*measure_ious(segmenter, scenes, prompt)) for prompt in PROMPTS}
