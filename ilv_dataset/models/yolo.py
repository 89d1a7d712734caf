"""The detector `yolo`: any ultralytics network, its classes matched to the phrases by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ilv_dataset.boxes import drop_unfit_boxes
from ilv_dataset.matching import extra_words, is_contrast, match_class
from ilv_dataset.models.runtime import weights_digest
from ilv_dataset.models.yolo_network import Candidates, load_network
from ilv_dataset.records import Detections, Frame, Phrase

_VERSION = "yolo-v3"

# Source: ours, from the labelled robot images and the RLDS samples, every box of a class that an
# instruction names looked at: right ones scored 0.38 to 0.81.
SCORE_MIN = 0.35
# Classes as which cans, pots, blocks, fruit and vegetables of robot scenes come out, at up to
# 0.53, and the robot's arm, at up to 0.59.
SCORE_MIN_BY_CLASS: Mapping[str, float] = {"cup": 0.6, "mouse": 0.6, "donut": 0.6, "person": 0.8}
# Another box of the class counts as one if it scores at least this share of the best. Source: ours.
RIVAL_SHARE = 0.5


class YoloDetector:
    """Gives each phrase the best box of the class that its head noun names, if one is sure."""

    needs_source_objects = False
    is_independent = False

    def __init__(self, weights: Path, *, spec: str, device: str | None = None) -> None:
        digest = weights_digest(weights, advice="expected an ultralytics .pt or .onnx file")
        self.spec = spec
        self.fingerprint = f"{_VERSION}:{digest}"
        self._network = load_network(weights, device=device)
        self.has_masks = self._network.has_masks

    def __call__(
        self, frames: Sequence[Frame], queries: Sequence[Sequence[Phrase]]
    ) -> list[Detections]:
        """Runs the network on the frames whose phrases name a class, and picks boxes."""
        names = self._network.names
        labels = [[match_class(q.phrase, names) for q in wanted] for wanted in queries]
        busy = [row for row, matched in enumerate(labels) if any(matched)]
        candidates = self._network.detect([frames[row].image for row in busy])
        found = [Detections.empty() for _ in frames]
        for row, boxes in zip(busy, candidates, strict=True):
            size_wh = (frames[row].image.shape[1], frames[row].image.shape[0])
            found[row] = self._pick(boxes, queries[row], labels[row], size_wh)
        return found

    def _pick(
        self,
        candidates: Candidates,
        queries: Sequence[Phrase],
        labels: Sequence[str | None],
        size_wh: tuple[int, int],
    ) -> Detections:
        classes = [self._network.names[index] for index in candidates.classes]
        chosen, reasons = pick_boxes(candidates.scores, classes, queries, labels)
        rows = list(chosen.values())
        masks = candidates.masks(rows, size_wh=size_wh) if self.has_masks else None
        detections = Detections(
            boxes_xyxy=candidates.boxes_xyxy[rows],
            scores=candidates.scores[rows],
            query_indices=np.array(list(chosen), np.int64),
            masks=masks,
            reasons=reasons,
        )
        return drop_unfit_boxes(detections, size_wh=size_wh)


def pick_boxes(
    scores: np.ndarray,
    classes: Sequence[str],
    queries: Sequence[Phrase],
    labels: Sequence[str | None],
) -> tuple[dict[int, int], dict[int, str]]:
    """Decides which box each phrase gets: {query: row}, and {query: reason} for the others.

    `scores` (N,) and `classes` describe the boxes, best first; `labels` are the classes that the
    phrases name. Better no box than a wrong one: a phrase gets none ("ambiguous") where a second
    phrase names the same class, where it tells things apart by what a class does not show
    (colour, size, place), or where it has a modifier and the class has several boxes.
    """
    chosen: dict[int, int] = {}
    reasons: dict[int, str] = {}
    for position, (query, label) in enumerate(zip(queries, labels, strict=True)):
        rows = [row for row, name in enumerate(classes) if name == label]
        if label is None or not rows or scores[rows[0]] < _score_min(label):
            reasons[position] = "absent"
        elif _is_ambiguous(query, label, queries, labels, scores[rows]):
            reasons[position] = "ambiguous"
        else:
            chosen[position] = rows[0]
    return chosen, reasons


def _score_min(label: str) -> float:
    return SCORE_MIN_BY_CLASS.get(label, SCORE_MIN)


def _is_ambiguous(
    query: Phrase,
    label: str,
    queries: Sequence[Phrase],
    labels: Sequence[str | None],
    scores: np.ndarray,
) -> bool:
    others = {q.query for q, other in zip(queries, labels, strict=True) if other == label}
    extra = extra_words(query.phrase, label)
    num_boxes = int((scores >= RIVAL_SHARE * scores[0]).sum())
    return len(others) > 1 or any(map(is_contrast, extra)) or (bool(extra) and num_boxes > 1)
