"""What detectors that take texts share: the best boxes of each text, and which query gets them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from ilv_dataset.boxes import AREA_MAX_SHARE, box_areas_px, round_detections
from ilv_dataset.models.protocols import TextEncoder
from ilv_dataset.models.runtime import Placement
from ilv_dataset.models.yolo_network import suppress
from ilv_dataset.records import Phrase

BOXES_PER_TEXT = 5  # Source: ours; a query needs another box only where a better one is taken
# Masks of one frame, in pixels. Source: ours; 1 GB, which are 16 of a frame of 8000 x 8000.
MASK_PIXELS_MAX = 1 << 30


def encode_each(encode_texts: TextEncoder, texts: Collection[str]) -> None:
    """Encodes each text by itself, sorted, into the cache that the encoder keeps on disk.

    Raises: ConfigError where a text is new and the text encoder does not load.
    """
    for text in sorted(set(texts)):
        encode_texts([text])


def distinct_texts(queries: Sequence[Phrase]) -> list[str]:
    """What a frame's queries ask, each text once."""
    return list(dict.fromkeys(phrase.query for phrase in queries))


def read_boxes(
    raw: np.ndarray,
    placement: Placement,
    *,
    num_texts: int,
    size_wh: tuple[int, int],
    score_min: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The boxes of an image's texts in a YOLO's raw output, see `best_of_texts`.

    Args:
        raw: (4 + texts + K, anchors), boxes as centre and size in pixels of the input.

    Returns: boxes (N, 4) in pixels of the frame, scores (N,), and of each the number of its text
        and its anchor, (N,) int64.
    """
    texts, anchors = np.nonzero(raw[4 : 4 + num_texts] >= score_min - 0.001)  # NaN is not
    center, half = raw[:2, anchors].T, raw[2:4, anchors].T / 2
    framed = placement.to_frame(np.concatenate([center - half, center + half], axis=1))
    boxes, scores, kept = round_detections(framed, raw[4 + texts, anchors], size_wh=size_wh)
    sure = np.flatnonzero(scores >= score_min)
    texts, anchors = texts[kept], anchors[kept]
    rows = sure[best_of_texts(boxes[sure], scores[sure], texts[sure], num_texts=num_texts)]
    return boxes[rows], scores[rows], texts[rows], anchors[rows]


def best_of_texts(
    boxes_xyxy: np.ndarray, scores: np.ndarray, texts: np.ndarray, *, num_texts: int
) -> np.ndarray:
    """Rows of the boxes that are kept, by text, best first; none overlaps another of its text.

    Args:
        texts: (N,) int, the number of the text that each box is for.
    """
    rows = [np.zeros(0, np.int64)]
    for text in range(num_texts):
        mine = np.flatnonzero(texts == text)
        rows.append(mine[suppress(boxes_xyxy[mine], scores[mine])[:BOXES_PER_TEXT]])
    return np.concatenate(rows)


def hand_out(
    queries: Sequence[Phrase], texts: np.ndarray, ranks: np.ndarray, *, mask_px: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Gives each query the boxes of its text: query numbers (M,), rows (M,), both int64.

    Where the masks of all do not fit, the best box of each query comes first, then the best of
    the others. Where even those of the first do not, all boxes are given, and none has a mask.

    Args:
        texts: (N,) int, the number of each box's text in `distinct_texts`.
        ranks: (N,) the higher, the better, see `rank_boxes`.
        mask_px: pixels of one mask; 0 where there are none. See `masks_fit`.
    """
    asked = distinct_texts(queries)
    pairs = [
        (query, row)
        for query, phrase in enumerate(queries)
        for row in np.flatnonzero(texts == asked.index(phrase.query)).tolist()
    ]
    given = np.array(pairs, np.int64).reshape(-1, 2)
    order = np.argsort(-ranks[given[:, 1]], kind="stable")
    _, first = np.unique(given[order, 0], return_index=True)
    if not masks_fit(len(given), mask_px=mask_px) and masks_fit(len(first), mask_px=mask_px):
        order = np.concatenate([order[first], np.delete(order, first)])
        given = given[np.sort(order[: MASK_PIXELS_MAX // mask_px])]
    return given[:, 0], given[:, 1]


def masks_fit(num_masks: int, *, mask_px: int) -> bool:
    """Whether memory is there for that many masks of one frame; `mask_px` are one mask's pixels."""
    return num_masks * mask_px <= MASK_PIXELS_MAX


def rank_boxes(
    boxes_xyxy: np.ndarray, scores: np.ndarray, *, size_wh: tuple[int, int]
) -> np.ndarray:
    """(N,) scores 0..1, less 1 where a box is too large to be the picture of an object."""
    too_large = box_areas_px(boxes_xyxy) > AREA_MAX_SHARE * size_wh[0] * size_wh[1]
    return np.asarray(scores - too_large)
