"""What detectors that take texts share: the best boxes of each text, and which query gets them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from ilv_dataset.boxes import round_detections
from ilv_dataset.models.protocols import TextEncoder
from ilv_dataset.models.runtime import Placement
from ilv_dataset.models.yolo_network import suppress
from ilv_dataset.records import Phrase

BOXES_PER_TEXT = 5  # Source: ours; a query needs another box only where a better one is taken


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


def hand_out(queries: Sequence[Phrase], texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives each query the boxes of its text: query numbers (M,), rows (M,), both int64.

    Args:
        texts: (N,) int, the number of each box's text in `distinct_texts`.
    """
    asked = distinct_texts(queries)
    pairs = [
        (query, row)
        for query, phrase in enumerate(queries)
        for row in np.flatnonzero(texts == asked.index(phrase.query)).tolist()
    ]
    given = np.array(pairs, np.int64).reshape(-1, 2)
    return given[:, 0], given[:, 1]
