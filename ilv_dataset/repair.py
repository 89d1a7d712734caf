"""The second look at what the detector did not settle: a key point, its mask, its crop.

A verifier that sees pictures is asked where the thing is; what is cut out there is judged like
any other crop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from ilv_dataset.boxes import are_too_large
from ilv_dataset.hits import Hit, cut_crop, make_candidate, settle_hits
from ilv_dataset.key_points import is_inside, spread
from ilv_dataset.masks import mask_boxes_xyxy
from ilv_dataset.models import PointFinder, Segmenter
from ilv_dataset.models.grabcut import GrabCutSegmenter
from ilv_dataset.records import Frame, Phrase
from ilv_dataset.searches import LoadFrame, Search, load_batches

FRAMES_MAX = 3  # a span that are asked about. Source: ours; the first, the middle and the last

Asked = tuple[int, Phrase, tuple[float, float]]  # position in the batch, phrase, key point


def repair_searches(
    searches: Sequence[Search],
    *,
    load_frame: LoadFrame,
    segmenter: Segmenter | None,
    verifier: PointFinder,
) -> None:
    """Looks once more for what the searches miss, in up to FRAMES_MAX probed frames of each.

    Of the crops of a phrase that the verifier accepts the best is kept, see `settle_hits`.

    Args:
        segmenter: None for a detector's own masks; grabcut then cuts out what is at a point.
    """
    waiting = [
        (search, search.indexed.probes[position])
        for search in searches
        if search.fault is None and search.missing
        for position in spread(len(search.indexed.probes), num=FRAMES_MAX)
    ]
    cutter = segmenter if segmenter is not None else GrabCutSegmenter()
    hits: list[Hit] = []
    for batch, frames in load_batches(waiting, load_frame):
        hits += _look(batch, frames, cutter, verifier)
    settle_hits([hit for hit in hits if hit.search.fault is None], verifier)


def _look(
    searches: Sequence[Search],
    frames: Sequence[Frame],
    segmenter: Segmenter,
    verifier: PointFinder,
) -> list[Hit]:
    """Asks for key points in one batch of frames and cuts out what is there."""
    hits = []
    asked = _ask(searches, frames, verifier)
    for (position, phrase, point), (mask, score) in zip(
        asked, _segment(frames, asked, segmenter), strict=True
    ):
        search, frame = searches[position], frames[position]
        if _is_too_large(mask):
            search.note_reason(phrase, "box-too-large")
            continue
        crop = cut_crop(
            search,
            phrase,
            frame,
            method="repair",
            box_xyxy=None,
            box_score=None,
            mask=mask,
            mask_score=score,
        )
        if crop is not None:
            candidate = make_candidate(search, phrase, frame, crop, mask=mask)
            hits.append(Hit(search, phrase, crop, candidate, point))
    return hits


def _ask(searches: Sequence[Search], frames: Sequence[Frame], verifier: PointFinder) -> list[Asked]:
    """The key points that were found, frame by frame."""
    wanted = [
        (position, phrase) for position, search in enumerate(searches) for phrase in search.missing
    ]
    for position, phrase in wanted:
        searches[position].note_look(phrase, "repair", frames[position])
    points = verifier.find_points(
        [frames[position].image for position, _ in wanted],
        [phrase.phrase for _, phrase in wanted],
    )
    return [
        (position, phrase, point)
        for (position, phrase), point in zip(wanted, points, strict=True)
        if point is not None and is_inside(point, size_wh=_size_wh(frames[position].image))
    ]


def _segment(
    frames: Sequence[Frame], asked: Sequence[Asked], segmenter: Segmenter
) -> Iterator[tuple[np.ndarray, float]]:
    """(mask, score) of each key point, one at a time."""
    by_frame = [(position, list(group)) for position, group in groupby(asked, lambda a: a[0])]
    if not by_frame:
        return
    results = segmenter.segment_points(
        [frames[position].image for position, _ in by_frame],
        [np.array([point for _, _, point in group], np.float64) for _, group in by_frame],
    )
    for result in results:
        for mask, score in zip(result.masks, result.scores, strict=True):
            yield mask, float(score)


def _is_too_large(mask: np.ndarray) -> bool:
    size_wh = (mask.shape[1], mask.shape[0])
    return bool(are_too_large(mask_boxes_xyxy(mask[None]), size_wh=size_wh)[0])


def _size_wh(image: np.ndarray) -> tuple[int, int]:
    return (image.shape[1], image.shape[0])
