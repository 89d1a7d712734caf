"""ultralytics without its habits: no network, no installs, no files in the home, no chatter."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ilv_dataset.models.runtime import LOAD_ERRORS, bad_weights, fix_threads

_ENVIRONMENT = {
    "YOLO_AUTOINSTALL": "false",
    "YOLO_OFFLINE": "true",
    "YOLO_VERBOSE": "false",
    "ULTRALYTICS_SAFE_LOAD": "true",
}


@functools.cache
def prepare_ultralytics() -> None:
    """Imports ultralytics so that it keeps to itself; call it before any import of it.

    Its settings go into a temporary folder of this process, removed at exit; its log goes to
    standard error, errors only; usage reports are off.
    """
    folder = tempfile.mkdtemp(prefix="ilv-ultralytics-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.update(_ENVIRONMENT, YOLO_CONFIG_DIR=folder)
    os.environ.setdefault("MPLCONFIGDIR", folder)
    import ultralytics
    from PIL import Image
    from ultralytics.utils import patches

    Image.open = patches._image_open  # Pillow's own; theirs installs a package on a broken picture
    ultralytics.settings.update({"sync": False})
    logger = logging.getLogger("ultralytics")
    logger.setLevel(logging.ERROR)
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)
    fix_threads()


def load_checkpoint(path: Path, *, device: Any) -> Any:
    """Loads the torch module of an ultralytics .pt file: evaluation mode, float32, `task` set.

    An ultralytics checkpoint is a pickle of model objects. It is read with torch's weights_only
    unpickler and ultralytics' list of its own layer classes, so that a file which names anything
    else is refused and runs nothing.

    Raises: ConfigError if the file is cut, is another thing, or names other classes.
    """
    prepare_ultralytics()
    import torch
    from ultralytics.nn.tasks import guess_model_task, torch_safe_load

    expected = "an ultralytics checkpoint (.pt)"
    try:
        # The flag is passed too: another import of ultralytics may have come before ours.
        checkpoint, _ = torch_safe_load(str(path), safe_only=True)
    except LOAD_ERRORS as error:
        raise bad_weights(path, expected, error) from error
    model = (checkpoint.get("ema") or checkpoint.get("model")) if checkpoint else None
    if not isinstance(model, torch.nn.Module) or not hasattr(model, "names"):
        raise bad_weights(path, expected)
    model.args = {**checkpoint.get("train_args", {}), **_as_dict(getattr(model, "args", {}))}
    model.task = getattr(model, "task", None) or guess_model_task(model)
    return model.float().eval().to(device)


def use_half(model: Any) -> Any:
    """Turns a YOLO to float16, but for the decoding of its boxes: they would be off by 0.5 px.

    For a GPU: on a CPU it is slow. Inputs are best made by `to_input`, outputs stay float32.
    """
    decoder = getattr(model.model[-1], "dfl", None)
    if decoder is None:  # not a head that decodes distances, e.g. RT-DETR's
        return model
    model.half()
    decoder.float().register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    return model


def to_input(batch: np.ndarray, model: Any) -> Any:
    """A float32 array as a tensor of the type, and on the device, of a model's weights."""
    import torch

    weights = next(model.parameters())
    return torch.from_numpy(batch).to(device=weights.device, dtype=weights.dtype)


def input_size_px(model: Any, *, default: int) -> int:
    """The side of the square input that a checkpoint was trained on, a multiple of 32."""
    size = model.args.get("imgsz") or default
    side = max(size) if isinstance(size, list | tuple) else int(size)
    return min(2048, max(32, -(-side // 32) * 32))


def _as_dict(args: Any) -> dict[str, Any]:
    return dict(args) if isinstance(args, dict) else dict(vars(args))
