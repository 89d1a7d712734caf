"""How right crops are: each judged by true boxes and masks, and shares with their intervals.

Values in, values out. Reading converted datasets and labelled images, and asking the models, is
left to `crop_evaluation`.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ilv_dataset.boxes import AREA_MIN_PX, box_areas_px, box_ious
from ilv_dataset.masks import mask_areas_px
from ilv_dataset.matching import fitting_names, parse_name
from ilv_dataset.phrases import make_query
from ilv_dataset.records import Box, Phrase, SourceObjects

RIGHT_IOU = 0.5  # Source: issue 4, as COCO's AP50
NUM_BINS = 10  # of confidence
_Z95 = 1.959963985  # of the normal distribution, two-sided 95 %
_ABSENT_MIN = 2  # names that are not there, asked of each image however few are there
SHARES_WORD, SHARES_NOTHING = "shares-a-word", "shares-nothing"


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many, with the 95 % interval of the share."""

    count: int
    total: int

    @property
    def value(self) -> float | None:
        """The share, 0..1; None of nothing."""
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's, see `wilson_interval`; None of nothing."""
        return wilson_interval(self.count, self.total) if self.total else None


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """What a phrase got in one frame: the place that was cut out, or why there is none."""

    phrase: str
    dataset: str
    place: str  # names the frame
    box_xyxy: Box | None  # that was cut: the mask's, else the detector's; None without a crop
    mask: np.ndarray | None = None  # (H, W) bool
    score: float | None = None  # 0..1, the detector's
    method: str | None = None  # one of fields.METHODS
    reason: str = ""  # one of fields.OBJECT_REASONS where there is no crop


@dataclass(frozen=True, slots=True)
class CropScore:
    """What is right or wrong about one answer."""

    phrase: str
    dataset: str
    place: str
    outcome: str  # one of fields.CROP_OUTCOMES
    score: float | None = None
    method: str | None = None
    reason: str = ""
    iou: float = 0.0  # of the crop's box with the named object's
    mask_iou: float | None = None  # of a right crop whose mask and whose object's are known
    shown: str = ""  # name of the object whose box the crop's fits best; "" where it meets none
    shown_iou: float = 0.0
    absence: str = ""  # of a name that is not there: SHARES_WORD with something there, or NOTHING

    @property
    def is_there(self) -> bool:
        """Whether an object of that name is in the frame."""
        return not self.outcome.startswith("absent")

    @property
    def has_crop(self) -> bool:
        """Whether there is a crop to be right or wrong."""
        return self.outcome in ("right", "wrong", "absent-cropped")


