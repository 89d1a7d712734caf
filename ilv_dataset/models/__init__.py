"""The protocols of the models, and one adapter a file."""

from ilv_dataset.models.protocols import (
    Detector,
    PointFinder,
    Segmenter,
    TextEncoder,
    Verifier,
)

__all__ = ["Detector", "PointFinder", "Segmenter", "TextEncoder", "Verifier"]
