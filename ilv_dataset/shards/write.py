"""Writes one shard's steps table and RLDS records from the source and the episodes table."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from ilv_dataset.episodes import IndexedSpan
from ilv_dataset.errors import StorageError
from ilv_dataset.formats import files, tables
from ilv_dataset.formats.atomic import FileSummary, replacing_file
from ilv_dataset.formats.example import encode_example, parse_example
from ilv_dataset.formats.parquet import (
    ROW_GROUP_BYTES,
    ROW_GROUP_ROWS,
    ParquetFile,
    read_rows,
    relative_path,
)
from ilv_dataset.formats.rlds import encode_interleaved, slice_example
from ilv_dataset.formats.steps import steps_schema, steps_tables
from ilv_dataset.formats.tables import EpisodeRow
from ilv_dataset.formats.tfrecord import frame_record, read_record_at
from ilv_dataset.jobs import Job
from ilv_dataset.progress import noting_progress
from ilv_dataset.selection import ShardPlan
from ilv_dataset.shards.commits import commit_shard, read_commit
from ilv_dataset.shards.scan import read_index

Selected = tuple[IndexedSpan, EpisodeRow, bytes, int]  # with the record's payload and CRC32C


def write_steps_shard(shard: ShardPlan, *, job: Job) -> None:
    """Writes the steps of the chosen spans as one Parquet file, where it is not there yet.

    Raises: StorageError.
    """
    _commit(shard, "steps", job.layout.steps(shard.key), _write_steps, job=job)


def write_rlds_shard(shard: ShardPlan, *, job: Job) -> None:
    """Writes the chosen spans as one TFRecord shard, where it is not there yet.

    Raises: StorageError.
    """
    _commit(shard, "rlds", job.layout.rlds_shard(shard.key), _write_rlds, job=job)


def selected_spans(shard: ShardPlan, *, job: Job) -> Iterator[Selected]:
    """Streams the spans that steps and rlds hold, each with the record it is part of.

    Raises: StorageError where the source has changed since it was scanned.
    """
    path = job.source_path(shard)
    episodes = map(tables.decode_episode, read_rows(job.layout.episodes(shard.key)))
    chosen = (
        (indexed, row)
        for indexed, row in zip(read_index(shard, job=job), episodes, strict=True)
        if row.status in job.written_statuses
    )
    first = next(chosen, None)
    if first is None:  # the shard itself may be missing
        return
    with files.open_read(path) as file, files.naming_path(path):
        payload, crc, offset = b"", 0, -1
        for indexed, row in _chain(first, chosen):
            if indexed.offset != offset:
                offset = indexed.offset
                try:
                    payload, crc = read_record_at(file, offset=offset, length=indexed.length)
                except ValueError as error:
                    raise StorageError(
                        f"{path} has changed since it was scanned: {error}; run again"
                    ) from error
            yield indexed, row, payload, crc


def _chain(
    first: tuple[IndexedSpan, EpisodeRow], rest: Iterator[tuple[IndexedSpan, EpisodeRow]]
) -> Iterator[tuple[IndexedSpan, EpisodeRow]]:
    yield first
    yield from rest


def _commit(
    shard: ShardPlan,
    stage: str,
    path: str,
    write: Callable[..., tuple[FileSummary, dict[str, int]]],
    *,
    job: Job,
) -> None:
    if read_commit(stage, shard, job=job) is None:
        spans = noting_progress(selected_spans(shard, job=job), job=job, stage=stage, shard=shard)
        summary, counts = write(spans, path, job=job)
        commit_shard(stage, shard, summary, counts, job=job)


def _write_steps(
    spans: Iterator[Selected], path: str, *, job: Job
) -> tuple[FileSummary, dict[str, int]]:
    schema = steps_schema(job.features)
    counts = {"spans": 0, "steps": 0}
    with replacing_file(path, out=job.layout.out) as sink:
        file = ParquetFile(sink, schema)
        waiting: list[pa.Table] = []
        for indexed, row, payload, _ in spans:
            example = parse_example(payload)
            whole = indexed.is_whole_episode
            for table in steps_tables(row, example, job.features, schema, is_whole=whole):
                waiting.append(table)
                counts["steps"] += table.num_rows
                if _is_full(waiting):
                    file.write(pa.concat_tables(waiting))
                    waiting = []
            counts["spans"] += 1
        if waiting:
            file.write(pa.concat_tables(waiting))
        file.close()
    return _summary(path, sink.num_bytes, sink.crc32c, job), counts


def _write_rlds(
    spans: Iterator[Selected], path: str, *, job: Job
) -> tuple[FileSummary, dict[str, int]]:
    counts = {"records": 0}
    replaces = any(feature.path.startswith("interleaved_instruction") for feature in job.features)
    with replacing_file(path, out=job.layout.out) as sink:
        for indexed, row, payload, crc in spans:
            appended = encode_interleaved(row)
            if indexed.is_whole_episode and not replaces:
                parts = frame_record(payload, appended, crc=crc)
            else:
                part = slice_example(
                    parse_example(payload), job.features, row.step_start, row.step_end
                )
                parts = frame_record(encode_example(part), appended)
            for chunk in parts:
                sink.write(chunk)
            counts["records"] += 1
    return _summary(path, sink.num_bytes, sink.crc32c, job), counts


def _is_full(waiting: list[pa.Table]) -> bool:
    num_bytes = sum(table.nbytes for table in waiting)
    return num_bytes >= ROW_GROUP_BYTES or sum(map(len, waiting)) >= ROW_GROUP_ROWS


def _summary(path: str, num_bytes: int, crc32c: int, job: Job) -> FileSummary:
    return FileSummary(relative_path(path, job.layout.root), num_bytes, f"{crc32c:08x}")
