"""From the string that names a detector to the detector."""

from __future__ import annotations

from pathlib import Path

from ilv_dataset.errors import ConfigError
from ilv_dataset.models.protocols import Detector

DETECTORS = ("source", "yolo:WEIGHTS", "yolo-world:WEIGHTS")


def load_detector(spec: str, *, device: str | None = None) -> Detector:
    """Loads the detector that `spec` names, one of DETECTORS.

    `device` is torch's name of one ("cpu", "cuda:0"); None takes a GPU where there is one.

    Raises: ConfigError if there is no such detector, or its weights do not load.
    """
    name, _, weights = spec.partition(":")
    if name == "source" and not weights:
        from ilv_dataset.models.source import SourceDetector

        return SourceDetector()
    if name == "yolo" and weights:
        from ilv_dataset.models.yolo import YoloDetector

        return YoloDetector(Path(weights).expanduser(), spec=spec, device=device)
    if name == "yolo-world" and weights:
        from ilv_dataset.models.yolo_world import YoloWorldDetector

        return YoloWorldDetector(Path(weights).expanduser(), spec=spec, device=device)
    raise ConfigError(f"no detector {spec!r}; expected one of {', '.join(DETECTORS)}")
