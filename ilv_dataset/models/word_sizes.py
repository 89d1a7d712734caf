"""Sizes are relative: of several things of one name, the "small" one is the smallest in sight."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ilv_dataset.boxes import box_areas_px
from ilv_dataset.records import Detections, Phrase

SMALL = frozenset(("small", "smaller", "smallest", "little", "tiny", "mini"))
LARGE = frozenset(("large", "larger", "largest", "big", "bigger", "biggest", "huge"))
# A box that scores so much of the best one's shows a thing of the name too. Source: ours.
_SCORE_SHARE_MIN = 0.5
_WORD = re.compile(r"[^\W\d_]+")


def size_wanted(text: str) -> int:
    """-1 where a phrase asks for the small one, 1 for the large one, else 0.

    >>> size_wanted("the small red ball"), size_wanted("BIG plate"), size_wanted("plate")
    (-1, 1, 0)
    """
    words = set(_WORD.findall(text.lower()))
    return int(bool(words & LARGE)) - int(bool(words & SMALL))


def keep_sizes(detections: Detections, queries: Sequence[Phrase]) -> Detections:
    """Leaves a query that names a size the one of its boxes that has it."""
    kept = np.ones(len(detections.scores), bool)
    areas = box_areas_px(detections.boxes_xyxy)
    for number, phrase in enumerate(queries):
        wanted = size_wanted(phrase.query)
        rows = np.flatnonzero(detections.query_indices == number)
        if not wanted or not len(rows):
            continue
        scores = detections.scores[rows]
        alike = rows[scores >= _SCORE_SHARE_MIN * scores.max()]
        kept[rows] = False
        kept[alike[(wanted * areas[alike]).argmax()]] = True
    return Detections(
        detections.boxes_xyxy[kept],
        detections.scores[kept],
        detections.query_indices[kept],
        None if detections.masks is None else detections.masks[kept],
        detections.reasons,
    )
