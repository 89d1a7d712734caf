"""Which weights there are, where they come from, and where they lie; fetching is elsewhere."""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ilv_dataset.errors import ConfigError

# TorchScript. Whoever could put a file into the working folder could have it run.
PROGRAM_SUFFIX = ".ts"
CHECKSUMS_NAME = "checksums.json"  # in the models folder: {file name: SHA-256 when first fetched}


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of weights that can be fetched, as catalog.toml has it."""

    name: str
    backend: str  # of --detector or --segmenter, or what its texts are encoded for
    kind: str
    license: str
    url: str
    size_mb: float | None = None  # 10^6 bytes; None where no documentation says
    checksum: str = ""  # the publisher's, "ALGORITHM:START"; "" where none is published
    needs: tuple[str, ...] = ()  # names of other files
    gated: str = ""  # the page where a licence must be accepted; "" where anyone may fetch

    def __post_init__(self) -> None:
        algorithm, _, start = self.checksum.partition(":")
        if self.checksum and (algorithm not in hashlib.algorithms_guaranteed or not start):
            raise ValueError(f"{self.name}: checksum {self.checksum!r} is not ALGORITHM:START")


def models_folder() -> Path:
    """Where fetched weights lie: ILV_MODELS, else ilv_dataset in the user's cache folder."""
    if named := os.environ.get("ILV_MODELS"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ilv_dataset"


@functools.cache
def list_models() -> tuple[ModelFile, ...]:
    """All files of the catalogue, in its order."""
    text = resources.files("ilv_dataset.models").joinpath("catalog.toml").read_text("utf-8")
    return tuple(
        _decode_file(name, fields, group)
        for group in tomllib.loads(text)["group"]
        for name, fields in group["files"].items()
    )


def _decode_file(name: str, fields: Mapping[str, Any], group: Mapping[str, Any]) -> ModelFile:
    shared = {key: group[key] for key in ("backend", "kind", "license", "gated") if key in group}
    needs = tuple(group.get("needs", ()))
    return ModelFile(name=name, url=f"{group['url']}{name}", needs=needs, **shared, **fields)


def find_model(name: str) -> ModelFile:
    """The file of that name in the catalogue.

    Raises: ConfigError with the nearest name.
    """
    models = {model.name: model for model in list_models()}
    if name not in models:
        raise ConfigError(f"no model {name!r}{_nearest(name)} (`ilv models` lists them)")
    return models[name]


def locate_weights(name: str, *, beside: Path | None = None) -> Path | None:
    """Where a file of weights lies; None where it does not.

    A path is looked for as it is, a bare name in the folder of `beside`, in the working folder
    and in the models folder, in this order; a program (PROGRAM_SUFFIX) in the last alone.
    """
    given = Path(name).expanduser()
    if given.name != name:
        return given if given.is_file() else None
    folders = [*([beside.parent] if beside else []), Path(), models_folder()]
    if given.suffix == PROGRAM_SUFFIX:
        folders = [models_folder()]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def find_weights(name: str, *, beside: Path | None = None) -> Path:
    """Where the weights lie that a user, or another model, names; fetches nothing.

    Args:
        beside: another file, whose folder is looked into first.

    Raises: ConfigError that says how to get them.
    """
    found = locate_weights(name, beside=beside)
    if found is not None:
        return found
    given = Path(name).expanduser()
    known = {model.name for model in list_models()}
    if given.name != name:
        where = str(given)
        advice = f"; `ilv models fetch {given.name}` gets them" if given.name in known else ""
    else:
        where = f"{name} in the working folder or in {models_folder()}"
        if given.suffix == PROGRAM_SUFFIX:
            where = f"{name} in {models_folder()}, whence alone it is run, for it is a program"
        advice = f"; `ilv models fetch {name}` gets them"
        if name not in known:
            advice = f", and none of that name to fetch{_nearest(name)} (`ilv models` lists them)"
    raise ConfigError(f"no weights {where}{advice}")


def read_checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of the files in a models folder, as they were when first fetched; {} without any.

    Raises: ConfigError where the file is damaged.
    """
    path = folder / CHECKSUMS_NAME
    try:
        recorded = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged or cannot be read; remove it") from error
    if not isinstance(recorded, dict):
        raise ConfigError(f"{path} is damaged: expected an object; remove it")
    return {str(name): str(digest) for name, digest in recorded.items()}


def check_recorded(path: Path, sha256: str) -> None:
    """Compares weights of the models folder with what was first fetched under their name.

    Raises: ConfigError where they are others.
    """
    folder = models_folder()
    if path.parent.resolve() != folder.resolve():
        return
    recorded = read_checksums(folder).get(path.name, sha256)
    if recorded != sha256:
        raise ConfigError(
            f"{path} is not the file that was fetched: its SHA-256 was {recorded[:12]}..., "
            f"and is {sha256[:12]}...; `ilv models fetch {path.name}` gets it anew"
        )


def _nearest(name: str) -> str:
    names = [model.name for model in list_models()]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.8)
    return f"; did you mean {near[0]}?" if near else ""
