"""CLIP's text side for YOLO-World: queries into unit vectors, through the package open_clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ilv_dataset.errors import ConfigError
from ilv_dataset.models.runtime import LOAD_ERRORS, bad_weights, weights_digest

# Source: open_clip's table of pretrained weights; the address holds the file's SHA-256.
WEIGHTS_NAME = "ViT-B-32.pt"
WEIGHTS_SHA256 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
WEIGHTS_URL = f"https://openaipublic.azureedge.net/clip/models/{WEIGHTS_SHA256}/{WEIGHTS_NAME}"
_ARCHITECTURE = "ViT-B-32-quickgelu"  # the activation that OpenAI's weights were trained with
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")


class ClipTextEncoder:
    """OpenAI's CLIP ViT-B/32, whose text features YOLO-World was trained on."""

    def __init__(self, weights: Path) -> None:
        """Loads the weights; nothing is fetched.

        Raises: ConfigError if open_clip is not installed, or the file is missing or another.
        """
        try:
            import open_clip
        except ImportError as error:
            message = "yolo-world needs open_clip: pip install 'ilv-dataset[clip]'"
            raise ConfigError(message) from error
        if weights_digest(weights, advice=f"fetch {WEIGHTS_URL} to it") != WEIGHTS_SHA256:
            raise ConfigError(f"{weights} is not OpenAI's {WEIGHTS_NAME}; fetch {WEIGHTS_URL}")
        import torch

        try:
            state = torch.jit.load(str(weights), map_location="cpu").state_dict()
            model = open_clip.create_model(_ARCHITECTURE)
            model.load_state_dict({k: v for k, v in state.items() if k not in _NOT_WEIGHTS})
        except LOAD_ERRORS as error:
            raise bad_weights(weights, f"OpenAI's {WEIGHTS_NAME}", error) from error
        self._model = model.eval()
        self._tokenize = open_clip.get_tokenizer(_ARCHITECTURE)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes N texts, cut at CLIP's 77 tokens, into (N, 512) float32 of length 1."""
        import torch

        with torch.inference_mode():
            features = self._model.encode_text(self._tokenize(list(texts)), normalize=True)
        return np.asarray(features.cpu().numpy(), np.float32)
