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
_DATA_FILE = re.compile(r"\.tfrecord|\.json$")


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


def find_dataset(name: str, others: Sequence[str] = ()) -> DatasetSpec:
    """The dataset of this short name, or of this TFDS folder where no short name is the same.

    Args:
        name: what a user typed.
        others: more names that may have been meant, such as the folders in --data-dir.

    Raises: ConfigError, with the nearest name.
    """
    specs, mixtures = _registry()
    if name in specs:
        return specs[name]
    for spec in specs.values():
        if spec.tfds_name == name:
            return spec
    folders = [spec.tfds_name for spec in specs.values()]
    near = _did_you_mean(name, [*specs, *mixtures, *folders, *others])
    raise ConfigError(
        f"no dataset {name!r}{near}; known: {', '.join([*specs, *mixtures])}, "
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
    """One JSON-able dict a dataset, for `ilv datasets`; None where something is not known.

    The size of a camera is [height, width] in pixels.
    """
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
            "cameras": [
                {
                    "key": camera.key,
                    "channel_order": camera.channel_order,
                    "role": camera.role,
                    "size": camera.size_hw,
                }
                for camera in spec.cameras
            ],
            "bgr_cameras": [camera.key for camera in spec.cameras if camera.channel_order == "bgr"],
            "instruction_key": spec.instruction_key,
            "instruction_decoder": spec.instruction_decoder,
            "is_long_instruction": spec.is_long_instruction,
            "action": [_part_row(part) for part in spec.action],
            "state": [_part_row(part) for part in spec.state],
            "state_kind": spec.state_kind or None,
            "rotation": spec.rotation,
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
    fallback: bool = False,
) -> str:
    """The folder that holds dataset_info.json.

    That is, in this order, DATA_DIR itself, DATA_DIR/<tfds name>/<version>, DATA_DIR/<version>,
    the only other version in DATA_DIR/<tfds name>, or the only version of its only builder
    config, <config>/<version>. Without DATA_DIR it is the source.

    Args:
        spec: a registered dataset, or `unregistered(NAME)`.
        data_dir: the option --data-dir, a local folder or one behind gs://.
        exists: whether there is a file of this path.
        list_names: the names right below a folder, empty where there is no such folder.
        fallback: take the source where it can be read as it is and DATA_DIR holds nothing.

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
    # DATA_DIR may be the dataset's own folder, or that of one of its builder configs.
    is_own = spec.tfds_name in root.split("/")[-2:]
    parents = [f"{root}/{spec.tfds_name}", *([root] if is_own else [])]
    for parent in parents:
        versions = _list_versions(parent, exists=exists, list_names=list_names)
        if len(versions) > 1:
            raise ConfigError(
                f"{parent} holds the versions {', '.join(versions)}; say which with --data-dir "
                f"{parent}/{versions[-1]}"
            )
        if versions:
            return f"{parent}/{versions[0]}"
    if fallback and _is_source_readable(spec):
        return _source_folder(spec)
    looked = ", ".join([*folders, f"{parents[-1]}/<version>", f"{parents[-1]}/<config>/<version>"])
    raise ConfigError(f"no dataset_info.json of {spec.key}; looked in {looked}")


def adopt_info(spec: DatasetSpec, info: DatasetInfo) -> DatasetSpec:
    """The spec with the version that the folder has.

    Raises: ConfigError where the folder holds another dataset.
    """
    if info.name != spec.tfds_name:
        raise ConfigError(
            f"the folder holds the dataset {info.name}, expected {spec.tfds_name} for {spec.key}; "
            f"say {info.name} and pass this very folder as --data-dir, or rename the folder of the "
            f"dataset to {info.name}"
        )
    return replace(spec, version=info.version)


def _part_row(part: VectorPart) -> dict[str, object]:
    return {
        "key": part.key or None,
        "slice": [part.start, part.stop] if part.key else None,
        "transform": part.transform,
        "num_values": part.num_values,
    }


def _list_versions(
    parent: str,
    *,
    exists: Callable[[str], bool],
    list_names: Callable[[str], Sequence[str]],
) -> list[str]:
    """`<version>` of all versions right below a folder; where none is, `<config>/<version>`."""

    def versions_in(folder: str) -> list[str]:
        return [
            name
            for name in list_names(folder)
            if _VERSION.fullmatch(name) and exists(f"{folder}/{name}/dataset_info.json")
        ]

    return versions_in(parent) or [
        f"{config}/{version}"
        for config in list_names(parent)
        if not _DATA_FILE.search(config)
        for version in versions_in(f"{parent}/{config}")
    ]


def _is_source_readable(spec: DatasetSpec) -> bool:
    """Whether the source can be read where it is: bundled, or on Google Cloud Storage."""
    return spec.source == BUNDLED or spec.source.startswith("gs://")


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
    """The nearest name, upper and lower case being the same."""
    by_lower = {other.lower(): other for other in reversed(known)}  # the first of equal ones
    near = difflib.get_close_matches(name.lower(), list(by_lower), n=1)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""


@functools.cache
def _registry() -> tuple[Mapping[str, DatasetSpec], Mapping[str, Mixture]]:
    content = tomllib.loads((_FOLDER / "datasets.toml").read_text(encoding="utf-8"))
    specs = {key: decode_spec(key, entry) for key, entry in content["datasets"].items()}
    mixtures = {name: decode_mixture(name, entry) for name, entry in content["mixtures"].items()}
    return specs, mixtures
