"""The text encoders of the open-vocabulary detectors: queries into unit vectors, by open_clip."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ilv_dataset.errors import ConfigError
from ilv_dataset.models.catalog import (
    find_model,
    find_weights,
    models_folder,
    read_checksums,
)
from ilv_dataset.models.runtime import LOAD_ERRORS, bad_weights, weights_digest
from ilv_dataset.models.text_features import CachedTextEncoder

WEIGHTS_NAME = "ViT-B-32.pt"
# Source: open_clip's table of pretrained weights; the address holds the file's SHA-256.
WEIGHTS_SHA256 = find_model(WEIGHTS_NAME).checksum.removeprefix("sha256:")
# Source: ultralytics/nn/text_model.py; what a YOLOE's file calls its encoder.
MOBILE_CLIP_NAMES = {"mobileclip": "mobileclip_blt.ts", "mobileclip2": "mobileclip2_b.ts"}
_ARCHITECTURE = "ViT-B-32-quickgelu"  # the activation that OpenAI's weights were trained with
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")


def cached_clip(beside: Path) -> CachedTextEncoder:
    """CLIP's text side for YOLO-World, loaded once there is a text that was never encoded.

    Args:
        beside: the detector's weights, in whose folder CLIP's are looked for first.
    """
    load = functools.partial(_load_clip, beside)
    return CachedTextEncoder(load, digest=f"{WEIGHTS_SHA256[:16]}-{_ARCHITECTURE}")


def _load_clip(beside: Path) -> ClipTextEncoder:
    check_open_clip("yolo-world")
    return ClipTextEncoder(find_weights(WEIGHTS_NAME, beside=beside))


def cached_mobile_clip(variant: str, detector: Path) -> CachedTextEncoder:
    """MobileCLIP's text side for YOLOE, loaded once there is a text that was never encoded.

    Its file is a program without a published checksum: it is run from the models folder alone,
    and as `ilv models fetch` recorded it.

    Args:
        variant: as a YOLOE names it, e.g. "mobileclip:blt".
        detector: the file that names it.

    Raises: ConfigError if there is no such encoder, or it is not in the models folder and never
        was.
    """
    name = MOBILE_CLIP_NAMES.get(variant.partition(":")[0])
    if name is None:
        known = ", ".join(MOBILE_CLIP_NAMES)
        raise ConfigError(f"{detector} takes texts of {variant}; expected one of {known}")
    recorded = read_checksums(models_folder()).get(name)
    digest = recorded or weights_digest(find_weights(name), advice=_advice(name))
    load = functools.partial(_load_mobile_clip, name)
    return CachedTextEncoder(load, digest=f"{digest[:16]}-mobileclip")


def _load_mobile_clip(name: str) -> MobileClipTextEncoder:
    check_open_clip("yoloe")
    path = find_weights(name)
    weights_digest(path, advice=_advice(name))  # refuses what is not as it was recorded
    return MobileClipTextEncoder(path)


def _advice(name: str) -> str:
    return f"`ilv models fetch {name}` gets them"


class ClipTextEncoder:
    """OpenAI's CLIP ViT-B/32, whose text features YOLO-World was trained on."""

    def __init__(self, weights: Path) -> None:
        """Loads the weights; nothing is fetched.

        Raises: ConfigError if open_clip is not installed, or the file is missing or another.
        """
        check_open_clip("yolo-world")
        advice = _advice(WEIGHTS_NAME)
        if weights_digest(weights, advice=advice) != WEIGHTS_SHA256:
            raise ConfigError(f"{weights} is not OpenAI's {WEIGHTS_NAME}; {advice}")
        import open_clip

        try:
            state = _load_script(weights).state_dict()
            model = open_clip.create_model(_ARCHITECTURE)
            model.load_state_dict({k: v for k, v in state.items() if k not in _NOT_WEIGHTS})
        except LOAD_ERRORS as error:
            raise bad_weights(weights, f"OpenAI's {WEIGHTS_NAME}", error) from error
        self._model = model.eval()

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes N texts, cut at CLIP's 77 tokens, into (N, 512) float32 of length 1."""
        import torch

        with torch.inference_mode():
            features = self._model.encode_text(tokenizer()(list(texts)), normalize=True)
        return np.asarray(features.cpu().numpy(), np.float32)


class MobileClipTextEncoder:
    """Apple's MobileCLIP as ultralytics exports it, whose text features YOLOE was trained on."""

    def __init__(self, weights: Path) -> None:
        """Loads a TorchScript file of tokens (N, 77) int64 -> features (N, D); fetches nothing.

        Raises: ConfigError if the file is none.
        """
        try:
            self._model = _load_script(weights).eval()
        except LOAD_ERRORS as error:
            raise bad_weights(weights, "an export of MobileCLIP (TorchScript)", error) from error

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes N texts, cut at CLIP's 77 tokens, into (N, D) float32 of length 1."""
        import torch

        with torch.inference_mode():
            features = self._model(tokenizer()(list(texts))).float()
            features = torch.nn.functional.normalize(features, dim=-1)
        return np.asarray(features.cpu().numpy(), np.float32)


def _load_script(path: Path) -> Any:
    import torch

    with warnings.catch_warnings():  # TorchScript is on its way out, and these files are in it
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.load(str(path), map_location="cpu")


def check_open_clip(backend: str) -> None:
    """Looks whether open_clip is there, which takes a second to import.

    Raises: ConfigError that names the extra.
    """
    if importlib.util.find_spec("open_clip") is None:
        raise ConfigError(f"{backend} needs open_clip: pip install 'ilv-dataset[clip]'")


@functools.cache
def tokenizer() -> Any:
    """CLIP's own: texts -> (N, 77) int64; its vocabulary is in the package."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()
