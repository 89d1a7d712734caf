"""Models are loaded once a process: the launcher checks them, its workers use them."""

from __future__ import annotations

import functools

from ilv_dataset.layout import Layout
from ilv_dataset.ledgers import Ledger
from ilv_dataset.models.chat import ChatOptions
from ilv_dataset.models.detector import load_detector
from ilv_dataset.models.protocols import Detector, Segmenter, Verifier
from ilv_dataset.models.segmenter import load_segmenter
from ilv_dataset.models.verifier import load_verifier


@functools.cache
def detector_of_process(spec: str) -> Detector:
    """The detector that `spec` names, loaded at the first call.

    Raises: ConfigError.
    """
    return load_detector(spec)


@functools.cache
def segmenter_of_process(spec: str, detector: str) -> Segmenter | None:
    """The segmenter that `spec` names beside a detector; None for the detector's own masks.

    Raises: ConfigError.
    """
    return load_segmenter(spec, detector_has_masks=detector_of_process(detector).has_masks)


@functools.cache
def verifier_of_process(
    spec: str, chat: ChatOptions | None, cache: str, layout: Layout
) -> Verifier | None:
    """The verifier that `spec` names; None for "none". Arguments are as in `load_verifier`.

    What it spends on the dataset of `layout` is kept there.

    Raises: ConfigError.
    """
    on_spent = Ledger(layout, "verifier").save
    return load_verifier(spec, chat=chat, cache=cache, on_spent=on_spent)
