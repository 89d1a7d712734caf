"""What all vision adapters share: weights files, the device, batches that fit, the letterbox."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ilv_dataset.errors import ConfigError
from ilv_dataset.models.catalog import check_recorded

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

T = TypeVar("T")
R = TypeVar("R")


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


def weights_digest(
    path: Path, *, advice: str = "`ilv models` lists those that can be fetched"
) -> str:
    """Returns the SHA-256 of a weights file, hexadecimal.

    Raises: ConfigError with `advice` if there is no such file, or it cannot be read; or if it
        was fetched, and is not what it was then.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"no weights at {path} ({error.strerror}); {advice}") from error
    check_recorded(path, digest)
    return digest


def bad_weights(path: Path, expected: str, error: BaseException | None = None) -> ConfigError:
    """The one-line error for a file that is not the weights it should be."""
    lines = str(error).strip().splitlines() if error else []
    cause = f": {lines[0][:200]}" if lines else ""
    return ConfigError(f"{path} is not {expected}{cause}")


def pick_device(device: str | None) -> Any:
    """The torch.device of that name; None is this worker's own GPU, or the CPU.

    Workers share out the GPUs by their numbers, and a process without a number takes the first.

    Raises: ConfigError if torch knows no such device, or there is no GPU.
    """
    import torch

    if device is None:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return torch.device(f"cuda:{_worker_number() % count}" if count else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"no device {device!r}; expected cpu, cuda or cuda:N") from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"no device {device!r}: torch sees {torch.cuda.device_count()} GPUs")
    return place


def _worker_number() -> int:
    """The last number in the name that Beam gives a worker process, e.g. worker_3 or sdk-0-3."""
    found = re.search(r"(\d+)$", os.environ.get("WORKER_ID", ""))
    return int(found[1]) if found else 0


@dataclass(slots=True)
class BatchSize:
    """How many items a GPU takes at a time: halved, and left so, where its memory does not do."""

    size: int

    def run(self, forward: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R]:
        """One result an item, in order, whatever the batches; `forward` gets a few at a time.

        Raises: ConfigError where memory does not do for a single item.
        """
        import torch

        fix_threads()  # of torch's each thread has a count of its own
        results: list[R] = []
        while len(results) < len(items):
            part = items[len(results) : len(results) + self.size]
            try:
                results += forward(part)
                continue
            except torch.cuda.OutOfMemoryError as error:
                if len(part) == 1:
                    raise ConfigError(
                        "the GPU has no memory for a single frame; end what else uses it, "
                        "or take a smaller model"
                    ) from error
            # Not in the handler: until it ends, the error keeps the tensors of the batch.
            self.size = len(part) // 2
            torch.cuda.empty_cache()
        return results


def fix_threads() -> None:
    """Lets torch and OpenCV use one thread each.

    The number of threads changes the order of sums, so it must not follow that of the workers.
    """
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of a picture that may be grey, (H, W) or (H, W, 1), or have an alpha."""
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return image[:, :, :3]


def letterbox(
    images: Sequence[np.ndarray], *, size_wh: tuple[int, int]
) -> tuple[np.ndarray, list[Placement]]:
    """Fits uint8 images, RGB as `to_rgb` makes it, into one batch: proportions kept, grey around.

    Returns: (B, 3, height, width) float32 in 0..1, and where each image lies in it.
    """
    import cv2

    width, height = size_wh
    batch = np.full((len(images), height, width, 3), _PAD_VALUE, np.uint8)
    placements = []
    for row, image in enumerate(images):
        placement = _place(image.shape[1], image.shape[0], size_wh)
        resized = cv2.resize(to_rgb(image), placement.size_wh, interpolation=cv2.INTER_LINEAR)
        bottom, right = placement.top + resized.shape[0], placement.left + resized.shape[1]
        batch[row, placement.top : bottom, placement.left : right] = resized
        placements.append(placement)
    return batch.transpose(0, 3, 1, 2).astype(np.float32) / 255, placements


def letterbox_corner(image: np.ndarray, *, side_px: int) -> tuple[np.ndarray, float]:
    """Fits one uint8 image into the upper left of a square, proportions kept, grey around.

    Returns: (side, side, 3) uint8 RGB, and the scale: image pixels * scale = the square's.
    """
    import cv2

    height, width = image.shape[:2]
    scale = min(side_px / width, side_px / height)
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    square = np.full((side_px, side_px, 3), _PAD_VALUE, np.uint8)
    square[: size_wh[1], : size_wh[0]] = cv2.resize(
        to_rgb(image), size_wh, interpolation=cv2.INTER_LINEAR
    )
    return square, scale


def _place(width: int, height: int, size_wh: tuple[int, int]) -> Placement:
    scale = min(size_wh[0] / width, size_wh[1] / height)
    fitted = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Placement(scale, (size_wh[0] - fitted[0]) // 2, (size_wh[1] - fitted[1]) // 2, fitted)