@dataclass(frozen=True, slots=True)
class Tally:
    """The figures of a group of answers."""

    name: str
    right: Share  # of the phrases whose object is there
    wrong: Share  # likewise
    missed: Share  # likewise
    absent_cropped: Share  # of the phrases whose object is not there
    crops_right: Share  # of all crops
    mask_iou: float | None  # mean, of the right crops with known masks
    num_masks: int  # of these

    @property
    def num_faults(self) -> int:
        """Answers that are not as they should be."""
        return self.wrong.count + self.missed.count + self.absent_cropped.count


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, without correction for continuity.

    Source: Newcombe, Statistics in Medicine 17 (1998), method 3.

    >>> tuple(round(end, 3) for end in wilson_interval(81, 263))
    (0.255, 0.366)
    """
    if not 0 <= count <= total or not total:
        raise ValueError(f"expected a share of at least one, got {count} of {total}")
    share, square = count / total, _Z95**2
    middle = share + square / (2 * total)
    reach = _Z95 * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    low, high = (middle - reach), (middle + reach)
    scale = 1 + square / total
    return max(0.0, low / scale), min(1.0, high / scale)


def judge_answer(answer: Answer, truth: SourceObjects, named: Sequence[int]) -> CropScore:
    """Judges a crop, or that there is none, by the objects of its frame.

    A crop is right where its box has RIGHT_IOU with the box of a named object and no other object
    has more. What has too few visible pixels to be cut out counts as not there.

    Args:
        named: rows of `truth` that the phrase means; several where any of them will do.
    """
    visible = visible_rows(truth)
    named = [row for row in named if row in visible]
    ious = np.zeros(len(truth.names), np.float32)
    if answer.box_xyxy is not None:
        ious[visible] = box_ious(np.array(answer.box_xyxy), truth.boxes_xyxy[visible])
    best = max(named, key=lambda row: ious[row], default=None)
    outcome = _outcome(answer.box_xyxy is not None, ious, best)
    shown = best if outcome == "right" else int(ious.argmax()) if ious.any() else None
    mask_iou = None
    if outcome == "right" and truth.masks is not None and answer.mask is not None:
        mask_iou = iou_of_masks(answer.mask, truth.masks[best])
    return CropScore(
        phrase=answer.phrase,
        dataset=answer.dataset,
        place=answer.place,
        outcome=outcome,
        score=answer.score,
        method=answer.method,
        reason=answer.reason,
        iou=0.0 if best is None else float(ious[best]),
        mask_iou=mask_iou,
        shown="" if shown is None else truth.names[shown],
        shown_iou=0.0 if shown is None else float(ious[shown]),
        absence="" if named else absence_of(answer.phrase, [truth.names[row] for row in visible]),
    )


def visible_rows(truth: SourceObjects) -> list[int]:
    """Rows of the objects with enough visible pixels to be cut out; boxes count without masks."""
    masks = truth.masks
    areas = box_areas_px(truth.boxes_xyxy) if masks is None else mask_areas_px(masks)
    return [int(row) for row in np.flatnonzero(areas >= AREA_MIN_PX)]


def iou_of_masks(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two (H, W) bool masks; 0 where both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0


def rows_of_name(names: Sequence[str], name: str) -> tuple[int, ...]:
    """Rows that are called exactly so, but for case, articles and number."""
    wanted = parse_name(name)
    return tuple(row for row, other in enumerate(names) if parse_name(other) == wanted)


def absence_of(name: str, there: Sequence[str]) -> str:
    """Whether a name that is not there shares a noun, a colour or a maker with one that is."""
    words = parse_name(name).words
    shares = any(words & parse_name(other).words for other in there)
    return SHARES_WORD if shares else SHARES_NOTHING


def as_phrase(name: str) -> Phrase:
    """A name as the phrase of an instruction that says no more."""
    return Phrase(name, 0, len(name), make_query(name), "object")


def choose_absent(key: str, there: Sequence[str], elsewhere: Iterable[str]) -> tuple[str, ...]:
    """Names to ask an image for that no object in it may be called, as many as are there.

    Half of them share a word with a name that is there, half share nothing; where there are too
    few of a half, the other takes its place. Which, goes by the SHA-256 of key and name.
    """
    num = max(_ABSENT_MIN, len({parse_name(name) for name in there}))
    distinct = {parse_name(name): name for name in sorted(elsewhere)}
    absent = [name for name in distinct.values() if not fitting_names(there, as_phrase(name))]
    absent.sort(key=lambda name: hashlib.sha256(f"{key}\n{name}".encode()).hexdigest())
    near = [name for name in absent if absence_of(name, there) == SHARES_WORD]
    far = [name for name in absent if absence_of(name, there) == SHARES_NOTHING]
    num_near = max(num - num // 2, num - len(far))
    chosen = near[:num_near]
    return tuple(chosen + far[: num - len(chosen)])


def tally_scores(name: str, scores: Iterable[CropScore]) -> Tally:
    """The figures of a group."""
    scores = list(scores)
    counts = Counter(found.outcome for found in scores)
    there = counts["right"] + counts["wrong"] + counts["missed"]
    absent = counts["absent-cropped"] + counts["absent-left"]
    crops = counts["right"] + counts["wrong"] + counts["absent-cropped"]
    ious = [found.mask_iou for found in scores if found.mask_iou is not None]
    return Tally(
        name=name,
        right=Share(counts["right"], there),
        wrong=Share(counts["wrong"], there),
        missed=Share(counts["missed"], there),
        absent_cropped=Share(counts["absent-cropped"], absent),
        crops_right=Share(counts["right"], crops),
        mask_iou=math.fsum(ious) / len(ious) if ious else None,
        num_masks=len(ious),
    )


def tally_groups(scores: Iterable[CropScore], key: Callable[[CropScore], str]) -> tuple[Tally, ...]:
    """The figures of each group, most faults first; a key of "" is in none."""
    groups: dict[str, list[CropScore]] = {}
    for found in scores:
        if name := key(found):
            groups.setdefault(name, []).append(found)
    tallies = (tally_scores(name, members) for name, members in groups.items())
    return tuple(sorted(tallies, key=lambda tally: (-tally.num_faults, tally.name)))


def tally_bins(scores: Iterable[CropScore]) -> tuple[tuple[Tally, Tally], ...]:
    """The crops of each bin of confidence, lowest first, beside all from its lower end up.

    The second is what a threshold at that end would keep. Crops without a score come last.
    """
    crops = [found for found in scores if found.has_crop]
    bins: dict[int, list[CropScore]] = {}
    for found in crops:
        if found.score is not None:
            bins.setdefault(bin_of(found.score), []).append(found)
    rows = []
    for number in sorted(bins):
        low, high = number / NUM_BINS, (number + 1) / NUM_BINS
        above = [found for other in bins if other >= number for found in bins[other]]
        name = f"{low:.1f} to {high:.1f}"
        rows.append((tally_scores(name, bins[number]), tally_scores(name, above)))
    if without := [found for found in crops if found.score is None]:
        rows.append((tally_scores("no score", without), tally_scores("no score", without)))
    return tuple(rows)


def bin_of(score: float) -> int:
    """The bin of a score in 0..1, low end inclusive; 1 is in the last.

    >>> bin_of(0.3), bin_of(0.299), bin_of(1.0)
    (3, 2, 9)
    """
    return min(NUM_BINS - 1, math.floor(round(score, 3) * NUM_BINS + 1e-9))


def badness(found: CropScore) -> tuple[int, float, str, str]:
    """Sorts the worst first: wrong crops, the surest first, crops of what is not there, misses."""
    order = ("wrong", "absent-cropped", "missed", "right", "absent-left")
    return (order.index(found.outcome), -(found.score or 0.0), found.place, found.phrase)


def is_fault(found: CropScore) -> bool:
    """Whether an answer is not as it should be."""
    return found.outcome in ("wrong", "absent-cropped", "missed")


def _outcome(has_crop: bool, ious: np.ndarray, best: int | None) -> str:
    if best is None:
        return "absent-cropped" if has_crop else "absent-left"
    if not has_crop:
        return "missed"
    is_right = ious[best] >= RIGHT_IOU and ious[best] >= ious.max()
    return "right" if is_right else "wrong"
