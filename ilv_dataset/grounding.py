"""The search for objects: a cascade over probe frames, in batches across episodes.

The first frame of every span of a window is looked at first; only spans that still miss an
object, or have none but a poor view of it, send later frames. The crops of a turn are shown to
the verifier together, and one that it does not accept leaves its object missing; what no frame
settles may be repaired at the end. Which spans share a batch depends on the shard alone, so the
result does not depend on how many workers ran.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ilv_dataset.boxes import choose_boxes, rival_score
from ilv_dataset.episodes import IndexedSpan
from ilv_dataset.hits import Hit, cut_crop, make_candidate, settle_hits
from ilv_dataset.models import Detector, PointFinder, Segmenter, Verifier
from ilv_dataset.records import Detections, Frame, Phrase
from ilv_dataset.repair import repair_searches
from ilv_dataset.searches import (
    NO_VERIFIER,
    Grounding,
    LoadFrame,
    Search,
    distinct_phrases,
    load_batches,
    make_grounding,
)


def ground_spans(
    spans: Sequence[tuple[IndexedSpan, Sequence[Phrase]]],
    *,
    load_frame: LoadFrame,
    detector: Detector,
    segmenter: Segmenter | None,
    picture_kinds: Sequence[str],
    verifier: Verifier | None = None,
) -> list[Grounding]:
    """Looks for the pictured phrases of a window of spans; one result a span, in their order.

    Phrases with one query are looked for once and share the crop. Memory holds two batches of
    frames and the window's crops.
    """
    searches = [
        Search(indexed, distinct_phrases(phrases, picture_kinds)) for indexed, phrases in spans
    ]
    for turn in itertools.count():
        waiting = [
            (search, search.indexed.probes[turn])
            for search in searches
            if search.is_open and turn < len(search.indexed.probes)
        ]
        if not waiting:
            break
        hits: list[Hit] = []
        for batch, frames in load_batches(waiting, load_frame):
            hits += _look(batch, frames, detector, segmenter, is_judged=verifier is not None)
        settle_hits(hits, verifier)
    if isinstance(verifier, PointFinder):
        repair_searches(searches, load_frame=load_frame, segmenter=segmenter, verifier=verifier)
    name = NO_VERIFIER if verifier is None else verifier.spec
    return [
        make_grounding(search, phrases, picture_kinds, verifier=name)
        for search, (_, phrases) in zip(searches, spans, strict=True)
    ]


def _look(
    searches: Sequence[Search],
    frames: Sequence[Frame],
    detector: Detector,
    segmenter: Segmenter | None,
    *,
    is_judged: bool,
) -> list[Hit]:
    """Detects, segments and crops one batch."""
    found = detector(frames, [search.phrases for search in searches])
    rows = [
        _wanted_rows(search, frame, detections)
        for search, frame, detections in zip(searches, frames, found, strict=True)
    ]
    masks = _masks(frames, found, rows, segmenter)  # made one at a time, see masks.FrameMasks
    hits = []
    for search, frame, detections, wanted, frame_masks in zip(
        searches, frames, found, rows, masks, strict=True
    ):
        for (row, phrase), (mask, mask_score) in zip(wanted, frame_masks, strict=True):
            crop = cut_crop(
                search,
                phrase,
                frame,
                method="detect",
                box_xyxy=detections.boxes_xyxy[row],
                box_score=float(detections.scores[row]),
                mask=mask,
                mask_score=mask_score,
            )
            if crop is None:
                continue
            candidate = None
            if is_judged:
                candidate = make_candidate(
                    search,
                    phrase,
                    frame,
                    crop,
                    mask=mask,
                    rival_score=rival_score(detections, row, search.phrases),
                    is_given=detector.needs_source_objects,
                )
            hits.append(Hit(search, phrase, crop, candidate))
    return hits


def _wanted_rows(search: Search, frame: Frame, detections: Detections) -> list[tuple[int, Phrase]]:
    """Rows of the detections that answer a phrase which is still looked for."""
    wanted = []
    for phrase, choice in zip(
        search.phrases, choose_boxes(detections, search.phrases), strict=True
    ):
        if not search.wants(phrase):
            continue
        search.note_look(phrase, "detect", frame)
        if choice.index is None:
            search.note_reason(phrase, choice.reason)
        else:
            wanted.append((choice.index, phrase))
    return wanted


def _masks(
    frames: Sequence[Frame],
    found: Sequence[Detections],
    rows: Sequence[Sequence[tuple[int, Phrase]]],
    segmenter: Segmenter | None,
) -> list[Iterable[tuple[np.ndarray | None, float | None]]]:
    """(mask, score) of each wanted box; the detector's own where there is no segmenter."""
    picked = [[row for row, _ in wanted] for wanted in rows]
    if segmenter is None:
        return [*map(_own_masks, found, picked)]
    busy = [position for position, frame_rows in enumerate(picked) if frame_rows]
    results = segmenter(
        [frames[position].image for position in busy],
        [found[position].boxes_xyxy[picked[position]] for position in busy],
    )
    masks: list[Iterable[tuple[np.ndarray | None, float | None]]] = [()] * len(frames)
    for position, result in zip(busy, results, strict=True):
        scores = [float(score) for score in result.scores]
        masks[position] = zip(result.masks, scores, strict=True)
    return masks


def _own_masks(
    found: Detections, rows: Sequence[int]
) -> Iterator[tuple[np.ndarray | None, float | None]]:
    for row in rows:
        yield None if found.masks is None else found.masks[row], None
