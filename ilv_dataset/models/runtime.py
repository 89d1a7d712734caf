"""What all vision adapters share: weights files, the device, threads, and the letterbox."""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ilv_dataset.errors import ConfigError

# What the loaders of torch and ultralytics raise on bytes that are no weights; on a text file the
# unpickler stumbles over whatever comes first.
LOAD_ERRORS = (
    OSError,
    EOFError,
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    ImportError,
    struct.error,
    pickle.UnpicklingError,
)
_PAD_VALUE = 114  # Source: ultralytics pads its training images with this grey


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a frame lies in the network's input: frame * scale + (left, top), then cut to wh."""

    scale: float
    left: int
    top: int
    size_wh: tuple[int, int]

    def to_frame(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Takes boxes (N, 4) from the input's pixels to the frame's."""
        return (boxes_xyxy - [self.left, self.top, self.left, self.top]) / self.scale


def weights_digest(path: Path, *, advice: str) -> str:
    """Returns the SHA-256 of a weights file, hexadecimal.

    Raises: ConfigError with `advice` if there is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"no weights at {path} ({error.strerror}); {advice}") from error


def bad_weights(path: Path, expected: str, error: BaseException | None = None) -> ConfigError:
    """The one-line error for a file that is not the weights it should be."""
    lines = str(error).strip().splitlines() if error else []
    cause = f": {lines[0][:200]}" if lines else ""
    return ConfigError(f"{path} is not {expected}{cause}")


def pick_device(device: str | None) -> Any:
    """The torch.device of that name; None is the first GPU where there is one, else the CPU.

    Raises: ConfigError if torch knows no such device, or there is no GPU.
    """
    import torch

    if device is None:
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"no device {device!r}; expected cpu, cuda or cuda:N") from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"no device {device!r}: torch sees {torch.cuda.device_count()} GPUs")
    return place


def fix_threads() -> None:
    """Lets torch and OpenCV use one thread each.

    The number of threads changes the order of sums, so it must not follow that of the workers.
    """
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def letterbox(
    images: Sequence[np.ndarray], *, size_wh: tuple[int, int]
) -> tuple[np.ndarray, list[Placement]]:
    """Fits (H, W, 3) uint8 RGB images into one batch, proportions kept, padded with grey.

    Returns: (B, 3, height, width) float32 in 0..1, and where each image lies in it.
    """
    import cv2

    width, height = size_wh
    batch = np.full((len(images), height, width, 3), _PAD_VALUE, np.uint8)
    placements = []
    for row, image in enumerate(images):
        placement = _place(image.shape[1], image.shape[0], size_wh)
        resized = cv2.resize(image, placement.size_wh, interpolation=cv2.INTER_LINEAR)
        bottom, right = placement.top + resized.shape[0], placement.left + resized.shape[1]
        batch[row, placement.top : bottom, placement.left : right] = resized
        placements.append(placement)
    return batch.transpose(0, 3, 1, 2).astype(np.float32) / 255, placements


def _place(width: int, height: int, size_wh: tuple[int, int]) -> Placement:
    scale = min(size_wh[0] / width, size_wh[1] / height)
    fitted = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Placement(scale, (size_wh[0] - fitted[0]) // 2, (size_wh[1] - fitted[1]) // 2, fitted)
