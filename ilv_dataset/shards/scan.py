"""Scans one shard: its index, with spans, probe frames and faults, and its instructions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from ilv_dataset.episodes import IndexedSpan, broken_span, index_episode
from ilv_dataset.errors import RecordError, StorageError
from ilv_dataset.fields import DAMAGED_REASONS
from ilv_dataset.formats import files, tables
from ilv_dataset.formats.example import parse_example
from ilv_dataset.formats.parquet import read_rows, write_rows
from ilv_dataset.formats.tfrecord import RawRecord, read_records
from ilv_dataset.jobs import Job
from ilv_dataset.progress import noting_progress
from ilv_dataset.selection import ShardPlan
from ilv_dataset.shards.commits import commit_shard, read_commit

STAGE = "parse"


def scan_shard(shard: ShardPlan, *, job: Job) -> Iterator[str]:
    """Writes the shard's index where it is not there yet, and yields its distinct instructions.

    Instructions that are not UTF-8 belong to failed spans and are left out.

    Raises: StorageError.
    """
    if read_commit(STAGE, shard, job=job) is None:
        path = job.layout.index(shard.key)
        counts = {"spans": 0, "episodes": 0, "damaged": 0, "missing": 0}
        spans = noting_progress(index_shard(shard, job=job), job=job, stage=STAGE, shard=shard)
        rows = map(tables.encode_indexed_span, _counted(spans, counts))
        summary = write_rows(
            path, rows, tables.INDEX_SCHEMA, root=job.layout.root, out=job.layout.out
        )
        commit_shard(STAGE, shard, summary, counts, job=job)
    yield from dict.fromkeys(
        indexed.span.instruction.decode()
        for indexed in read_index(shard, job=job)
        if not indexed.reason
    )


def read_index(
    shard: ShardPlan, *, job: Job, columns: Sequence[str] | None = None
) -> Iterator[IndexedSpan]:
    """Streams the index of a scanned shard, in the order of records and spans.

    Args:
        columns: all but the probes may be named; None reads them all.
    """
    rows = read_rows(job.layout.index(shard.key), columns=columns)
    return map(tables.decode_indexed_span, rows)


def index_shard(shard: ShardPlan, *, job: Job) -> Iterator[IndexedSpan]:
    """Streams the spans of a source shard; each selected record gives at least one.

    What is broken gives a row with its reason: a record, a cut shard, a shard that is missing.
    A shard that is wanted whole is read to its end, whatever dataset_info.json says.
    """
    path, name = job.source_path(shard), shard.file_name
    size = files.file_size(path)
    if size is None:
        for index in range(shard.num_selected):
            yield broken_span(index, "missing-shard", f"{name} does not exist")
        return
    num_found, reason, message = 0, "missing-record", f"{name} ends before this record"
    try:
        with files.open_read(path) as file, files.naming_path(path):
            for record in itertools.islice(read_records(file, size=size), _limit(shard)):
                num_found = record.index + 1
                if isinstance(record, RawRecord):
                    yield from _index_record(record, name, job=job)
                else:
                    yield broken_span(record.index, record.reason, f"{name}: {record.message}")
                    message = f"{name} is unreadable from record {record.index} on"
                del record  # before the next is read: one in memory, not two
    except StorageError as error:
        reason, message = "missing-shard", str(error).replace(path, name)
    for index in range(num_found, shard.num_selected):
        yield broken_span(index, reason, message)


def _limit(shard: ShardPlan) -> int | None:
    return None if shard.num_selected == shard.num_records else shard.num_selected


def _index_record(record: RawRecord, name: str, *, job: Job) -> list[IndexedSpan]:
    place = {"offset": record.offset, "length": len(record.payload)}
    try:
        example = parse_example(record.payload)
        return index_episode(example, job.features, job.spec, record_index=record.index, **place)
    except RecordError as error:
        return [broken_span(record.index, error.reason, f"{name}: {error}", **place)]


def _counted(rows: Iterable[IndexedSpan], counts: dict[str, int]) -> Iterator[IndexedSpan]:
    for row in rows:
        counts["spans"] += 1
        counts["episodes"] += row.span.number == 0
        counts["damaged"] += row.reason in DAMAGED_REASONS
        counts["missing"] += row.reason == "missing-shard"
        yield row
