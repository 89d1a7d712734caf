"""Models are loaded once a process: the launcher checks them, its workers use them.

A worker may run several shards in threads; they take turns at its detector and its segmenter.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, cast

from ilv_dataset.layout import Layout
from ilv_dataset.ledgers import Ledger
from ilv_dataset.models.chat import ChatOptions
from ilv_dataset.models.detector import load_detector
from ilv_dataset.models.protocols import Detector, Segmenter, Verifier
from ilv_dataset.models.segmenter import load_segmenter
from ilv_dataset.models.verifier import load_verifier

_LOADING = threading.RLock()


class _InTurns:
    """A model that the threads of a process take turns at: its network holds what it is asked."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._lock = threading.Lock()

    def __call__(self, *args: Any) -> Any:
        with self._lock:
            return self._model(*args)

    def segment_points(self, *args: Any) -> Any:
        with self._lock:
            return self._model.segment_points(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def detector_of_process(spec: str) -> Detector:
    """The detector that `spec` names, loaded at the first call.

    Raises: ConfigError.
    """
    with _LOADING:
        return _load_detector(spec)


def segmenter_of_process(spec: str, detector: str) -> Segmenter | None:
    """The segmenter that `spec` names beside a detector; None for the detector's own masks.

    Raises: ConfigError.
    """
    with _LOADING:
        return _load_segmenter(spec, detector_of_process(detector).has_masks)


def verifier_of_process(
    spec: str, chat: ChatOptions | None, cache: str, layout: Layout
) -> Verifier | None:
    """The verifier that `spec` names; None for "none". Arguments are as in `load_verifier`.

    What it spends on the dataset of `layout` is kept there.

    Raises: ConfigError.
    """
    with _LOADING:
        return _load_verifier(spec, chat, cache, layout)


@functools.cache
def _load_detector(spec: str) -> Detector:
    return cast(Detector, _InTurns(load_detector(spec)))


@functools.cache
def _load_segmenter(spec: str, detector_has_masks: bool) -> Segmenter | None:
    found = load_segmenter(spec, detector_has_masks=detector_has_masks)
    return None if found is None else cast(Segmenter, _InTurns(found))


@functools.cache
def _load_verifier(
    spec: str, chat: ChatOptions | None, cache: str, layout: Layout
) -> Verifier | None:
    on_spent = Ledger(layout, "verifier").save
    return load_verifier(spec, chat=chat, cache=cache, on_spent=on_spent)


def forget_models() -> None:
    """Lets the models be loaded anew, as another process would."""
    for load in (_load_detector, _load_segmenter, _load_verifier):
        load.cache_clear()
