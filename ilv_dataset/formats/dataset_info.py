"""dataset_info.json of a TFDS dataset: its splits, their shards and what the files are called."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ilv_dataset.errors import ConfigError

DEFAULT_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_FILE_FORMAT = "tfrecord"
# Ours: far above any dataset in the registry (2,048 shards, 432 records a shard, 1.7 TiB). Each
# promised record becomes a row, so a number taken on trust could ask for rows without end.
_NUM_SHARDS_MAX = 1_000_000
_SHARD_LENGTH_MAX = 10_000_000
_NUM_BYTES_MAX = 2**60
# Names end up in the names of our own files, and must not lead out of their folder.
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_VARIABLE = re.compile(r"\{([^{}]*)\}")
_INDEX_VARIABLES = frozenset(("SHARD_INDEX", "SHARD_X_OF_Y"))
_VARIABLES = _INDEX_VARIABLES | {"DATASET", "SPLIT", "FILEFORMAT", "NUM_SHARDS"}


@dataclass(frozen=True, slots=True)
class SplitInfo:
    """One split: how many records each of its shards holds."""

    name: str
    shard_lengths: tuple[int, ...]
    num_bytes: int  # of all its files; 0 where not known
    filepath_template: str  # "" stands for DEFAULT_TEMPLATE

    @property
    def num_shards(self) -> int:
        """How many files the split has."""
        return len(self.shard_lengths)

    @property
    def num_records(self) -> int:
        """How many episodes the split has."""
        return sum(self.shard_lengths)


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What dataset_info.json says of a dataset."""

    name: str
    config_name: str  # "" where the dataset has no configs
    version: str
    splits: tuple[SplitInfo, ...]
    citation: str
    license: str

    def find_split(self, name: str) -> SplitInfo:
        """The split of this name; a ConfigError names those that there are."""
        for split in self.splits:
            if split.name == name:
                return split
        there = ", ".join(split.name for split in self.splits) or "none"
        raise ConfigError(f"no split {name!r} in {self.name} {self.version}; splits: {there}")

    def shard_file_name(self, split: str, index: int) -> str:
        """File name of a shard, relative to the folder of dataset_info.json.

        >>> split = SplitInfo("train", (52,) * 1024, 0, "")
        >>> info = DatasetInfo("bridge_dataset", "", "1.0.0", (split,), "", "")
        >>> info.shard_file_name("train", 12)
        'bridge_dataset-train.tfrecord-00012-of-01024'
        """
        num_shards = self.find_split(split).num_shards
        if not 0 <= index < num_shards:
            raise ValueError(f"split {split} has shards 0 to {num_shards - 1}, not {index}")
        template = self.find_split(split).filepath_template or DEFAULT_TEMPLATE
        digits = max(5, len(str(num_shards)))
        values = {
            "DATASET": self.name,
            "SPLIT": split,
            "FILEFORMAT": _FILE_FORMAT,
            "SHARD_INDEX": f"{index:0{digits}d}",
            "NUM_SHARDS": f"{num_shards:0{digits}d}",
            "SHARD_X_OF_Y": f"{index:0{digits}d}-of-{num_shards:0{digits}d}",
        }
        return _VARIABLE.sub(lambda match: values[match[1]], template)


def decode_dataset_info(text: str) -> DatasetInfo:
    """Decodes dataset_info.json.

    Raises:
        ConfigError: it is not JSON, not TFRecord, or holds an absurd number or name.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"dataset_info.json is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"dataset_info.json is not a JSON object but {type(content).__name__}")
    file_format = _text(content, "fileFormat") or _FILE_FORMAT  # TFDS's default
    if file_format != _FILE_FORMAT:
        raise ConfigError(f"the dataset is stored as {file_format!r}; only tfrecord is read")
    splits = content.get("splits", [])
    if not isinstance(splits, list) or not all(isinstance(split, dict) for split in splits):
        raise ConfigError("dataset_info.json: 'splits' is not a list of objects")
    decoded = tuple(_decode_split(split) for split in splits)
    names = [split.name for split in decoded]
    if len(set(names)) < len(names):
        raise ConfigError(f"dataset_info.json has a split twice: {', '.join(names)}")
    redistribution = content.get("redistributionInfo")
    return DatasetInfo(
        name=_safe_name(content, "name"),
        config_name=_text(content, "configName"),
        version=_safe_name(content, "version"),
        splits=decoded,
        citation=_text(content, "citation"),
        license=_text(redistribution, "license") if isinstance(redistribution, dict) else "",
    )


def _decode_split(split: Mapping[str, Any]) -> SplitInfo:
    name = _safe_name(split, "name")
    lengths = split.get("shardLengths", [])
    if not isinstance(lengths, list) or len(lengths) > _NUM_SHARDS_MAX:
        raise ConfigError(f"dataset_info.json: 'shardLengths' of split {name} is not a list")
    if not lengths and _count(split.get("numShards", 0), _NUM_SHARDS_MAX, "number of shards"):
        raise ConfigError(f"dataset_info.json does not say how many records split {name} has")
    return SplitInfo(
        name=name,
        shard_lengths=tuple(
            _count(length, _SHARD_LENGTH_MAX, f"shard length of split {name}") for length in lengths
        ),
        num_bytes=_count(split.get("numBytes", 0), _NUM_BYTES_MAX, f"size of split {name}"),
        filepath_template=_template(split, num_shards=len(lengths)),
    )


def _template(split: Mapping[str, Any], *, num_shards: int) -> str:
    template = _text(split, "filepathTemplate")
    used = set(_VARIABLE.findall(template or DEFAULT_TEMPLATE))
    if not used <= _VARIABLES or (num_shards > 1 and not used & _INDEX_VARIABLES):
        raise ConfigError(f"dataset_info.json: {template[:80]!r} does not name each shard's file")
    if template.startswith("/") or any(part in template for part in ("..", "\\", "\0")):
        raise ConfigError(f"dataset_info.json: {template[:80]!r} leads out of the dataset's folder")
    return template


def _count(value: object, maximum: int, what: str) -> int:
    try:
        number = int(value) if isinstance(value, str | int) else -1
    except ValueError:
        number = -1
    if not 0 <= number <= maximum:
        raise ConfigError(f"dataset_info.json: {str(value)[:80]!r} is no {what}")
    return number


def _safe_name(content: Mapping[str, Any], key: str) -> str:
    name = _text(content, key)
    if not _SAFE_NAME.fullmatch(name):
        raise ConfigError(f"dataset_info.json: {name[:80]!r} is no {key} of a dataset or split")
    return name


def _text(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key, "")
    if not isinstance(value, str):
        raise ConfigError(f"dataset_info.json: {key!r} is not a text but {type(value).__name__}")
    return value
