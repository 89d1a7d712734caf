"""Writes one shard's steps table and RLDS records from the source and the episodes table."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from ilv_dataset.episodes import IndexedSpan
from ilv_dataset.errors import RecordError
from ilv_dataset.fields import INTERLEAVE_VLA_LAYOUT
from ilv_dataset.formats import tables
from ilv_dataset.formats.atomic import FileSummary, replacing_file
from ilv_dataset.formats.example import parse_example, stream_example
from ilv_dataset.formats.parquet import (
    ROW_GROUP_BYTES,
    ROW_GROUP_ROWS,
    ParquetFile,
    read_rows,
    relative_path,
)
from ilv_dataset.formats.rlds import GROUP, encode_interleaved, slice_example
from ilv_dataset.formats.steps import StepsPiece, cut_steps, join_steps, steps_schema
from ilv_dataset.formats.tables import EpisodeRow
from ilv_dataset.formats.tfrecord import frame_record, stream_record
from ilv_dataset.jobs import Job
from ilv_dataset.progress import noting_progress
from ilv_dataset.selection import ShardPlan
from ilv_dataset.shards.commits import commit_shard, read_commit
from ilv_dataset.shards.ground import read_parsed
from ilv_dataset.shards.interleave_vla import convert_span
from ilv_dataset.shards.records import SourceRecords
from ilv_dataset.shards.scan import read_index

# What a stage does not need is not read.
_INDEX_COLUMNS = [name for name in tables.INDEX_SCHEMA.names if name != "probes"]
_EPISODES_COLUMNS = {
    "steps": [name for name in tables.EPISODES_SCHEMA.names if name not in ("images", "objects")]
}

Selected = tuple[IndexedSpan, EpisodeRow]
Part = tuple[bytes, int | None]  # of a record, and its CRC32C where it is known
Written = tuple[FileSummary, dict[str, int]]


def write_steps_shard(shard: ShardPlan, *, job: Job) -> None:
    """Writes the steps of the chosen spans as one Parquet file, where it is not there yet.

    Raises: StorageError.
    """
    _commit(shard, "steps", job.layout.steps(shard.key), _write_steps, job=job)


def write_rlds_shard(shard: ShardPlan, *, job: Job) -> None:
    """Writes the chosen spans as one TFRecord shard, where it is not there yet.

    Raises: StorageError.
    """
    write = _write_rlds
    if job.rlds_layout == INTERLEAVE_VLA_LAYOUT:
        write = functools.partial(_write_interleave_vla, shard)
    _commit(shard, "rlds", job.layout.rlds_shard(shard.key), write, job=job)


def selected_spans(
    shard: ShardPlan, *, job: Job, columns: Sequence[str] | None = None
) -> Iterator[Selected]:
    """Streams the spans that steps and rlds hold.

    Args:
        columns: of the episodes table; None reads them all.
    """
    rows = read_rows(job.layout.episodes(shard.key), columns=columns)
    index = read_index(shard, job=job, columns=_INDEX_COLUMNS)
    return (
        (indexed, row)
        for indexed, row in zip(index, map(tables.decode_episode, rows), strict=True)
        if row.status in job.written_statuses
    )


def _commit(
    shard: ShardPlan,
    stage: str,
    path: str,
    write: Callable[[Iterator[Selected], SourceRecords, str, Job], Written],
    *,
    job: Job,
) -> None:
    if read_commit(stage, shard, job=job) is None:
        selected = selected_spans(shard, job=job, columns=_EPISODES_COLUMNS.get(stage))
        spans = noting_progress(selected, job=job, stage=stage, shard=shard)
        with SourceRecords(shard, job=job) as records:
            summary, counts = write(spans, records, path, job)
        commit_shard(stage, shard, summary, counts, job=job)


def _write_steps(spans: Iterator[Selected], records: SourceRecords, path: str, job: Job) -> Written:
    schema = steps_schema(job.features)
    counts = {"spans": 0, "steps": 0}
    with replacing_file(path, out=job.layout.out) as sink, ParquetFile(sink, schema) as file:
        waiting, num_bytes, num_rows = list[StepsPiece](), 0, 0
        for indexed, row in spans:
            for piece in _span_pieces(indexed, row, records, job):
                waiting.append(piece)
                counts["steps"] += piece.num_rows
                num_bytes += piece.num_bytes
                num_rows += piece.num_rows
                if num_bytes >= ROW_GROUP_BYTES or num_rows >= ROW_GROUP_ROWS:
                    file.write(join_steps(waiting, schema))
                    waiting, num_bytes, num_rows = [], 0, 0
            counts["spans"] += 1
        if waiting:
            file.write(join_steps(waiting, schema))
    return _summary(path, sink.num_bytes, sink.crc32c, job), counts


def _span_pieces(
    indexed: IndexedSpan, row: EpisodeRow, records: SourceRecords, job: Job
) -> Iterator[StepsPiece]:
    """The steps of one span; lets go of the record when it is through."""
    payload, _ = records.read(indexed)
    return cut_steps(row, parse_example(payload), job.features, num_steps=indexed.num_steps)


def _write_rlds(spans: Iterator[Selected], records: SourceRecords, path: str, job: Job) -> Written:
    counts = {"records": 0}
    replaces = any(feature.path.split("/")[0] == GROUP for feature in job.features)
    with replacing_file(path, out=job.layout.out) as sink:
        for indexed, row in spans:
            is_appended = indexed.is_whole_episode and not replaces
            make = _append_to_record if is_appended else _cut_record
            for part, crc in make(indexed, row, records, job):
                sink.write(part, crc=crc)
            counts["records"] += 1
    return _summary(path, sink.num_bytes, sink.crc32c, job), counts


def _append_to_record(
    indexed: IndexedSpan, row: EpisodeRow, records: SourceRecords, job: Job
) -> Iterator[Part]:
    """Parts of the framed record: the source's bytes, then the new features."""
    payload, crc = records.read(indexed)
    head, _, *rest = frame_record(payload, encode_interleaved(row), crc=crc)
    yield head, None
    yield payload, crc
    yield from ((part, None) for part in rest)


