"""A converted dataset as it is read: episodes, spans and steps, lazily, from Parquet or RLDS.

Every shard is streamed: in memory are one row group (16 MB) or one record, and the span that is
read. Steps have the same columns and types whichever format they come from.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ilv_dataset.errors import ConfigError, StorageError
from ilv_dataset.fields import INTERLEAVE_VLA_LAYOUT
from ilv_dataset.formats import files
from ilv_dataset.formats.example import Example, parse_example
from ilv_dataset.formats.features import Feature, decode_features
from ilv_dataset.formats.interleave_vla import METADATA
from ilv_dataset.formats.markers import peek_marker, upstream_checksum
from ilv_dataset.formats.parquet import IMAGE
from ilv_dataset.formats.rlds import GROUP
from ilv_dataset.formats.steps import cut_steps, join_steps, own_features, steps_schema
from ilv_dataset.formats.tables import EPISODES_SCHEMA, EpisodeRow, decode_episode
from ilv_dataset.formats.tfrecord import RawRecord, read_records
from ilv_dataset.layout import Layout
from ilv_dataset.outputs import (
    PARQUET_ERRORS,
    channel_orders,
    find_outputs,
    list_shards,
    read_dicts,
    read_plan,
    read_schema,
)
from ilv_dataset.records import ShardKey

FORMATS = {"parquet": "steps", "rlds": "rlds"}  # name -> the stage that writes it
_HEAVY_COLUMNS = ("images", "objects")
_STEP_NUMBERS = ("span", "step", "is_first", "is_last", "is_terminal")  # never state or action
_EXTENT = ("step_start", "step_end")
_LIGHT_COLUMNS = [name for name in EPISODES_SCHEMA.names if name not in _HEAVY_COLUMNS]


@dataclass(frozen=True)
class ConvertedShard:
    """One shard of a converted dataset, and the format that its steps are read from."""

    layout: Layout
    key: ShardKey
    format: str  # a name of FORMATS; "" where neither was written
    written_statuses: tuple[str, ...]  # of the spans whose steps were written

    @property
    def path(self) -> str:
        """The file that its steps are in."""
        at = self.layout.rlds_shard if self.format == "rlds" else self.layout.steps
        return at(self.key)

    @cached_property
    def checksum(self) -> str:
        """CRC32C of its steps, as their marker has it at first; their size without a marker."""
        written = upstream_checksum(self.layout, FORMATS[self.format], self.key)
        return written or f"{files.file_size(self.path)} bytes"

    def spans(self, *, is_light: bool = False) -> Iterator[EpisodeRow]:
        """Every span, whatever became of it; light ones come without pictures and objects.

        Raises: StorageError.
        """
        columns = _LIGHT_COLUMNS if is_light else None
        yield from map(decode_episode, read_dicts(self.layout.episodes(self.key), columns))

    def written_spans(self, *, is_light: bool = False) -> Iterator[EpisodeRow]:
        """The spans whose steps were written, in their order, with the steps that were.

        The layout interleave-vla leaves out a first step without an action, and spans with a
        frame that does not decode.
        """
        rows = self.spans(is_light=is_light)
        written = (row for row in rows if row.status in self.written_statuses)
        is_theirs = self.format == "rlds" and _layout_name(self) == INTERLEAVE_VLA_LAYOUT
        yield from _match_records(self, written) if is_theirs else written

    def column_types(self) -> pa.Schema:
        """The columns of its steps, from the footer or from features.json alone.

        Raises: StorageError; ConfigError where no steps were written.
        """
        if not self.format:
            raise ConfigError(f"{self.layout.root} holds no steps: convert with --formats parquet")
        if self.format == "rlds":
            return steps_schema(_rlds_features(self.layout))
        return read_schema(self.path)

    def read_steps(
        self,
        columns: Sequence[str] | None = None,
        *,
        first: int = 0,
        last: int | None = None,
        is_light: bool = False,
    ) -> Iterator[tuple[EpisodeRow, pa.Table]]:
        """Written spans number `first` to `last`, exclusive, each with a table of its steps.

        Args:
            columns: None reads all of them.
            is_light: the spans come without pictures and objects.

        Raises: StorageError where the steps are not those of the episodes table.
        """
        names = list(self.column_types().names) if columns is None else list(columns)
        rows = itertools.islice(self.written_spans(is_light=is_light), last)
        read = _read_records if self.format == "rlds" else _read_row_groups
        yield from read(self, rows, first, names)


@dataclass(frozen=True)
class ConvertedDataset:
    """Converted datasets at one place, or one split of them; nothing is read until it is asked for.

    >>> dataset = open_dataset("out", split="train")  # doctest: +SKIP
    >>> next(dataset.spans()).interleaved  # doctest: +SKIP
    'place <image> inside <image>'
    """

    shards: tuple[ConvertedShard, ...]

    def spans(self) -> Iterator[EpisodeRow]:
        """One row a span, whatever became of it, with its pictures."""
        return itertools.chain.from_iterable(shard.spans() for shard in self.shards)

    def episodes(self) -> Iterator[tuple[EpisodeRow, ...]]:
        """The spans of one episode after another."""
        for shard in self.shards:
            for _, rows in itertools.groupby(shard.spans(), key=lambda row: row.episode_id):
                yield tuple(rows)

    def steps(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """One step after another of the spans that were written; frames are encoded bytes."""
        for shard in self.shards:
            for _, table in shard.read_steps(columns):
                for batch in table.to_batches(max_chunksize=64):
                    yield from batch.to_pylist()


def open_dataset(path: str, split: str | None = None, *, format: str = "") -> ConvertedDataset:
    """Opens OUT, with all datasets in it, or OUT/<dataset>/<version>.

    Args:
        split: None reads all splits.
        format: which of FORMATS steps are read from; "" takes Parquet where it is there.

    Raises: ConfigError where there is no such dataset, split or format.
    """
    shards = [shard for layout in find_outputs(path) for shard in _shards_of(layout, format)]
    splits = sorted({shard.key.split for shard in shards})
    if split is not None and split not in splits:
        raise ConfigError(f"{path} has no split {split!r}, only {', '.join(splits) or 'none'}")
    return ConvertedDataset(
        tuple(shard for shard in shards if split is None or shard.key.split == split)
    )


@dataclass(frozen=True)
class StepColumns:
    """What of a step is read: one camera, and the columns whose numbers are state and action."""

    camera: str
    is_bgr: bool
    state: tuple[str, ...]
    action: tuple[str, ...]

    @property
    def numbers(self) -> tuple[str, ...]:
        """Those of state and action, each once."""
        return tuple(dict.fromkeys((*self.state, *self.action)))

    def names(self, *, has_camera: bool) -> tuple[str, ...]:
        """All of them, or the numbers alone."""
        return (self.camera, *self.numbers) if has_camera else self.numbers


def find_columns(
    shards: Sequence[ConvertedShard], *, camera: str, state_key: str, action_key: str
) -> dict[Layout, StepColumns]:
    """The columns that are meant, for each dataset, as its first shard has them.

    Args:
        camera: "" takes the camera that the conversion looked at first.
        state_key: one or several columns, with commas, joined in that order; "" for none.
        action_key: likewise.

    Raises: ConfigError that names the columns there are.
    """
    firsts = {shard.layout: shard for shard in reversed(shards)}
    layouts = dict.fromkeys(shard.layout for shard in shards)
    return {one: _columns_of(firsts[one], camera, state_key, action_key) for one in layouts}


def stack_numbers(table: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """(T, N) float32 of columns of numbers side by side, as often as named; null is an error.

    Raises: StorageError.
    """
    parts = [np.zeros((table.num_rows, 0), np.float32)]
    for name in columns:
        values = table[name].combine_chunks()
        while not values.null_count and pa.types.is_fixed_size_list(values.type):
            values = values.flatten()  # it leaves out lists that are null
        if values.null_count or len(values) % max(1, table.num_rows):
            raise StorageError(f"the column {name!r} has steps without a value")
        numbers = values.cast(pa.float32()) if pa.types.is_boolean(values.type) else values
        flat = numbers.to_numpy(zero_copy_only=False).astype(np.float32)
        parts.append(flat.reshape(table.num_rows, -1))
    return np.concatenate(parts, axis=1)


def is_numbers(kind: pa.DataType) -> bool:
    """Whether a column holds numbers, as many in each step."""
    while pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _columns_of(shard: ConvertedShard, camera: str, state_key: str, action_key: str) -> StepColumns:
    schema, root = shard.column_types(), shard.layout.root
    cameras = [field.name for field in schema if field.type == IMAGE]
    keys = _image_keys(shard.layout)
    first = next((name for name in (*dict(keys), *cameras) if name in cameras), "")
    found = camera or first
    if found not in cameras:
        raise ConfigError(f"{root} has no camera {camera!r}; cameras: {', '.join(cameras) or '-'}")
    orders = {**channel_orders(shard.layout), **dict(keys)}
    if shard.format == "rlds" and _layout_name(shard) == INTERLEAVE_VLA_LAYOUT:
        orders = {}  # it has turned them round
    numbers = [field.name for field in schema if is_numbers(field.type)]
    parts = {}
    for option, key in (("state_key", state_key), ("action_key", action_key)):
        parts[option] = tuple(name.strip() for name in key.split(",") if name.strip())
        for name in parts[option]:
            if name not in numbers:
                there = ", ".join(name for name in numbers if name not in _STEP_NUMBERS) or "-"
                raise ConfigError(f"{root} has no {option} {name!r}; columns of numbers: {there}")
    return StepColumns(found, orders.get(found) == "bgr", *parts.values())


def _shards_of(layout: Layout, wanted: str) -> Iterator[ConvertedShard]:
    if wanted and wanted not in FORMATS:
        raise ConfigError(f"unknown format {wanted!r}, expected one of {', '.join(FORMATS)}")
    there = [
        name
        for name, stage in FORMATS.items()
        if files.list_names(layout.markers(stage)) or files.list_names(_folder(layout, name))
    ]
    if wanted and wanted not in there:
        raise ConfigError(f"{layout.root} has no {wanted}, only {', '.join(there) or 'episodes'}")
    include = read_plan(layout).get("--include") or ()
    statuses = ("interleaved", *(str(name) for name in include))
    found = wanted or next(iter(there), "")
    for key in list_shards(layout, FORMATS.get(found, "ground")):
        yield ConvertedShard(layout, key, found, statuses)


def _folder(layout: Layout, name: str) -> str:
    return layout.rlds_folder if name == "rlds" else files.join_path(layout.root, "steps")


def _layout_name(shard: ConvertedShard) -> str:
    """Which of fields.LAYOUTS the RLDS output has."""
    return str(read_plan(shard.layout).get("--layout", ""))


def _image_keys(layout: Layout) -> tuple[tuple[str, str], ...]:
    """(camera, channel order) of the cameras that were looked at, the main one first."""
    keys = read_plan(layout).get("--image-key")
    return tuple((str(key), str(order)) for key, order in keys) if isinstance(keys, list) else ()


def _rlds_features(layout: Layout) -> tuple[Feature, ...]:
    path = files.join_path(layout.rlds_folder, "features.json")
    return decode_features(files.read_bytes(path).decode())


def _read_row_groups(
    shard: ConvertedShard, rows: Iterator[EpisodeRow], first: int, columns: Sequence[str]
) -> Iterator[tuple[EpisodeRow, pa.Table]]:
    """Steps from Parquet; row groups before the first span are not read."""
    with files.open_read(shard.path) as opened:
        try:
            file = pq.ParquetFile(opened)
            names = list(dict.fromkeys([*columns, "episode_id", "span"]))
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            number = held_end = end = 0
            held: list[tuple[int, pa.Table]] = []  # (its first row, row group)
            for span, row in enumerate(rows):
                start, end = end, end + row.step_end - row.step_start
                if end > sum(sizes):
                    raise StorageError(
                        f"{shard.path} has {sum(sizes)} steps, and more are expected"
                    )
                if span < first:
                    continue
                while held_end < end:
                    if held_end + sizes[number] > start:
                        group = file.read_row_group(number, names, use_threads=False)
                        held.append((held_end, group))
                    held_end, number = held_end + sizes[number], number + 1
                held = [(at, table) for at, table in held if at + table.num_rows > start]
                parts = [
                    table.slice(max(0, start - at), end - max(at, start)) for at, table in held
                ]
                table = pa.concat_tables(parts)
                _check_span(shard, row, table)
                yield row, table.select(columns)
        except PARQUET_ERRORS as error:
            raise StorageError(f"{shard.path}: not a readable Parquet file: {error}") from error


def _read_records(
    shard: ConvertedShard, rows: Iterator[EpisodeRow], first: int, columns: Sequence[str]
) -> Iterator[tuple[EpisodeRow, pa.Table]]:
    """Steps from RLDS, in the columns of the steps table; one record is in memory."""
    own = [f for f in own_features(_rlds_features(shard.layout)) if f.key in columns]
    schema = steps_schema(own)
    payloads = _read_payloads(shard)
    for number, row in enumerate(rows):
        payload = next(payloads, None)
        if payload is None:
            raise StorageError(f"{shard.path} has {number} records, and more are expected")
        if number < first:
            continue
        example = parse_example(payload)
        if (row.episode_id, row.span) not in _identities(example):
            raise StorageError(f"{shard.path}: record {number} is not {row.span_id}")
        num_steps = row.step_end - row.step_start
        whole = replace(row, step_start=0, step_end=num_steps)  # a part is an episode here
        table = join_steps(list(cut_steps(whole, example, own, num_steps=num_steps)), schema)
        steps = np.arange(row.step_start, row.step_end, dtype=np.int32)
        table = table.set_column(schema.names.index("step"), "step", pa.array(steps))
        yield row, table.select(columns)


def _match_records(shard: ConvertedShard, rows: Iterator[EpisodeRow]) -> Iterator[EpisodeRow]:
    """Those of the rows that have a record, in its order, with the steps of that record."""
    records = iter(_record_spans(shard, shard.checksum))
    record = next(records, None)
    for row in rows:
        if record and (row.episode_id, row.span) == record[:2]:
            yield replace(row, step_start=record[2], step_end=record[3])
            record = next(records, None)
    if record:
        raise StorageError(f"{shard.path}: {record[0]}#{record[1]} is not a span in this place")


@lru_cache(256)
def _record_spans(shard: ConvertedShard, _: str) -> tuple[tuple[str, int, int, int], ...]:
    """(episode, span, its first step, its end) of every record, as of this checksum."""
    found = []
    for number, payload in enumerate(_read_payloads(shard)):
        example = parse_example(payload)
        try:
            ((episode_id, span),) = _identities(example)
            start, end = (int(np.asarray(example[f"{METADATA}/{name}"])[0]) for name in _EXTENT)
        except (LookupError, TypeError, ValueError) as error:
            raise StorageError(f"{shard.path}: record {number} is of no span") from error
        found.append((episode_id, span, start, end))
    marker = peek_marker(shard.layout, "rlds", shard.key)
    if marker is not None and marker.counts.get("records") != len(found):
        raise StorageError(f"{shard.path} has {len(found)} records, its marker {marker.counts}")
    return tuple(found)


def _read_payloads(shard: ConvertedShard) -> Iterator[bytes]:
    with files.open_read(shard.path) as file, files.naming_path(shard.path):
        for record in read_records(file, size=files.file_size(shard.path) or 0):
            if not isinstance(record, RawRecord):
                raise StorageError(f"{shard.path}: record {record.index}: {record.message}")
            yield record.payload


def _identities(example: Example) -> Iterator[tuple[str, int]]:
    """Episode and span of a record, from where either layout of the RLDS output has them."""
    for group in (GROUP, METADATA):
        names = example.get(f"{group}/episode_id", ())
        for name, span in zip(names, example.get(f"{group}/span", ()), strict=False):
            if isinstance(name, bytes):
                yield name.decode(), int(span)


def _check_span(shard: ConvertedShard, row: EpisodeRow, table: pa.Table) -> None:
    """Raises: StorageError where the first step is of another span."""
    found = table["episode_id"][0].as_py(), table["span"][0].as_py()
    if found != (row.episode_id, row.span):
        raise StorageError(f"{shard.path} has {found} where {row.span_id} is expected")
