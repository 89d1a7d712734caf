"""Boxes in pixels, corners (x0, y0, x1, y1), max edge exclusive: geometry and choice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ilv_dataset.records import Detections, Phrase

# Source: the promise: an object with at least 18 visible pixels gets its crop.
AREA_MIN_PX = 18
# Source: Interleave-VLA's scripts drop boxes over half of the image (FACTS.md, section 1).
AREA_MAX_SHARE = 0.5
# Two boxes that overlap this much show one object. Source: ours; two models (or two prompts)
# rarely agree better on one object, and distinct objects do not reach it.
SAME_BOX_IOU = 0.8
# Boxes that overlap this much compete for one place. Source: ours; COCO's overlap of a right box.
RIVAL_IOU = 0.5


@dataclass(frozen=True, slots=True)
class BoxChoice:
    """The row of a `Detections` that a query gets, or why it gets none."""

    index: int | None
    reason: str = ""  # one of fields.OBJECT_REASONS where index is None


def round_boxes(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Rounds (N, 4) pixels to 0.1 px, float32."""
    rounded: np.ndarray = np.round(np.asarray(boxes_xyxy, np.float64), 1)
    return rounded.astype(np.float32)


def round_scores(scores: np.ndarray) -> np.ndarray:
    """Rounds (N,) scores to 1e-3, float32."""
    rounded: np.ndarray = np.round(np.asarray(scores, np.float64), 3)
    return rounded.astype(np.float32)


def clip_boxes(boxes_xyxy: np.ndarray, *, size_wh: tuple[int, int]) -> np.ndarray:
    """Clips (N, 4) boxes to a frame of `size_wh` pixels; one outside gets area 0."""
    limits = np.array([*size_wh, *size_wh], np.float32)
    clipped: np.ndarray = np.clip(boxes_xyxy, 0, limits)
    return clipped.astype(np.float32)


