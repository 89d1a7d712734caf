"""How clearly a crop shows its object: what makes one view of it better than another."""

from __future__ import annotations

import math

from ilv_dataset.records import Box

# From this score on no other frame is looked at for a better view. Source: ours, not measured: a
# sure detector has seen enough, and each further look costs as much as the first.
SCORE_CLEAR = 0.5
BORDER_PX = 1.0  # as near to the frame's border an object is cut off by it; Source: rounding to 0.1
CUT_OFF_SHARE = 0.5  # what a view is worth where the border cuts it off; Source: ours, not measured


def is_cut_off(box_xyxy: Box, *, size_wh: tuple[int, int]) -> bool:
    """Whether a box touches the border of its frame.

    >>> is_cut_off((0.5, 10, 20, 30), size_wh=(64, 48))
    True
    >>> is_cut_off((2, 10, 20, 47), size_wh=(64, 48))
    False
    """
    x0, y0, x1, y1 = box_xyxy
    width, height = size_wh
    return min(x0, y0, width - x1, height - y1) < BORDER_PX


def is_clear(box_xyxy: Box, *, size_wh: tuple[int, int], score: float) -> bool:
    """Whether a view is good enough to look at no other frame; `score` as in `measure_clarity`."""
    return score >= SCORE_CLEAR and not is_cut_off(box_xyxy, size_wh=size_wh)


def measure_clarity(
    box_xyxy: Box, *, size_wh: tuple[int, int], area_px: float, score: float
) -> float:
    """How much a view shows, to compare views of one object with: score times size in pixels.

    Of an object that something hides, an arm say, fewer pixels are seen than in another frame.

    Args:
        area_px: of the mask, or of the box where there is none.
        score: 0..1, of the detector, or of the mask where none found it.

    >>> measure_clarity((10, 10, 30, 30), size_wh=(64, 48), area_px=400, score=0.5)
    10.0
    >>> measure_clarity((0, 10, 20, 30), size_wh=(64, 48), area_px=400, score=0.5)
    5.0
    """
    share = CUT_OFF_SHARE if is_cut_off(box_xyxy, size_wh=size_wh) else 1.0
    return score * math.sqrt(area_px) * share
