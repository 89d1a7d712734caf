"""YOLO-World of any size, between ultralytics' module and a safetensors file without pickle.

The file's metadata holds the sizes that the layers are built from, the input's side, and which
text encoder the weights were trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ilv_dataset.models import word_text
from ilv_dataset.models.bundled import load_tensors, save_tensors
from ilv_dataset.models.runtime import bad_weights
from ilv_dataset.models.ultralytics_runtime import prepare_ultralytics
from ilv_dataset.models.word_rivals import Rivals, decode_rivals

_KIND = "yolo-world"
_YAML = "yolov8n-worldv2.yaml"
# A file may not ask for more memory than a YOLO-World takes; the largest, x, is 1.25 wide.
_WIDTH_MAX, _DEPTH_MAX = 2.0, 2.0
_CHANNELS_MAX, _CLASSES_MAX, _TEXT_DIMS_MAX = 2048, 10_000, 4096


@dataclass(frozen=True, slots=True)
class WorldSizes:
    """What a YOLO-World v2 is built from; the defaults are those of yolov8n-worldv2."""

    depth: float = 0.33
    width: float = 0.25
    max_channels: int = 1024
    is_guided: bool = True  # the neck sees the prompts too, not the head alone
    num_classes: int = 80  # sets the width of the head's layers, not the number of prompts
    text_dims: int = word_text.DIMS
    input_px: int = 256

    def __post_init__(self) -> None:
        if not (0 < self.depth <= _DEPTH_MAX and 0 < self.width <= _WIDTH_MAX):
            raise ValueError(f"depth and width must be over 0 and up to 2, got {self}")
        if not 32 <= self.input_px <= 2048 or self.input_px % 32:
            raise ValueError(f"input_px must be a multiple of 32 up to 2048, got {self.input_px}")
        for name, most in (
            ("max_channels", _CHANNELS_MAX),
            ("num_classes", _CLASSES_MAX),
            ("text_dims", _TEXT_DIMS_MAX),
        ):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be 1 to {most}, got {self}")


def build_world(sizes: WorldSizes) -> Any:
    """A WorldModel with fresh weights from torch's generator, float32, in training mode."""
    prepare_ultralytics()
    from ultralytics.nn.tasks import WorldModel, yaml_model_load

    config = yaml_model_load(_YAML)
    config["scales"] = {"n": [sizes.depth, sizes.width, sizes.max_channels]}
    *neck, head = config["head"]
    head[3] = ["nc", sizes.text_dims, True]
    config["head"] = [*(row if sizes.is_guided else _unguided(row) for row in neck), head]
    return WorldModel(config, ch=3, nc=sizes.num_classes, verbose=False)


def save_world(path: Path, model: Any, sizes: WorldSizes, metadata: Mapping[str, str]) -> None:
    """Writes the weights as float16, with all that `load_world` needs.

    Args:
        metadata: what else there is to say; "rivals" as `word_rivals.encode_rivals` writes it.
    """
    tensors = {
        name: tensor.half().cpu().numpy() if tensor.is_floating_point() else tensor.cpu().numpy()
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert all(np.isfinite(array).all() for array in tensors.values())  # none beyond float16
    described = {"kind": _KIND, "sizes": json.dumps(asdict(sizes)), "text": word_text.NAME}
    save_tensors(path, tensors, {**described, **metadata})


@dataclass(frozen=True, eq=False)
class World:
    """A loaded network."""

    model: Any  # ultralytics' WorldModel
    sizes: WorldSizes
    rivals: Rivals | None  # None where the file names no words


def load_world(path: Path, *, device: Any) -> World:
    """Loads what `save_world` wrote: evaluation mode, float32.

    Raises: ConfigError if the file is another thing, or was trained on another text encoder.
    """
    import torch

    expected = f"a YOLO-World of this package (text encoder {word_text.NAME})"
    tensors, metadata = load_tensors(path)
    if (metadata.get("kind"), metadata.get("text")) != (_KIND, word_text.NAME):
        raise bad_weights(path, expected)
    try:
        sizes = WorldSizes(**json.loads(metadata["sizes"]))
        if sizes.text_dims != word_text.DIMS:
            raise ValueError(f"text_dims must be {word_text.DIMS}, got {sizes.text_dims}")
        rivals = decode_rivals(metadata["rivals"]) if "rivals" in metadata else None
        model = build_world(sizes)
        state = {name: torch.from_numpy(array).float() for name, array in tensors.items()}
        missing, unexpected = model.load_state_dict(state, strict=False)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise bad_weights(path, expected, error) from error
    lacking = [name for name in missing if not name.endswith("num_batches_tracked")]
    if lacking or unexpected:
        raise bad_weights(path, f"{expected}; layers differ at {(lacking + unexpected)[0]}")
    return World(model.eval().fuse(verbose=False).to(device), sizes, rivals)


def _unguided(row: list[Any]) -> list[Any]:
    """A neck layer without its attention to the prompts: C2fAttn becomes the C2f inside it."""
    return [*row[:2], "C2f", [row[3][0]]] if row[2] == "C2fAttn" else row
