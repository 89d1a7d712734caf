"""The detector `source`: boxes and masks that the dataset itself carries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ilv_dataset.boxes import drop_unfit_boxes, round_detections
from ilv_dataset.masks import FrameMasks
from ilv_dataset.matching import match_names
from ilv_dataset.records import Detections, Frame, Phrase, SourceObjects

_VERSION = "source-v2"


class SourceDetector:
    """Gives each phrase the object of the frame that the dataset names so, with score 1."""

    spec = "source"
    fingerprint = _VERSION
    has_masks = True
    needs_source_objects = True
    is_independent = False

    def __call__(
        self, frames: Sequence[Frame], queries: Sequence[Sequence[Phrase]]
    ) -> list[Detections]:
        """Matches names to phrases; see `matching.match_names`.

        Raises: ValueError for a frame without `source_objects`: the reader did not fill it.
        """
        return [_find(frame, wanted) for frame, wanted in zip(frames, queries, strict=True)]


def _find(frame: Frame, queries: Sequence[Phrase]) -> Detections:
    objects = frame.source_objects
    if objects is None:
        raise ValueError(f"frame {frame.frame_index} of {frame.camera} has no source objects")
    choices = match_names(objects.names, queries)
    reasons = {query: c.reason for query, c in enumerate(choices) if c.index is None}
    found = [(query, c.index) for query, c in enumerate(choices) if c.index is not None]
    return _select(objects, found, reasons, size_wh=(frame.image.shape[1], frame.image.shape[0]))


def _select(
    objects: SourceObjects,
    found: Sequence[tuple[int, int]],
    reasons: dict[int, str],
    *,
    size_wh: tuple[int, int],
) -> Detections:
    rows = np.array([row for _, row in found], np.int64)
    boxes, scores, kept = round_detections(
        objects.boxes_xyxy[rows], np.ones(len(rows)), size_wh=size_wh
    )
    detections = Detections(
        boxes_xyxy=boxes,
        scores=scores,
        query_indices=np.array([query for query, _ in found], np.int64)[kept],
        masks=None if objects.masks is None else FrameMasks.of(objects.masks[rows[kept]]),
        reasons=reasons,
    )
    return _name_the_hidden(drop_unfit_boxes(detections, size_wh=size_wh), detections)


def _name_the_hidden(kept: Detections, found: Detections) -> Detections:
    """Calls objects without a single visible pixel absent, not too small."""
    if found.masks is None:
        return kept
    hidden = found.query_indices[found.masks.areas_px() == 0].tolist()
    reasons = {**kept.reasons, **dict.fromkeys(hidden, "absent")}
    return Detections(kept.boxes_xyxy, kept.scores, kept.query_indices, kept.masks, reasons)