def box_areas_px(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Areas (N,) float32 of (N, 4) boxes; 0 for an inverted box."""
    sides: np.ndarray = np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None)
    areas: np.ndarray = sides.prod(axis=1)
    return areas.astype(np.float32)


def box_ious(box_xyxy: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
    """Intersection over union (N,) of one box (4,) with (N, 4) boxes; 0 where the union is 0."""
    low = np.maximum(box_xyxy[:2], boxes_xyxy[:, :2])
    high = np.minimum(box_xyxy[2:], boxes_xyxy[:, 2:])
    overlap = box_areas_px(np.concatenate([low, high], axis=1))
    union = box_areas_px(box_xyxy[None])[0] + box_areas_px(boxes_xyxy) - overlap
    ious: np.ndarray = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return ious


def pad_box(box_xyxy: np.ndarray, *, share: float) -> np.ndarray:
    """Grows a box (4,) by `share` of its width and height on each side, float64.

    >>> pad_box(np.array([10, 20, 20, 40]), share=0.2).tolist()
    [8.0, 16.0, 22.0, 44.0]
    """
    box = np.asarray(box_xyxy, np.float64)
    margin = share * (box[2:] - box[:2])
    return np.concatenate([box[:2] - margin, box[2:] + margin])


def round_detections(
    boxes_xyxy: np.ndarray, scores: np.ndarray, *, size_wh: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Makes a model's raw output fit for use, before any threshold.

    Returns: boxes (M, 4) clipped to the frame and rounded, scores (M,) rounded, and the kept
        rows (M,) int64 of the input; rows with a NaN or an infinity are dropped.
    """
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    raw_scores = np.asarray(scores, np.float64).reshape(-1)
    rows = np.flatnonzero(np.isfinite(boxes).all(axis=1) & np.isfinite(raw_scores))
    clipped = clip_boxes(round_boxes(boxes[rows]), size_wh=size_wh)
    return clipped, round_scores(raw_scores[rows]), rows


def drop_unfit_boxes(detections: Detections, *, size_wh: tuple[int, int]) -> Detections:
    """Drops boxes that are too small or too large to be the picture of an object.

    Visible pixels are the mask's where there are masks, else the box's. A query that loses all
    its boxes gets the reason; one that had a reason keeps it.
    """
    box_areas = box_areas_px(detections.boxes_xyxy)
    visible = box_areas if detections.masks is None else detections.masks.areas_px()
    too_large = are_too_large(detections.boxes_xyxy, size_wh=size_wh)
    too_small = visible < AREA_MIN_PX
    keep = ~(too_large | too_small)
    kept_queries = set(detections.query_indices[keep].tolist())
    reasons = dict(detections.reasons)
    for row in np.flatnonzero(~keep):
        query = int(detections.query_indices[row])
        if query not in kept_queries:
            reasons.setdefault(query, "box-too-large" if too_large[row] else "box-too-small")
    return replace(detections.take(np.flatnonzero(keep)), reasons=reasons)


def are_too_large(boxes_xyxy: np.ndarray, *, size_wh: tuple[int, int]) -> np.ndarray:
    """Which boxes (N, 4) cover too much of their frame to show one object, (N,) bool."""
    return np.asarray(box_areas_px(boxes_xyxy) > AREA_MAX_SHARE * size_wh[0] * size_wh[1])


def choose_boxes(detections: Detections, queries: Sequence[Phrase]) -> tuple[BoxChoice, ...]:
    """Chooses the best box of each query, so that no box shows two different things.

    Boxes are taken by falling score; equal scores by larger area, then by coordinates. A box
    that two different queries want goes to the better score, and the other query takes its
    next box; at equal scores it goes to none and both are "ambiguous". Queries with one text
    share their box. A query without a box gets the detector's reason, else "absent".
    """
    settled: dict[int, BoxChoice] = {}
    order = _rows_by_rank(detections)
    for row in order:
        query = int(detections.query_indices[row])
        if query in settled or _is_taken(row, detections, queries, settled):
            continue
        rivals = _rivals(row, order, detections, queries, settled)
        choice = BoxChoice(None, "ambiguous") if rivals else BoxChoice(row)
        settled.update(dict.fromkeys([query, *rivals], choice))
    return tuple(
        settled.get(query, _without_box(query, detections)) for query in range(len(queries))
    )


def rival_score(detections: Detections, row: int, queries: Sequence[Phrase]) -> float:
    """The best score that a query of another text has at the place of a box; 0 without any."""
    text = queries[int(detections.query_indices[row])].query
    ious = box_ious(detections.boxes_xyxy[row], detections.boxes_xyxy)
    others = [queries[int(query)].query != text for query in detections.query_indices]
    return float(detections.scores[(ious >= RIVAL_IOU) & others].max(initial=0))


def _rows_by_rank(detections: Detections) -> list[int]:
    areas = box_areas_px(detections.boxes_xyxy)
    keys = (*detections.boxes_xyxy.T[::-1], -areas, -detections.scores)  # the last sorts first
    return [int(row) for row in np.lexsort(keys)]


def _rows_of_same_box(row: int, rows: Iterable[int], detections: Detections) -> list[int]:
    candidates = list(rows)
    ious = box_ious(detections.boxes_xyxy[row], detections.boxes_xyxy[candidates])
    return [other for other, iou in zip(candidates, ious, strict=True) if iou >= SAME_BOX_IOU]


def _is_taken(
    row: int,
    detections: Detections,
    queries: Sequence[Phrase],
    settled: Mapping[int, BoxChoice],
) -> bool:
    text = queries[int(detections.query_indices[row])].query
    taken = [
        choice.index
        for query, choice in settled.items()
        if choice.index is not None and queries[query].query != text
    ]
    return bool(_rows_of_same_box(row, taken, detections))


def _rivals(
    row: int,
    order: Sequence[int],
    detections: Detections,
    queries: Sequence[Phrase],
    settled: Mapping[int, BoxChoice],
) -> list[int]:
    """Queries of another text that want the box of `row` with the same score."""
    text = queries[int(detections.query_indices[row])].query
    score = detections.scores[row]
    equal = [other for other in order if detections.scores[other] == score]
    wanting = {
        int(detections.query_indices[other]) for other in _rows_of_same_box(row, equal, detections)
    }
    return sorted(q for q in wanting if q not in settled and queries[q].query != text)


def _without_box(query: int, detections: Detections) -> BoxChoice:
    had_boxes = bool((detections.query_indices == query).any())
    return BoxChoice(None, detections.reasons.get(query, "ambiguous" if had_boxes else "absent"))
