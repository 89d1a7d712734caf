"""The registry: datasets and mixtures by name, where their data is, and whether it fits.

What is known of them is in `datasets.toml`. Nothing here opens a file of a dataset: paths are
looked at through callables, and features.json comes decoded.
"""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ilv_dataset.dataset_keys import check_spec, detect_spec
from ilv_dataset.dataset_specs import (
    BUNDLED,
    Camera,
    DatasetSpec,
    Mixture,
    MixturePart,
    SourceObjectKeys,
    Split,
    VectorPart,
    decode_mixture,
    decode_spec,
)
from ilv_dataset.errors import ConfigError
from ilv_dataset.formats.dataset_info import DatasetInfo

__all__ = [
    "Camera",
    "DatasetSpec",
    "Mixture",
    "MixturePart",
    "PlanRow",
    "SourceObjectKeys",
    "Split",
    "VectorPart",
    "adopt_info",
    "check_spec",
    "dataset_rows",
    "detect_spec",
    "find_dataset",
    "find_mixture",
    "is_mixture",
    "list_datasets",
    "list_mixtures",
    "plan_mixture",
    "resolve_data_dir",
    "unregistered",
]

_FOLDER = Path(__file__).parent
_VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclass(frozen=True, slots=True)
class PlanRow:
    """What one dataset of a mixture contributes."""

    dataset: str
    num_episodes: int  # source episodes under the cap
    num_with_instruction: int  # of these, about: the most that can be interleaved


def list_datasets() -> tuple[DatasetSpec, ...]:
    """All registered datasets, in the order of `datasets.toml`."""
    return tuple(_registry()[0].values())


def list_mixtures() -> tuple[Mixture, ...]:
    """All registered mixtures."""
    return tuple(_registry()[1].values())


def find_dataset(name: str) -> DatasetSpec:
    """The dataset of this short name, or of this TFDS folder where no short name is the same.

    Raises: ConfigError, with the nearest name.
    """
    specs = _registry()[0]
    if name in specs:
        return specs[name]
    for spec in specs.values():
        if spec.tfds_name == name:
            return spec
    near = _did_you_mean(name, [*specs, *(spec.tfds_name for spec in specs.values())])
    raise ConfigError(
        f"no dataset {name!r}{near}; known: {', '.join(specs)}, "
        "or the name of any TFDS folder in --data-dir"
    )


def find_mixture(name: str) -> Mixture:
    """The mixture of this name.

    Raises: ConfigError, with the nearest name.
    """
    mixtures = _registry()[1]
    if name not in mixtures:
        near = _did_you_mean(name, list(mixtures))
        raise ConfigError(f"no mixture {name!r}{near}; known: {', '.join(mixtures)}")
    return mixtures[name]


def is_mixture(name: str) -> bool:
    """Whether `name` is a mixture's."""
    return name in _registry()[1]


def unregistered(tfds_name: str) -> DatasetSpec:
    """A spec of a TFDS folder that is not registered; `detect_spec` fills in the keys."""
    return DatasetSpec(key=tfds_name, tfds_name=tfds_name, version="")


def plan_mixture(mixture: Mixture) -> tuple[PlanRow, ...]:
    """What each dataset of a mixture contributes, were the full releases converted.

    >>> sum(row.num_episodes for row in plan_mixture(find_mixture("interleave_210k")))
    210000
    """
    rows = []
    for part in mixture.parts:
        share = 1 - find_dataset(part.dataset).share_without_instruction
        rows.append(PlanRow(part.dataset, part.max_episodes, round(part.max_episodes * share)))
    return tuple(rows)


