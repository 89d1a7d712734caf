"""Reads TFDS folders with tensorflow_datasets and TensorFlow, in a process of its own.

    python tfds_reader.py FOLDER SPLIT [FOLDER SPLIT ...]

prints one JSON list: per folder its episodes, each {key: value}; values of steps are lists, one
entry a step. Pictures are the SHA-256 of their decoded pixels, with their shape; bytes are
latin-1 texts.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np


def read_with_tfds(*folders_and_splits: str | Path) -> list[list[dict[str, Any]]]:
    """Runs this file, for TensorFlow and torch do not share a process well."""
    command = [sys.executable, __file__, *map(str, folders_and_splits)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    found = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr[-3000:]
    return json.loads(found.stdout)


def pixels_digest(pixels: np.ndarray) -> str:
    """What stands for a decoded picture, (H, W, C) uint8."""
    shape = "x".join(map(str, pixels.shape))
    return f"{shape} {hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()}"


def _plain(value: Any) -> Any:
    if hasattr(value, "to_list"):  # a ragged tensor
        return _plain(value.to_list())
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim >= 3:
        return pixels_digest(value) if value.ndim == 3 else [pixels_digest(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value.item() if isinstance(value, np.generic) else value


def _flatten(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: _plain(value)}
    return {
        key: leaf
        for name, inner in value.items()
        for key, leaf in _flatten(f"{prefix}/{name}" if prefix else name, inner).items()
    }


def _read(folder: str, split: str) -> list[dict[str, Any]]:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    episodes = []
    for episode in tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False)):
        steps = [_flatten("steps", step) for step in episode.pop("steps")]
        columns = {name: [step[name] for step in steps] for name in steps[0]}
        episodes.append({**columns, **_flatten("", episode)})
    return episodes


if __name__ == "__main__":
    arguments = sys.argv[1:]
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    json.dump([_read(folder, split) for folder, split in pairs], sys.stdout)
