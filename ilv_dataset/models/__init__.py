"""The protocols of the models, and one adapter a file."""

from ilv_dataset.models.protocols import Detector, Segmenter, TextEncoder

__all__ = ["Detector", "Segmenter", "TextEncoder"]
