"""Measures the crops of converted datasets, or those of models asked about labelled images.

Both give answers beside the truth of their frames; `crop_scores` judges them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ilv_dataset.batches import batched
from ilv_dataset.crop_scores import (
    Answer,
    CropScore,
    as_phrase,
    badness,
    choose_absent,
    is_fault,
    judge_answer,
    rows_of_name,
)
from ilv_dataset.episodes import IndexedSpan, Probe
from ilv_dataset.fields import KINDS
from ilv_dataset.formats.tables import GroundedObject
from ilv_dataset.grounding import ground_spans
from ilv_dataset.hits import as_box
from ilv_dataset.llm_options import LlmOptions
from ilv_dataset.masks import mask_boxes_xyxy
from ilv_dataset.models.loading import detector_of_process, segmenter_of_process
from ilv_dataset.models.protocols import Detector, Verifier
from ilv_dataset.models.verifier import load_verifier
from ilv_dataset.pictures import mask_of
from ilv_dataset.records import Box, Detections, Frame, Phrase, SourceObjects, Span
from ilv_dataset.searches import WINDOW_SPANS, Grounding
from ilv_dataset.truth_images import TrueImage, load_objects, read_image, read_truth

Note = Callable[[str, int, int], None]
_IMAGES_KEPT = 4  # decoded at a time; the questions that an image is asked follow each other


@dataclass(frozen=True)
class Grounders:
    """The models that are measured, as the options of `ilv ground` name them."""

    detector: str
    segmenter: str
    verifier: str
    vlm_base_url: str | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """One judged answer and what a picture of it takes."""

    found: CropScore
    truth: SourceObjects
    named: tuple[int, ...]  # rows of `truth`
    box_xyxy: Box | None
    jpeg: bytes | None  # the crop
    load_frame: Callable[[], np.ndarray]  # (H, W, 3) uint8 RGB


@dataclass(frozen=True, eq=False)
class CropEvaluation:
    """What came of one converted dataset, or of one choice of models on one file."""

    title: str
    scores: tuple[CropScore, ...]
    worst: tuple[Case, ...]  # worst first
    num_frames: int
    num_unjudged: int = 0  # crops of frames that the dataset marks no objects in


def evaluate_images(
    truth: Path, grounders: Grounders, *, images: Path | None, limit: int, note: Note
) -> CropEvaluation:
    """Asks models about labelled images, by the code of `ilv ground`, and judges the crops.

    An image is asked for its names together, as by an instruction, and for each of some names
    that are not in it alone: those of a detector whose answers do not depend on each other are
    asked together, and then looked at one by one.

    Args:
        images: the folder that paths in the file are relative to; None for the file's own.
        limit: how many of the worst are kept.

    Raises: IlvError.
    """
    labelled = read_truth(truth, images=images)
    used = f"detector {grounders.detector}, segmenter {grounders.segmenter}"
    title = f"{truth}: {used}, verifier {grounders.verifier}"
    return collect(title, _ask_images(labelled, grounders, note), limit=limit)


def collect(title: str, cases: Iterable[Case | None], *, limit: int) -> CropEvaluation:
    """Gathers cases as they come; of all but the worst only the figures are kept.

    A case of None is one that could not be judged.
    """
    scores: list[CropScore] = []
    worst: list[Case] = []
    num_unjudged = 0
    for case in cases:
        if case is None:
            num_unjudged += 1
            continue
        scores.append(case.found)
        if is_fault(case.found):
            worst.append(case)
        if len(worst) > 2 * limit:
            worst = _worst_of(worst, limit)
    places = {(found.dataset, found.place) for found in scores}
    return CropEvaluation(
        title, tuple(scores), tuple(_worst_of(worst, limit)), len(places), num_unjudged
    )


def make_case(
    found: GroundedObject,
    truth: SourceObjects,
    named: Sequence[int],
    *,
    dataset: str,
    place: str,
    jpeg: bytes | None,
    load_frame: Callable[[], np.ndarray],
) -> Case:
    """Judges what became of one phrase."""
    mask = mask_of(found) if found.grounded else None
    box = _cut_box(found, mask)
    answer = Answer(
        phrase=found.phrase,
        dataset=dataset,
        place=place,
        box_xyxy=box,
        mask=mask,
        score=found.box_score,
        method=found.method,
        reason=found.reason,
    )
    judged = judge_answer(answer, truth, named)
    return Case(judged, truth, tuple(named), box, jpeg, load_frame)


def _worst_of(cases: Sequence[Case], limit: int) -> list[Case]:
    return sorted(cases, key=lambda case: badness(case.found))[:limit]


def _cut_box(found: GroundedObject, mask: np.ndarray | None) -> Box | None:
    """What a crop shows: its mask's bounding box, else the detector's."""
    if mask is not None and mask.any():
        return as_box(mask_boxes_xyxy(mask[None])[0])
    return as_box(found.box_xyxy) if found.grounded and found.box_xyxy is not None else None


@dataclass(frozen=True, slots=True)
class _Question:
    """What one image is asked for in one go; `names` are what its phrases mean."""

    number: int  # of the image
    phrases: tuple[Phrase, ...]
    names: tuple[str, ...]


def _ask_images(labelled: Sequence[TrueImage], grounders: Grounders, note: Note) -> Iterator[Case]:
    detector = detector_of_process(grounders.detector)
    if detector.is_independent:
        detector = _ImagesOnce(detector)
    segmenter = segmenter_of_process(grounders.segmenter, grounders.detector)
    verifier = _load_verifier(grounders)
    questions = _questions(labelled)
    sizes: dict[int, tuple[int, int]] = {}

    @functools.lru_cache(_IMAGES_KEPT)
    def read(number: int) -> np.ndarray:
        pixels = read_image(labelled[number])
        sizes[number] = (pixels.shape[1], pixels.shape[0])
        return pixels

    @functools.lru_cache(_IMAGES_KEPT)
    def load(number: int) -> SourceObjects:
        return load_objects(labelled[number], sizes[number])

    def load_frame(indexed: IndexedSpan, _: Probe) -> Frame:
        number = indexed.record_index
        pixels = read(number)
        objects = load(number) if detector.needs_source_objects else None
        return Frame(labelled[number].name, 0, pixels, objects)

    for done, window in enumerate(batched(questions, WINDOW_SPANS)):
        note("ask", min(done * WINDOW_SPANS + len(window), len(questions)) - 1, len(questions))
        groundings = ground_spans(
            [(_as_span(question), question.phrases) for question in window],
            load_frame=load_frame,
            detector=detector,
            segmenter=segmenter,
            picture_kinds=KINDS,
            verifier=verifier,
        )
        for question, grounding in zip(window, groundings, strict=True):
            truth = load(question.number)
            yield from _judge_image(labelled[question.number], truth, question, grounding)


class _ImagesOnce:
    """A detector that looks once at an image of which a batch asks several questions.

    Frames of one camera, here the image's name, are taken for the same.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.spec, self.fingerprint = detector.spec, detector.fingerprint
        self.has_masks, self.is_independent = detector.has_masks, detector.is_independent
        self.needs_source_objects = detector.needs_source_objects

    def __call__(
        self, frames: Sequence[Frame], queries: Sequence[Sequence[Phrase]]
    ) -> list[Detections]:
        """Answers each question by itself."""
        rows: dict[str, list[int]] = {frame.camera: [] for frame in frames}
        for row, frame in enumerate(frames):
            rows[frame.camera].append(row)
        asked = [[phrase for row in mine for phrase in queries[row]] for mine in rows.values()]
        found = [Detections.empty()] * len(frames)
        looked_at = [frames[mine[0]] for mine in rows.values()]
        for mine, answer in zip(rows.values(), self._detector(looked_at, asked), strict=True):
            start = 0
            for row in mine:
                found[row] = _of_queries(answer, range(start, start + len(queries[row])))
                start += len(queries[row])
        return found


