"""The search for objects: a cascade over probe frames, in batches across episodes.

The first frame of every span of a window is looked at first; only spans that still miss an
object send their later frames. Which spans share a batch depends on the shard alone, so the
result does not depend on how many workers ran.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ilv_dataset.batches import batched
from ilv_dataset.boxes import AREA_MIN_PX, choose_boxes
from ilv_dataset.crops import CROP_SIZE_PX, crop_window, encode_jpeg, make_crop
from ilv_dataset.episodes import IndexedSpan, Probe
from ilv_dataset.errors import RecordError
from ilv_dataset.formats.tables import GroundedObject
from ilv_dataset.masks import encode_rle, mask_areas_px, mask_boxes_xyxy
from ilv_dataset.models import Detector, Segmenter
from ilv_dataset.records import Detections, Frame, Phrase

BATCH_FRAMES = 16  # Source: ours; a YOLO at 640 px takes 16 frames in 2 GB, more gains little
DECODE_THREADS = 2  # ahead of the model; image decoders release the interpreter's lock
NO_VERIFIER = "none"

LoadFrame = Callable[[IndexedSpan, Probe], Frame]


@dataclass(frozen=True, slots=True)
class Crop:
    """The picture of one phrase and where it was cut."""

    jpeg: bytes
    grounded: GroundedObject


@dataclass(frozen=True, slots=True)
class Grounding:
    """What the search found for one span: per phrase a crop, or why there is none."""

    crops: dict[int, Crop]  # by the phrase's position in the instruction
    reasons: dict[int, str]  # likewise, fields.OBJECT_REASONS
    fault: RecordError | None = None  # a probed frame that does not decode


@dataclass(slots=True)
class _Search:
    """The state of one span's search."""

    indexed: IndexedSpan
    phrases: tuple[Phrase, ...]  # pictured, distinct queries
    crops: dict[str, Crop] = field(default_factory=dict)  # by query
    reasons: dict[str, str] = field(default_factory=dict)
    fault: RecordError | None = None

    @property
    def is_open(self) -> bool:
        return self.fault is None and len(self.crops) < len(self.phrases)


def ground_spans(
    spans: Sequence[tuple[IndexedSpan, Sequence[Phrase]]],
    *,
    load_frame: LoadFrame,
    detector: Detector,
    segmenter: Segmenter | None,
    picture_kinds: Sequence[str],
) -> list[Grounding]:
    """Looks for the pictured phrases of a window of spans; one result a span, in their order.

    Phrases with one query are looked for once and share the crop. Memory holds two batches of
    frames and the window's crops.
    """
    searches = [_Search(indexed, _distinct(phrases, picture_kinds)) for indexed, phrases in spans]
    for turn in itertools.count():
        waiting = [
            (search, search.indexed.probes[turn])
            for search in searches
            if search.is_open and turn < len(search.indexed.probes)
        ]
        if not waiting:
            break
        for batch, frames in _load_batches(waiting, load_frame):
            if frames:
                _look(batch, frames, detector, segmenter)
    return [
        _result(search, phrases, picture_kinds)
        for search, (_, phrases) in zip(searches, spans, strict=True)
    ]


def _distinct(phrases: Sequence[Phrase], picture_kinds: Sequence[str]) -> tuple[Phrase, ...]:
    pictured = (phrase for phrase in phrases if phrase.kind in picture_kinds)
    return tuple({phrase.query: phrase for phrase in pictured}.values())


def _load_batches(
    waiting: Sequence[tuple[_Search, Probe]], load_frame: LoadFrame
) -> Iterator[tuple[list[_Search], list[Frame]]]:
    """Decodes batches of frames in threads, one batch ahead; a frame that fails ends its span."""
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        ahead: deque[list[tuple[_Search, Future[Frame]]]] = deque()
        for batch in batched(waiting, BATCH_FRAMES):
            ahead.append([(s, pool.submit(load_frame, s.indexed, probe)) for s, probe in batch])
            if len(ahead) > 1:
                yield _loaded(ahead.popleft())
        while ahead:
            yield _loaded(ahead.popleft())


def _loaded(batch: Sequence[tuple[_Search, Future[Frame]]]) -> tuple[list[_Search], list[Frame]]:
    searches, frames = [], []
    for search, future in batch:
        try:
            frames.append(future.result())
            searches.append(search)
        except RecordError as error:
            search.fault = error
    return searches, frames


