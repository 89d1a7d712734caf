"""Features of texts on disk: each text is encoded once, ever, by whichever process is first."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ilv_dataset.models.catalog import models_folder
from ilv_dataset.models.protocols import TextEncoder

FOLDER_NAME = "text_features"  # in the models folder
_TEXTS_MAX = 20_000  # kept in memory, 2 kB each


class CachedTextEncoder:
    """A text encoder that loads another one only for a text that no process has asked for yet.

    A text is one small file, written whole under another name and renamed; processes that meet
    write the same bytes. A folder that cannot be written to costs time, and nothing else.
    """

    def __init__(
        self, load: Callable[[], TextEncoder], *, digest: str, folder: Path | None = None
    ) -> None:
        """Reads and loads nothing yet.

        Args:
            load: makes the encoder.
            digest: names it and its weights; other weights never share a file.
            folder: None for the models folder's.
        """
        self.digest = digest
        self._folder = (folder or models_folder() / FOLDER_NAME) / digest
        self._load = load
        self._encode: TextEncoder | None = None
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(N texts) -> (N, D) float32, each row of length 1.

        Raises: ConfigError where a text is new and the encoder does not load.
        """
        if len(self._known) > _TEXTS_MAX:
            self._known.clear()
        for text in dict.fromkeys(texts):
            if text not in self._known:
                self._known[text] = self._find(text)
        return np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, 0))

    def _find(self, text: str) -> np.ndarray:
        path = self._path(text)
        features = _read(path)
        if features is None:
            self._encode = self._encode or self._load()
            # By itself: what a text is encoded with must not change its features.
            features = np.asarray(self._encode([text])[0], np.float32, order="C")
            _write(path, features)
        return features

    def _path(self, text: str) -> Path:
        name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / name[:2] / f"{name}.npy"


def _read(path: Path) -> np.ndarray | None:
    """What a file holds; None where there is none, or it is damaged."""
    try:
        with path.open("rb") as file:
            features = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    usable = features.ndim == 1 and features.dtype == np.float32 and np.isfinite(features).all()
    return features if usable else None


def _write(path: Path, features: np.ndarray) -> None:
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):  # full, read-only, no home: the text is encoded again
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                np.save(file, features, allow_pickle=False)
            os.replace(temporary, path)  # noqa: PTH105
        finally:
            temporary.unlink(missing_ok=True)
