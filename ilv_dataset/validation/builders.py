"""The two JSON files that make the RLDS shards a TFDS dataset, and whether TFDS opens it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence

from ilv_dataset.errors import ConfigError
from ilv_dataset.fields import INTERLEAVE_VLA_LAYOUT
from ilv_dataset.formats import files, interleave_vla
from ilv_dataset.formats.dataset_info import DatasetInfo, decode_dataset_info
from ilv_dataset.formats.features import Feature, decode_features
from ilv_dataset.formats.rlds import GROUP, interleaved_features_json, interleaved_info_json
from ilv_dataset.formats.steps import steps_schema
from ilv_dataset.outputs import read_schema
from ilv_dataset.validation.faults import Report
from ilv_dataset.validation.manifests import Manifest
from ilv_dataset.validation.rows import is_same_schema

# What TFDS raises on metadata that it does not understand.
_TFDS_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip


def check_metadata(manifest: Manifest, report: Report) -> tuple[Feature, ...] | None:
    """Checks features.json and dataset_info.json.

    Returns: the features of a record; None where they cannot be read.
    """
    layout = manifest.layout
    features = None
    path = files.join_path(layout.rlds_folder, "features.json")
    with report.reading(path):
        text = _read_text(path)
        features = decode_features(text)
        for message in _form_faults(text, manifest):
            report.fault(path, message)
    path = files.join_path(layout.rlds_folder, "dataset_info.json")
    info = None
    with report.reading(path):
        text = _read_text(path)
        info = decode_dataset_info(text)
        for message in _info_faults(text, info, manifest):
            report.fault(path, message)
    return features


def check_columns(path: str, features: Sequence[Feature], report: Report) -> None:
    """Checks that a steps table has the columns that features.json asks for."""
    own = [feature for feature in features if not feature.path.startswith(f"{GROUP}/")]
    with report.reading(path):
        if not is_same_schema(read_schema(path), steps_schema(own)):
            report.fault(path, "its columns are not those of the features in features.json")


def check_builder(manifest: Manifest, report: Report) -> str:
    """Opens the dataset with TFDS itself.

    Returns: what came of it, in a word or two.
    """
    folder = manifest.layout.rlds_folder
    splits = _written_splits(manifest)
    if splits == {}:
        return "no RLDS record, so TFDS has nothing to open"
    if files.is_remote(folder):
        return "TFDS was not asked, for it opens local folders"
    try:
        import tensorflow_datasets as tfds

        json_format = importlib.import_module("google.protobuf.json_format")  # TFDS needs it
    except ImportError as error:
        return f"TFDS is not there ({error}), so it opened nothing"
    try:
        builder = tfds.builder_from_directory(folder)
        found = {name: list(split.shard_lengths) for name, split in builder.info.splits.items()}
        features = builder.info.features
        is_own = manifest.rlds_layout == INTERLEAVE_VLA_LAYOUT
        has_group = GROUP in (features["steps"].feature if is_own else features)
    except (*_TFDS_ERRORS, json_format.Error) as error:
        report.fault(folder, f"TFDS does not open it: {type(error).__name__}: {error}")
        return "TFDS opened nothing"
    expected = found if splits is None else _lengths(splits)
    if found != expected or not has_group:
        report.fault(folder, f"TFDS sees the shard lengths {found}, expected {expected}")
    return "TFDS opens it"


def _read_text(path: str) -> str:
    if files.file_size(path) is None:
        raise ConfigError(f"{path}: missing")
    try:
        return files.read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8: {error}") from error


def _form_faults(text: str, manifest: Manifest) -> Iterator[str]:
    """Where features.json is not the layout's own, or the source's with our features added."""
    if manifest.rlds_layout == INTERLEAVE_VLA_LAYOUT:
        if text != interleave_vla.features_json():
            yield f"is not as the layout {INTERLEAVE_VLA_LAYOUT} has it"
        return
    content = json.loads(text)
    own = content["featuresDict"]["features"]
    if GROUP not in own:
        yield f"has no {GROUP}"
        return
    del own[GROUP]
    if interleaved_features_json(json.dumps(content)) != text:
        yield f"{GROUP} is not as it was written, or the form is not"


def _info_faults(text: str, info: DatasetInfo, manifest: Manifest) -> Iterator[str]:
    layout = manifest.layout
    if (info.name, info.version) != (layout.rlds_name, layout.version):
        yield f"is of {info.name} {info.version}, expected {layout.rlds_name} {layout.version}"
    splits = _written_splits(manifest)
    if splits is None:  # a marker is missing, which is a fault of its own
        return
    found = {split.name: list(split.shard_lengths) for split in info.splits}
    if found != _lengths(splits):
        yield f"has the shard lengths {found}, expected {_lengths(splits)}"
    elif interleaved_info_json(text, name=layout.rlds_name, splits=splits) != text:
        yield "not as it was written: a size, a template or the form differs"


def _lengths(splits: Mapping[str, Sequence[tuple[int, int]]]) -> dict[str, list[int]]:
    return {name: [records for records, _ in shards] for name, shards in splits.items()}


def _written_splits(manifest: Manifest) -> dict[str, list[tuple[int, int]]] | None:
    """Split -> (records, bytes) of every shard, of splits with records; None without a marker."""
    splits: dict[str, list[tuple[int, int]]] = {}
    for shard in manifest.shards:
        marker = manifest.markers["rlds"].get(shard)
        shards = splits.setdefault(shard.split, [(0, 0)] * shard.num_shards)
        if marker is None or len(shards) != shard.num_shards:
            return None
        shards[shard.index] = (marker.counts.get("records", 0), marker.files[0].num_bytes)
    return {name: found for name, found in splits.items() if any(records for records, _ in found)}
