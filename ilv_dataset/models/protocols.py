"""What the stages expect of a detector and a segmenter: batches of plain values in and out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from ilv_dataset.records import Detections, Frame, Masks, Phrase

# (N texts) -> (N, D) float32, each row of length 1.
TextEncoder = Callable[[Sequence[str]], np.ndarray]


class Detector(Protocol):
    """Finds the boxes of phrases in frames."""

    spec: str  # as the user gave it, e.g. "yolo:weights.onnx"
    fingerprint: str  # changes whenever results may change
    has_masks: bool  # its Detections carry masks (a frame without any may still come without)
    needs_source_objects: bool  # Frame.source_objects must be filled

    def __call__(
        self, frames: Sequence[Frame], queries: Sequence[Sequence[Phrase]]
    ) -> list[Detections]:
        """Detects `queries[i]` in `frames[i]`; one Detections a frame, in order.

        Boxes come clipped, rounded, and with those that are no object's picture dropped.
        """
        ...


class Segmenter(Protocol):
    """Cuts the object in each box out of its background."""

    spec: str
    fingerprint: str

    def __call__(
        self, images: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]
    ) -> list[Masks]:
        """Segments `boxes_xyxy[i]`, (N, 4) pixels, in `images[i]`, (H, W, 3) uint8 RGB."""
        ...
