"""From the string that names a segmenter to the segmenter."""

from __future__ import annotations

from ilv_dataset.errors import ConfigError
from ilv_dataset.models.bundled import bundled_weights
from ilv_dataset.models.catalog import find_weights
from ilv_dataset.models.protocols import Segmenter

SEGMENTERS = (
    "auto",
    "detector",
    "grabcut",
    "sam",
    "sam:tabletop",
    "sam:CHECKPOINT",
    "mobile-sam",
    "mobile-sam:CHECKPOINT",
    "sam2",
    "sam2:CHECKPOINT",
)
SAM_CHECKPOINT = "sam_vit_b_01ec64.pth"


def load_segmenter(
    spec: str, *, detector_has_masks: bool, device: str | None = None
) -> Segmenter | None:
    """Loads the segmenter that `spec` names, one of SEGMENTERS; None: the detector's own masks.

    "auto" is the detector's own masks where it has them, else "sam", the published checkpoint
    SAM_CHECKPOINT in the working folder or the models folder; "sam:tabletop" comes with the
    package. `device` is as in `load_detector`.

    Raises: ConfigError if there is no such segmenter, or its checkpoint does not load.
    """
    name, _, checkpoint = spec.partition(":")
    if spec == "detector" and not detector_has_masks:
        raise ConfigError(
            "--segmenter detector: this detector finds boxes only; use sam or grabcut"
        )
    if spec == "detector" or (spec == "auto" and detector_has_masks):
        return None
    if spec == "grabcut":
        from ilv_dataset.models.grabcut import GrabCutSegmenter

        return GrabCutSegmenter()
    if spec in ("auto", "sam") or (name == "sam" and checkpoint):
        from ilv_dataset.models.sam import SamSegmenter

        path = bundled_weights("sam", checkpoint) or find_weights(checkpoint or SAM_CHECKPOINT)
        return SamSegmenter(path, spec=spec, device=device)
    if name in ("mobile-sam", "sam2"):
        from ilv_dataset.models.ultralytics_sam import DEFAULT_WEIGHTS, UltralyticsSegmenter

        path = find_weights(checkpoint or DEFAULT_WEIGHTS[name])
        return UltralyticsSegmenter(path, backend=name, spec=spec, device=device)
    raise ConfigError(f"no segmenter {spec!r}; expected one of {', '.join(SEGMENTERS)}")
