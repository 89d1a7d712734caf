"""Whether a crop shows its phrase, judged by figures: no model looks at it again.

What a detector and a segmenter say of one place must fit together, the place must have a
thing's size and shape, no other phrase may want it as much, and a score that is not convincing by
itself must be borne out by another frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ilv_dataset.boxes import box_areas_px, box_ious
from ilv_dataset.records import Box, Candidate, Sighting, Verdict

# How far two frames may differ and still show one thing. Source: ours, see Limits: of 215 pairs of
# frames with one thing 189 are alike, of 14 with a right and a wrong box none.
COLOR_MAX = 25.0  # length of the difference of two mean colours, 0..441
AREA_RATIO_MAX = 1.5


@dataclass(frozen=True, slots=True)
class Limits:
    """The thresholds of the verdict.

    score_sure is the paper's threshold for a first frame; YOLOv8n's figures below were taken with
    0.4, which refuses a right orange of fractal (0.38); 0.75 gains 0.04 of precision and loses
    0.17 of recall. fill_min and aspect_max: of 2,726 things of at least 18 pixels in 500 stills
    (`python -m ilv_dataset.training scenes --seed 3000000 --num 500`) 3 fill less and 2 are longer;
    0.2 and 5 refused one in forty, forks and knives mostly. The figures below were taken with these
    and a vocabulary of 24 nouns. The others: ours, where F0.5 is best or nearly so (a wrong picture
    is worse than none) on what
    `tests/bench/calibrate_agreement.py FOLDER --weights yolov8n-seg_int8.onnx` prints for 120
    episodes of the seeds 7 and 8; in brackets, 40 held-out episodes of seed 9:
    - 4,828 true boxes moved by 0 to 100 % of their sides, masks by grabcut: precision 0.72
      without a verifier, 0.973 with it at recall 0.912 (0.976 and 0.901);
    - YOLOv8n (COCO) asked for every noun of the simulation, there or not, the first accepted crop
      of each object: precision 0.640 and recall 0.983 without, 0.667 and 0.966 with (0.552 and
      1.000, 0.556 and 0.938); of nouns that are there 0.950 and 0.983, 0.949 and 0.966 (1.000 and
      1.000, 1.000 and 0.938). So it finds bad boxes and masks, and hardly any wrong name;
    - two names that want one box: precision 0.673 without, 0.751 with the margin at recall 0.800
      (0.745 and 0.798); scores of that detector, paired at random.
    """

    score_sure: float = 0.3
    score_min: float = 0.2  # YOLO-World's own; below it one in three is right, agreeing or not
    margin_min: float = 0.1
    mask_iou_min: float = 0.6
    fill_min: float = 0.1
    aspect_max: float = 8.0
    share_max: float = 0.3  # all true boxes are below 0.2


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Figures:
    """What is measured of a candidate."""

    score: float | None  # 0..1, the detector's
    margin: float  # of the score over the best of another phrase's boxes at this place
    mask_iou: float | None  # of the mask's bounding box with the detector's; None without a mask
    fill: float | None  # share of the detector's box that the mask fills
    aspect: float  # longer side of the box by the shorter
    share: float  # of the frame that the box takes
    num_agreeing: int  # earlier frames that show such a thing too
    num_differing: int  # earlier frames of the same camera that show another


def measure_candidate(candidate: Candidate) -> Figures:
    """Measures what the verdict is made from."""
    seen = candidate.sighting
    x0, y0, x1, y1 = seen.box_xyxy
    sides = sorted((max(x1 - x0, 1e-6), max(y1 - y0, 1e-6)))
    area, frame = sides[0] * sides[1], seen.size_wh[0] * seen.size_wh[1]
    others = [other for other in candidate.earlier if other.camera == seen.camera]
    num_agreeing = sum(is_alike(seen, other) for other in others)
    return Figures(
        score=seen.box_score,
        margin=(seen.box_score or 0.0) - seen.rival_score,
        mask_iou=None if seen.mask_box_xyxy is None else _iou(seen.box_xyxy, seen.mask_box_xyxy),
        fill=None if seen.mask_area_px is None else seen.mask_area_px / area,
        aspect=sides[1] / sides[0],
        share=area / frame,
        num_agreeing=num_agreeing,
        num_differing=len(others) - num_agreeing,
    )


def is_alike(one: Sighting, other: Sighting) -> bool:
    """Whether two frames of a camera show one thing: its colour and size, wherever it is by now.

    A thing that the arm carries away is still the same; a box that jumps to another is not.
    """
    distance = float(np.linalg.norm(np.subtract(one.color_rgb, other.color_rgb)))
    areas = sorted(_area_px(sighting) for sighting in (one, other))
    return distance <= COLOR_MAX and areas[1] <= AREA_RATIO_MAX * areas[0]


def judge_candidate(candidate: Candidate) -> Verdict:
    """Says match, mismatch or unsure; what the dataset itself marks is a match."""
    if candidate.is_given:
        return Verdict("match", "the dataset marks it")
    return judge_figures(measure_candidate(candidate))


def judge_figures(found: Figures, limits: Limits = LIMITS) -> Verdict:
    """The verdict on what was measured, with the figure that decides it."""
    for name, value, low, high in (
        ("aspect", found.aspect, 0.0, limits.aspect_max),
        ("share of the frame", found.share, 0.0, limits.share_max),
        ("iou of mask and box", found.mask_iou, limits.mask_iou_min, 1.0),
        ("fill of the box", found.fill, limits.fill_min, math.inf),
        ("score", found.score, limits.score_min, 1.0),
    ):
        if value is not None and not low <= value <= high:
            return Verdict("mismatch", f"{name} {value:.2f}, expected {low:g} to {high:g}")
    if found.score is None:
        return Verdict("unsure", "no detector saw it")
    if found.margin < limits.margin_min:
        return Verdict(
            "unsure", f"score {found.score:.2f}, another phrase's less {found.margin:.2f}"
        )
    if found.score >= limits.score_sure:
        return Verdict("match", f"score {found.score:.2f}")
    if found.num_agreeing > found.num_differing:
        return Verdict("match", f"score {found.score:.2f}, and another frame agrees")
    return Verdict("unsure", f"score {found.score:.2f}, and no other frame agrees")


def _area_px(sighting: Sighting) -> float:
    if sighting.mask_area_px is not None:
        return float(sighting.mask_area_px)
    return float(box_areas_px(np.array([sighting.box_xyxy]))[0])


def _iou(one: Box, other: Box) -> float:
    return float(box_ious(np.array(one), np.array([other]))[0])