def _of_queries(found: Detections, queries: range) -> Detections:
    """What some of the queries found, numbered from 0."""
    mine = (found.query_indices >= queries.start) & (found.query_indices < queries.stop)
    taken = found.take(np.flatnonzero(mine))
    return replace(
        taken,
        query_indices=taken.query_indices - queries.start,
        reasons={
            query - queries.start: why for query, why in found.reasons.items() if query in queries
        },
    )


def _load_verifier(grounders: Grounders) -> Verifier | None:
    llm = LlmOptions(vlm_base_url=grounders.vlm_base_url)
    _, _, model = grounders.verifier.partition(":")
    chat = llm.chat(model, is_verifier=True) if model else None
    return load_verifier(grounders.verifier, chat=chat, cache=llm.cache_folder("out"))


def _questions(labelled: Sequence[TrueImage]) -> list[_Question]:
    everywhere = {found.name for image in labelled for found in image.objects}
    questions = []
    for number, image in enumerate(labelled):
        asked = {found.phrase: found.name for found in image.objects if found.phrase is not None}
        if asked:
            phrases = tuple(as_phrase(phrase) for phrase in asked)
            questions.append(_Question(number, phrases, tuple(asked.values())))
        absent = image.absent
        if absent is None:
            there = [*(found.name for found in image.objects), *image.crowds]
            absent = choose_absent(image.name, there, everywhere)
        questions += [_Question(number, (as_phrase(name),), (name,)) for name in absent]
    return questions


def _as_span(question: _Question) -> IndexedSpan:
    probe = Probe("image", 0, offset=0, length=0)
    return IndexedSpan(question.number, 0, 0, 1, Span(0, 0, 1, b""), probes=(probe,))


def _judge_image(
    image: TrueImage, truth: SourceObjects, question: _Question, grounding: Grounding
) -> Iterator[Case]:
    for position, (phrase, name) in enumerate(zip(question.phrases, question.names, strict=True)):
        crop = grounding.crops.get(position)
        reason = grounding.reasons.get(position, "")
        place = (phrase.phrase, phrase.start, phrase.end, phrase.query, phrase.kind)
        missing = GroundedObject(*place, grounded=False, reason=reason)
        yield make_case(
            missing if crop is None else crop.grounded,
            truth,
            rows_of_name(truth.names, name),
            dataset=image.dataset,
            place=image.name,
            jpeg=None if crop is None else crop.jpeg,
            load_frame=lambda: read_image(image),
        )
