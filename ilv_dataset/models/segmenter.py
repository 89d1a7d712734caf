"""From the string that names a segmenter to the segmenter."""

from __future__ import annotations

from pathlib import Path

from ilv_dataset.errors import ConfigError
from ilv_dataset.models.protocols import Segmenter

SEGMENTERS = ("auto", "detector", "grabcut", "sam", "sam:CHECKPOINT")
SAM_CHECKPOINT = "sam_vit_b_01ec64.pth"


def load_segmenter(
    spec: str, *, detector_has_masks: bool, device: str | None = None
) -> Segmenter | None:
    """Loads the segmenter that `spec` names, one of SEGMENTERS; None: the detector's own masks.

    "auto" is the detector's own masks where it has them, else "sam". `device` is as in
    `load_detector`.

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

        return SamSegmenter(
            Path(checkpoint or SAM_CHECKPOINT).expanduser(), spec=spec, device=device
        )
    raise ConfigError(f"no segmenter {spec!r}; expected one of {', '.join(SEGMENTERS)}")
