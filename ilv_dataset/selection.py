"""Which shards and records are converted, planned from dataset_info.json alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ilv_dataset.errors import ConfigError
from ilv_dataset.formats.dataset_info import DatasetInfo
from ilv_dataset.records import ShardKey


@dataclass(frozen=True, order=True, slots=True)
class ShardPlan:
    """One shard to convert: its first `num_selected` of `num_records` records."""

    key: ShardKey
    file_name: str  # relative to the folder of dataset_info.json
    num_records: int  # as dataset_info.json says
    num_selected: int


def select_records(
    info: DatasetInfo, *, splits: Sequence[str] = (), max_episodes: int | None = None
) -> tuple[ShardPlan, ...]:
    """Chooses shards and records; sorted by ShardKey, without shards of which nothing is taken.

    A cap takes whole shards of all chosen splits together, in the order of the SHA-256 of their
    file names, then the first records of the last. So a larger cap only adds records, and the
    choice depends on nothing but names and lengths.

    Args:
        info: the decoded dataset_info.json.
        splits: names of splits; empty takes all.
        max_episodes: the cap; None takes every record.

    Raises:
        ConfigError: a split that is not there, or a cap below 1.
    """
    if max_episodes is not None and max_episodes < 1:
        raise ConfigError(f"the number of episodes must be at least 1, got {max_episodes}")
    shards = _list_shards(info, splits)
    if max_episodes is not None:
        shards = _cap_shards(shards, max_episodes)
    return tuple(sorted(shard for shard in shards if shard.num_selected))


def _list_shards(info: DatasetInfo, splits: Sequence[str]) -> list[ShardPlan]:
    shards = []
    for name in dict.fromkeys(splits or [split.name for split in info.splits]):
        split = info.find_split(name)
        for index, num_records in enumerate(split.shard_lengths):
            key = ShardKey(name, index, split.num_shards)
            file_name = info.shard_file_name(name, index)
            shards.append(ShardPlan(key, file_name, num_records, num_records))
    return shards


def _cap_shards(shards: Sequence[ShardPlan], max_episodes: int) -> list[ShardPlan]:
    chosen, left = [], max_episodes
    for shard in sorted(shards, key=_hash_of_name):
        num_selected = min(left, shard.num_records)
        chosen.append(ShardPlan(shard.key, shard.file_name, shard.num_records, num_selected))
        left -= num_selected
    return chosen


def _hash_of_name(shard: ShardPlan) -> str:
    return hashlib.sha256(shard.file_name.encode()).hexdigest()
