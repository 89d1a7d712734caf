"""Mean and spread of the numbers of a dataset's steps, computed once and kept beside the data.

They are exact: one pass over all steps, in float64, merged by Chan's formula.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from ilv_dataset.bank import Bank
from ilv_dataset.dataset_reader import ConvertedShard, StepColumns, stack_numbers
from ilv_dataset.errors import ConfigError, IlvError, StorageError
from ilv_dataset.formats import atomic, files
from ilv_dataset.formats.markers import upstream_checksum
from ilv_dataset.layout import Layout
from ilv_dataset.outputs import read_json

_STD_MIN = 1e-6  # a number that never changes is moved, not scaled
_FORM = 1  # of the cached file


@dataclass(frozen=True)
class StepStatistics:
    """Mean and standard deviation (of the population) of N steps' states and actions."""

    num_steps: int
    state_mean: tuple[float, ...]
    state_std: tuple[float, ...]
    action_mean: tuple[float, ...]
    action_std: tuple[float, ...]

    @classmethod
    def of(cls, states: np.ndarray, actions: np.ndarray) -> Self:
        """Those of (N, S) and (N, A)."""
        columns = (states.astype(np.float64), actions.astype(np.float64))
        means_stds = [tuple(f(axis=0).tolist()) for c in columns for f in (c.mean, c.std)]
        return cls(len(states), *means_stds)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`.

        Raises: ConfigError where it is something else.
        """
        try:
            names = ("state_mean", "state_std", "action_mean", "action_std")
            parts = [tuple(float(number) for number in content[name]) for name in names]
            if not all(math.isfinite(number) for part in parts for number in part):
                raise ValueError("a number is not finite")
            return cls(int(content["num_steps"]), *parts)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not the statistics of steps: {error!r}") from error

    def to_json(self) -> dict[str, Any]:
        """Plain values, every digit kept."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def merge(self, other: StepStatistics) -> StepStatistics:
        """Those of the steps of both.

        Raises: ConfigError where they have not as many numbers.
        """
        sizes = [(len(one.state_mean), len(one.action_mean)) for one in (self, other)]
        if sizes[0] != sizes[1]:
            raise ConfigError(f"states and actions have {sizes[0]} and {sizes[1]} numbers")
        total = self.num_steps + other.num_steps
        share = other.num_steps / max(1, total)
        merged = []
        for name in ("state", "action"):
            means = [np.array(getattr(one, f"{name}_mean")) for one in (self, other)]
            variances = [np.array(getattr(one, f"{name}_std")) ** 2 for one in (self, other)]
            change = means[1] - means[0]
            spread = variances[0] * (1 - share) + variances[1] * share
            spread = spread + change**2 * share * (1 - share)
            merged += [means[0] + change * share, np.sqrt(spread)]
        return StepStatistics(total, *(tuple(part.tolist()) for part in merged))

    def normalize_states(self, states: np.ndarray) -> np.ndarray:
        """(..., S) in the dataset's units as float32 of mean 0 and spread 1."""
        return _scaled(states, self.state_mean, self.state_std)

    def normalize_actions(self, actions: np.ndarray) -> np.ndarray:
        """(..., A) in the dataset's units as float32 of mean 0 and spread 1."""
        return _scaled(actions, self.action_mean, self.action_std)

    def denormalize_actions(self, actions: np.ndarray) -> np.ndarray:
        """Inverse of `normalize_actions`, float32."""
        scaled = np.asarray(actions, np.float64) * _scales(self.action_std)
        return (scaled + np.array(self.action_mean)).astype(np.float32)


def measure_steps(
    shards: Iterable[ConvertedShard], columns: StepColumns, *, has_text_only: bool = True
) -> StepStatistics:
    """The statistics of all steps of some shards; one span is in memory.

    Args:
        has_text_only: also of spans without a picture.

    Raises: StorageError; ConfigError where there is no step, or a value is not finite.
    """
    found: StepStatistics | None = None
    place = ""
    for shard in shards:
        place = f" in {shard.layout.root}"
        for row, table in shard.read_steps(columns.numbers, is_light=True):
            if row.status != "interleaved" and not has_text_only:
                continue
            states = stack_numbers(table, columns.state)
            actions = stack_numbers(table, columns.action)
            if not (np.isfinite(states).all() and np.isfinite(actions).all()):
                name = _find_infinite(table, columns)
                fault = f"the column {name!r} of {row.span_id} has a value that is not finite"
                raise ConfigError(f"{shard.layout.root}: {fault}; name other columns")
            one = StepStatistics.of(states, actions)
            found = found.merge(one) if found else one
    if found is None:
        raise ConfigError(f"there is no step to take statistics of{place}")
    return found


def _find_infinite(table: pa.Table, columns: StepColumns) -> str:
    """The first column with a value that is not finite; there is one."""
    return next(
        name for name in columns.numbers if not np.isfinite(stack_numbers(table, [name])).all()
    )


def load_statistics(
    shards: Sequence[ConvertedShard], columns: StepColumns, *, has_text_only: bool = True
) -> StepStatistics:
    """Those of shards of one converted dataset, taken once and kept in OUT/.cache/statistics.

    The file's name holds a hash of all they depend on, see `steps_digest`. Where OUT cannot be
    written they are taken each time.

    Raises: StorageError; ConfigError where there is no step, or a value is not finite.
    """
    (layout,) = {shard.layout for shard in shards}
    digest = steps_digest(shards, {layout: columns}, has_text_only=has_text_only)
    name = f"{layout.dataset}-{layout.version}-{digest}.json"
    path = files.join_path(layout.out, ".cache", "statistics", name)
    if files.exists(path):
        with contextlib.suppress(IlvError):  # a damaged one is taken anew
            return StepStatistics.from_json(read_json(path))
    found = measure_steps(shards, columns, has_text_only=has_text_only)
    with contextlib.suppress(StorageError):
        atomic.write_json(path, found.to_json(), out=layout.out)
    return found


def statistics_by_dataset(
    shards: Sequence[ConvertedShard],
    columns: Mapping[Layout, StepColumns],
    *,
    has_text_only: bool = True,
) -> dict[str, StepStatistics]:
    """Those of each dataset by its name; outputs of one name are taken together.

    Raises: StorageError; ConfigError where there is no step, a value is not finite, or datasets
        differ in how many numbers a state or an action has.
    """
    found: dict[str, StepStatistics] = {}
    for layout, of_layout in columns.items():
        own = [shard for shard in shards if shard.layout == layout]
        one = load_statistics(own, of_layout, has_text_only=has_text_only)
        before = found.get(layout.dataset)
        found[layout.dataset] = before.merge(one) if before else one
    sizes = {name: (len(one.state_mean), len(one.action_mean)) for name, one in found.items()}
    if len(set(sizes.values())) > 1:
        raise ConfigError(f"numbers of a state and an action differ between datasets: {sizes}")
    return found


def steps_digest(
    shards: Sequence[ConvertedShard],
    columns: Mapping[Layout, StepColumns],
    *,
    has_text_only: bool = True,
) -> str:
    """16 hexadecimal digits that change with the steps, the format or the columns of numbers.

    Without spans of text alone, also with the table that says which these are.
    """
    root = shards[0].path
    checksums = files.map_files(lambda shard: shard.checksum, shards, root=root)
    tables = [] if has_text_only else files.map_files(_episodes_checksum, shards, root=root)
    content = [
        [shard.layout.dataset, shard.key.name, shard.format, checksum]
        for shard, checksum in zip(shards, checksums, strict=True)
    ]
    numbers = [[one.state, one.action] for one in columns.values()]
    return _digest([_FORM, tables or has_text_only, numbers, content])


def data_digest(
    settings: Mapping[str, Any],
    shards: Sequence[ConvertedShard],
    columns: Mapping[Layout, StepColumns],
    bank: Bank | None,
) -> str:
    """16 hexadecimal digits that change with whatever batches are made of.

    Args:
        settings: plain values, in any order.
        bank: None where none is used.
    """
    held = None if bank is None else bank.fingerprint
    tables = files.map_files(_episodes_checksum, shards, root=shards[0].path)
    return _digest([settings, steps_digest(shards, columns), tables, held])


def _episodes_checksum(shard: ConvertedShard) -> str:
    """CRC32C of the table with the instructions and their pictures; else its size."""
    written = upstream_checksum(shard.layout, "ground", shard.key)
    return written or f"{files.file_size(shard.layout.episodes(shard.key))} bytes"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _scales(stds: Sequence[float]) -> np.ndarray:
    found = np.array(stds)
    return np.where(found < _STD_MIN, 1.0, found)


def _scaled(values: np.ndarray, means: Sequence[float], stds: Sequence[float]) -> np.ndarray:
    moved = np.asarray(values, np.float64) - np.array(means)
    return (moved / _scales(stds)).astype(np.float32)
