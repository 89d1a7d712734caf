"""From the string that names a detector to the detector."""

from __future__ import annotations

from ilv_dataset.errors import ConfigError
from ilv_dataset.models.bundled import bundled_weights
from ilv_dataset.models.catalog import find_weights
from ilv_dataset.models.protocols import Detector

DETECTORS = (
    "source",
    "yolo:WEIGHTS",
    "yolo-world:tabletop",
    "yolo-world:WEIGHTS",
    "yoloe:WEIGHTS",
    "sam3",
    "sam3:WEIGHTS",
)
SAM3_WEIGHTS = "sam3.pt"


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

        return YoloDetector(find_weights(weights), spec=spec, device=device)
    if name == "yolo-world" and weights:
        from ilv_dataset.models.yolo_world import YoloWorldDetector

        path = bundled_weights(name, weights) or find_weights(weights)
        return YoloWorldDetector(path, spec=spec, device=device)
    if name == "yoloe" and weights:
        from ilv_dataset.models.yoloe import YoloeDetector

        return YoloeDetector(find_weights(weights), spec=spec, device=device)
    if name == "sam3":
        from ilv_dataset.models.sam3 import Sam3Detector

        return Sam3Detector(find_weights(weights or SAM3_WEIGHTS), spec=spec, device=device)
    raise ConfigError(f"no detector {spec!r}; expected one of {', '.join(DETECTORS)}")