def _look(
    searches: Sequence[_Search],
    frames: Sequence[Frame],
    detector: Detector,
    segmenter: Segmenter | None,
) -> None:
    """Detects, segments and crops one batch; what is found goes into the searches."""
    found = detector(frames, [search.phrases for search in searches])
    rows = [
        _missing_rows(search, detections)
        for search, detections in zip(searches, found, strict=True)
    ]
    masks = _masks(frames, found, rows, segmenter)
    for search, frame, detections, wanted, frame_masks in zip(
        searches, frames, found, rows, masks, strict=True
    ):
        for (row, phrase), (mask, mask_score) in zip(wanted, frame_masks, strict=True):
            _keep(search, phrase, frame, detections, row, mask, mask_score)


def _missing_rows(search: _Search, detections: Detections) -> list[tuple[int, Phrase]]:
    """Rows of the detections that answer a phrase which has no crop yet."""
    wanted = []
    for phrase, choice in zip(
        search.phrases, choose_boxes(detections, search.phrases), strict=True
    ):
        if phrase.query in search.crops:
            continue
        if choice.index is None:
            _note(search, phrase, choice.reason)
        else:
            wanted.append((choice.index, phrase))
    return wanted


def _masks(
    frames: Sequence[Frame],
    found: Sequence[Detections],
    rows: Sequence[Sequence[tuple[int, Phrase]]],
    segmenter: Segmenter | None,
) -> list[list[tuple[np.ndarray | None, float | None]]]:
    """(mask, score) of each wanted box; the detector's own where there is no segmenter."""
    picked = [[row for row, _ in wanted] for wanted in rows]
    if segmenter is None:
        return [
            [(None if d.masks is None else d.masks[row], None) for row in frame_rows]
            for d, frame_rows in zip(found, picked, strict=True)
        ]
    busy = [position for position, frame_rows in enumerate(picked) if frame_rows]
    results = segmenter(
        [frames[position].image for position in busy],
        [found[position].boxes_xyxy[picked[position]] for position in busy],
    )
    masks: list[list[tuple[np.ndarray | None, float | None]]] = [[] for _ in frames]
    for position, result in zip(busy, results, strict=True):
        scores = [float(score) for score in result.scores]
        masks[position] = list(zip(result.masks, scores, strict=True))
    return masks


def _keep(
    search: _Search,
    phrase: Phrase,
    frame: Frame,
    detections: Detections,
    row: int,
    mask: np.ndarray | None,
    mask_score: float | None,
) -> None:
    """Cuts the crop of one box, or notes why it is none."""
    box = detections.boxes_xyxy[row]
    crop_box = box
    if mask is not None:
        area_px = int(mask_areas_px(mask[None])[0])
        if area_px < AREA_MIN_PX:
            _note(search, phrase, "box-too-small" if area_px else "empty-mask")
            return
        crop_box = mask_boxes_xyxy(mask[None])[0]
    x0, _, x1, _ = crop_window(crop_box)
    grounded = GroundedObject(
        phrase.phrase,
        phrase.start,
        phrase.end,
        phrase.query,
        phrase.kind,
        grounded=True,
        camera=frame.camera,
        frame_index=frame.frame_index,
        box_xyxy=tuple(float(edge) for edge in box),
        box_score=float(detections.scores[row]),
        mask_rle=None if mask is None else encode_rle(mask),
        mask_score=mask_score,
        scale=CROP_SIZE_PX / (x1 - x0),
        method="detect",
        verdict="unverified",
        verifier=NO_VERIFIER,
        source="episode",
    )
    search.crops[phrase.query] = Crop(encode_jpeg(make_crop(frame.image, crop_box)), grounded)


def _note(search: _Search, phrase: Phrase, reason: str) -> None:
    """Keeps the first reason that says more than that nothing was seen."""
    if search.reasons.get(phrase.query, "absent") == "absent":
        search.reasons[phrase.query] = reason


def _result(search: _Search, phrases: Sequence[Phrase], picture_kinds: Sequence[str]) -> Grounding:
    crops, reasons = {}, {}
    for position, phrase in enumerate(phrases):
        if phrase.kind not in picture_kinds:
            reasons[position] = "kind-not-pictured"
        elif phrase.query in search.crops:
            crops[position] = search.crops[phrase.query]
        else:
            reasons[position] = search.reasons.get(phrase.query, "absent")
    return Grounding(crops, reasons, search.fault)
