"""Networks with random weights, of the classes that published weights have, saved as those are."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ilv_dataset.records import Frame, Phrase


def make_phrases(*texts: str) -> list[Phrase]:
    return [Phrase(text, 0, len(text), text, "object") for text in texts]


def noise(height: int, width: int, seed: int = 0) -> Frame:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Frame("image", 0, pixels)


def odd_images() -> dict[str, np.ndarray]:
    """Pictures of unusual sizes and channels, uint8."""
    rng = np.random.default_rng(0)
    return {
        "pixel": np.zeros((1, 1, 3), np.uint8),
        "line": rng.integers(0, 256, (2, 900, 3), dtype=np.uint8),
        "grey": rng.integers(0, 256, (60, 80), dtype=np.uint8),
        "grey channel": rng.integers(0, 256, (60, 80, 1), dtype=np.uint8),
        "alpha": rng.integers(0, 256, (60, 80, 4), dtype=np.uint8),
    }


def encode_by_hash(texts: Sequence[str]) -> np.ndarray:
    """A stand-in for CLIP: a fixed direction for each text."""
    seeds = (int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) for text in texts)
    rows = np.array([np.random.default_rng(seed).normal(size=512) for seed in seeds])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def save_text_tower(path: Path) -> Path:
    """A small text transformer of open_clip, traced as ultralytics traces MobileCLIP's."""
    open_clip = pytest.importorskip("open_clip")
    import torch

    class Normalised(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tower = open_clip.transformer.TextTransformer(
                width=32, heads=2, layers=2, output_dim=512
            )

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.normalize(self.tower(tokens), dim=-1)

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Normalised().eval(), open_clip.tokenize(["a cat"])).save(str(path))
    return path


def write_bad_weights(folder: Path, kind: str, good: Path) -> Path:
    """A file that is no checkpoint: text, cut, empty, other, list, or intruder."""
    import torch

    path = folder / f"{kind}{good.suffix}"
    if kind == "text":
        path.write_text("these are not weights")
    elif kind == "cut":
        path.write_bytes(good.read_bytes()[:100_000])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "other":
        torch.save({"weights": torch.zeros(3)}, path)
    elif kind == "list":
        torch.save([1, 2], path)
    else:
        torch.save({"model": Intruder()}, path)
    return path


class Intruder:
    """An object whose unpickling would run code."""

    def __reduce__(self):
        return (Path.write_text, (Path("intruded"), "yes"))


def liven(network, **prompts) -> None:
    """Gives a fresh YOLO activations of an ordinary size: its scores and boxes differ by place."""
    import torch

    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 1.0
    pixels = torch.from_numpy(np.stack([noise(128, 128, seed).image for seed in range(4)]))
    with torch.no_grad():
        network.train()
        network.predict(pixels.permute(0, 3, 1, 2).float() / 255, **prompts)
        network.eval()
        head = network.model[-1]
        for branch in [*head.cv2, *(getattr(head, "one2one_cv2", None) or ())]:
            num_bins = branch[-1].bias.numel() // 4
            if num_bins > 1:  # boxes of one to three strides on each side
                branch[-1].bias.copy_(-torch.arange(num_bins).repeat(4))
                branch[-1].weight *= 4
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
