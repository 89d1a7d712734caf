"""What the stages expect of the models: batches of plain values in and out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from ilv_dataset.records import Candidate, Detections, Frame, Masks, Phrase, Verdict

# (N texts) -> (N, D) float32, each row of length 1.
TextEncoder = Callable[[Sequence[str]], np.ndarray]


class Detector(Protocol):
    """Finds the boxes of phrases in frames."""

    spec: str  # as the user gave it, e.g. "yolo:weights.onnx"
    fingerprint: str  # changes whenever results may change
    has_masks: bool  # its Detections carry masks (a frame without any may still come without)
    needs_source_objects: bool  # Frame.source_objects must be filled
    is_independent: bool  # what a query finds depends on no other query of its frame

    def __call__(
        self, frames: Sequence[Frame], queries: Sequence[Sequence[Phrase]]
    ) -> list[Detections]:
        """Detects `queries[i]` in `frames[i]`; one Detections a frame, in order.

        Boxes come clipped, rounded, and with those that are no object's picture dropped.
        """
        ...


class Segmenter(Protocol):
    """Cuts the object in each box, or at each point, out of its background."""

    spec: str
    fingerprint: str

    def __call__(
        self, images: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]
    ) -> list[Masks]:
        """Segments `boxes_xyxy[i]`, (N, 4) pixels, in `images[i]`, (H, W, 3) uint8 RGB."""
        ...

    def segment_points(
        self, images: Sequence[np.ndarray], points_xy: Sequence[np.ndarray]
    ) -> list[Masks]:
        """Segments what lies at each of `points_xy[i]`, (N, 2) pixels, in `images[i]`.

        An empty mask says that nothing was found there.
        """
        ...


class Verifier(Protocol):
    """Says whether crops show what their phrases name."""

    spec: str
    fingerprint: str

    def __call__(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """Judges candidates of many spans, each by itself; one verdict each, in order.

        Where a model's reply cannot be used the verdict is "unsure", and the reason says so.
        """
        ...


@runtime_checkable
class PointFinder(Verifier, Protocol):
    """A verifier that can also show where in a frame a thing is."""

    def find_points(
        self, images: Sequence[np.ndarray], phrases: Sequence[str]
    ) -> list[tuple[float, float] | None]:
        """Finds `phrases[i]` in `images[i]`, (H, W, 3) uint8 RGB of any size.

        Returns: (x, y) in pixels of `images[i]`, or None where it is not to be seen. A model is
            shown the frame as `key_points.fit_frame` makes it.
        """
        ...