def dataset_rows() -> list[dict[str, object]]:
    """One JSON-able dict a dataset, for `ilv datasets`; None where something is not known."""
    return [
        {
            "dataset": spec.key,
            "title": spec.title,
            "tfds_name": spec.tfds_name,
            "version": spec.version,
            "episodes": spec.num_episodes,
            "splits": {split.name: split.num_episodes for split in spec.splits},
            "shards": spec.num_shards,
            "size_gib": spec.size_gib,
            "cameras": [camera.key for camera in spec.cameras],
            "bgr_cameras": [camera.key for camera in spec.cameras if camera.channel_order == "bgr"],
            "instruction_key": spec.instruction_key,
            "hz": spec.hz,
            "robot": spec.robot or None,
            "license": spec.license or None,
            "citation": spec.citation or None,
            "source": spec.source,
            "notes": spec.notes,
        }
        for spec in list_datasets()
    ]


def resolve_data_dir(
    spec: DatasetSpec,
    data_dir: str | None,
    *,
    exists: Callable[[str], bool],
    list_names: Callable[[str], Sequence[str]],
) -> str:
    """The folder that holds dataset_info.json.

    That is, in this order, DATA_DIR itself, DATA_DIR/<tfds name>/<version>, DATA_DIR/<version>,
    or the only other version in DATA_DIR/<tfds name>. Without DATA_DIR it is the source.

    Args:
        spec: a registered dataset, or `unregistered(NAME)`.
        data_dir: the option --data-dir, a local folder or one behind gs://.
        exists: whether there is a file of this path.
        list_names: the names right below a folder, empty where there is no such folder.

    Raises:
        ConfigError: nothing is there; the message says what to do.
    """
    if not data_dir:
        return _source_folder(spec)
    root = data_dir.rstrip("/") or "/"
    folders = [root]
    if spec.version:
        folders += [f"{root}/{spec.tfds_name}/{spec.version}", f"{root}/{spec.version}"]
    for folder in folders:
        if exists(f"{folder}/dataset_info.json"):
            return folder
    parent = root if root.rsplit("/", 1)[-1] == spec.tfds_name else f"{root}/{spec.tfds_name}"
    versions = [
        name
        for name in list_names(parent)
        if _VERSION.fullmatch(name) and exists(f"{parent}/{name}/dataset_info.json")
    ]
    if len(versions) > 1:
        raise ConfigError(
            f"{parent} holds the versions {', '.join(versions)}; say which with --data-dir "
            f"{parent}/{versions[-1]}"
        )
    if not versions:
        looked = ", ".join([*folders, f"{parent}/<version>"])
        raise ConfigError(f"no dataset_info.json of {spec.key}; looked in {looked}")
    return f"{parent}/{versions[0]}"


def adopt_info(spec: DatasetSpec, info: DatasetInfo) -> DatasetSpec:
    """The spec with the version that the folder has.

    Raises: ConfigError where the folder holds another dataset.
    """
    if info.name != spec.tfds_name:
        raise ConfigError(
            f"the folder holds the dataset {info.name}, expected {spec.tfds_name} for {spec.key}"
        )
    return replace(spec, version=info.version)


def _source_folder(spec: DatasetSpec) -> str:
    if spec.source == BUNDLED:
        return str(_FOLDER / "demo" / spec.tfds_name / spec.version)
    if spec.source.startswith("gs://"):
        return spec.source.rstrip("/")
    if not spec.source:
        raise ConfigError(f"{spec.key} is not registered: say where it is with --data-dir DIR")
    size = f" ({spec.size_gib:.0f} GiB)" if spec.size_gib else ""
    raise ConfigError(
        f"{spec.key} is not on Google Cloud Storage: download {spec.source}{size} and pass "
        "--data-dir DIR (with make: DATA_DIR=DIR)"
    )


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


@functools.cache
def _registry() -> tuple[Mapping[str, DatasetSpec], Mapping[str, Mixture]]:
    content = tomllib.loads((_FOLDER / "datasets.toml").read_text(encoding="utf-8"))
    specs = {key: decode_spec(key, entry) for key, entry in content["datasets"].items()}
    mixtures = {name: decode_mixture(name, entry) for name, entry in content["mixtures"].items()}
    return specs, mixtures
