"""Weights that come with the package, and safetensors files of any origin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ilv_dataset.errors import ConfigError
from ilv_dataset.models.runtime import bad_weights

FOLDER = Path(__file__).parents[1] / "weights"
SUFFIX = ".safetensors"
_CODES = {"<f2": "F16", "<f4": "F32"}


def bundled_weights(kind: str, name: str) -> Path | None:
    """The file of a bundled model, e.g. ("yolo-world", "tabletop"); None if there is none."""
    path = FOLDER / f"{kind}-{name}{SUFFIX}"
    return path if name.isidentifier() and path.is_file() else None


def list_bundled() -> list[tuple[str, str, Path]]:
    """(backend, name, file) of the models that come with the package, sorted."""
    files = sorted(FOLDER.glob(f"*{SUFFIX}"))
    return [(*_split_name(path), path) for path in files]


def _split_name(path: Path) -> tuple[str, str]:
    """The backend and the model's name: yolo-world-tabletop is `yolo-world:tabletop`."""
    backend, _, name = path.stem.rpartition("-")
    return backend, name


def load_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads all tensors of a safetensors file, and its metadata; nothing in it is run.

    Raises: ConfigError if the file is missing, cut or another thing.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except OSError as error:
        raise ConfigError(f"no weights at {path} ({error.strerror or error})") from error
    except (SafetensorError, TypeError) as error:
        raise bad_weights(path, "a safetensors file", error) from error


def save_tensors(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes a safetensors file of float16 and float32 under another name, then renames it.

    Equal tensors and metadata give equal bytes, which the library's own writer does not promise.

    Source: github.com/huggingface/safetensors, README.md, Format: the header's length (8 bytes,
    little-endian), the header (JSON, filled up with spaces to 8 bytes), the arrays.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    arrays = [np.asarray(tensors[name], order="C") for name in sorted(tensors)]
    start = 0
    for name, array in zip(sorted(tensors), arrays, strict=True):
        stop = start + array.nbytes
        code = _CODES[array.dtype.str]
        header[name] = {"dtype": code, "shape": array.shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    unfinished = path.with_name(f".{path.name}.unfinished")
    with unfinished.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(array.tobytes() for array in arrays)
    unfinished.rename(path)