def _cut_record(
    indexed: IndexedSpan, row: EpisodeRow, records: SourceRecords, job: Job
) -> Iterator[Part]:
    """Parts of the framed record of a part of an episode, frame by frame."""
    payload, _ = records.read(indexed)
    part = slice_example(
        parse_example(payload),
        job.features,
        row.step_start,
        row.step_end,
        num_steps=indexed.num_steps,
    )
    length, pieces = stream_example(part)
    appended = encode_interleaved(row)
    framed = stream_record(chain(pieces, (appended,)), num_bytes=length + len(appended))
    yield from ((part, None) for part in framed)


def _write_interleave_vla(
    shard: ShardPlan, spans: Iterator[Selected], records: SourceRecords, path: str, job: Job
) -> Written:
    """Every frame is decoded here; a span with one that cannot be is counted and left out."""
    counts = {"records": 0, "undecodable": 0}
    parsed = read_parsed(shard, job=job)
    with replacing_file(path, out=job.layout.out) as sink:
        for indexed, row in spans:
            payload, _ = records.read(indexed)
            try:
                features = convert_span(
                    indexed,
                    row,
                    payload,
                    text=parsed[row.instruction.encode()].text,
                    spec=job.spec,
                    max_images=job.max_images or 1,
                )
            except RecordError:
                counts["undecodable"] += 1
                continue
            length, pieces = stream_example(features)
            for part in stream_record(pieces, num_bytes=length):
                sink.write(part)
            counts["records"] += 1
    return _summary(path, sink.num_bytes, sink.crc32c, job), counts


def _summary(path: str, num_bytes: int, crc32c: int, job: Job) -> FileSummary:
    return FileSummary(relative_path(path, job.layout.root), num_bytes, f"{crc32c:08x}")
