"""Grounds one shard: finds and cuts out the objects of its spans, and writes their rows."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO

from ilv_dataset.batches import batched
from ilv_dataset.crops import decode_image
from ilv_dataset.episodes import IndexedSpan, Probe
from ilv_dataset.errors import RecordError
from ilv_dataset.fields import STATUSES
from ilv_dataset.formats import files, tables
from ilv_dataset.formats.example import parse_example
from ilv_dataset.formats.parquet import read_rows_where, write_rows
from ilv_dataset.formats.tables import EpisodeRow, GroundedObject
from ilv_dataset.grounding import ground_spans
from ilv_dataset.interleave import interleave_instruction
from ilv_dataset.jobs import Job
from ilv_dataset.models.loading import (
    detector_of_process,
    segmenter_of_process,
    verifier_of_process,
)
from ilv_dataset.phrases import find_indistinct
from ilv_dataset.progress import noting_progress
from ilv_dataset.records import Frame, ParsedInstruction, Phrase, SourceObjects
from ilv_dataset.searches import WINDOW_SPANS, Crop, Grounding, Trail, add_trail
from ilv_dataset.selection import ShardPlan
from ilv_dataset.shards.commits import commit_shard, read_commit
from ilv_dataset.shards.records import open_source
from ilv_dataset.shards.scan import read_index
from ilv_dataset.source_objects import read_source_objects

STAGE = "ground"


def ground_shard(shard: ShardPlan, *, job: Job) -> None:
    """Writes the shard's rows of the episodes table, one a span, where they are not there yet.

    Raises: StorageError; ConfigError where the models cannot be loaded.
    """
    if read_commit(STAGE, shard, job=job) is not None:
        return
    counts = dict.fromkeys(STATUSES, 0)
    found = noting_progress(ground_rows(shard, job=job), job=job, stage=STAGE, shard=shard)
    rows = map(tables.encode_episode, _counted(found, counts))
    summary = write_rows(
        job.layout.episodes(shard.key),
        rows,
        tables.EPISODES_SCHEMA,
        root=job.layout.root,
        out=job.layout.out,
    )
    commit_shard(STAGE, shard, summary, counts, job=job)


def ground_rows(shard: ShardPlan, *, job: Job) -> Iterator[EpisodeRow]:
    """Streams the rows of a scanned shard, window by window, in the order of its index."""
    parsed = read_parsed(shard, job=job)
    with ShardFrames(shard, job) as frames:
        for window in batched(read_index(shard, job=job), WINDOW_SPANS):
            usable = [
                (indexed, parsed[indexed.span.instruction])
                for indexed in window
                if not indexed.reason and parsed[indexed.span.instruction].status == "parsed"
            ]
            groundings = ground_spans(
                [(indexed, instruction.objects) for indexed, instruction in usable],
                load_frame=frames.load,
                detector=detector_of_process(job.detector),
                segmenter=segmenter_of_process(job.segmenter, job.detector),
                picture_kinds=job.picture_kinds,
                verifier=verifier_of_process(job.verifier, job.chat, job.reply_cache, job.layout),
            )
            by_span = {id(indexed): g for (indexed, _), g in zip(usable, groundings, strict=True)}
            for indexed in window:
                instruction = parsed.get(indexed.span.instruction)
                yield make_row(indexed, instruction, by_span.get(id(indexed)), shard=shard, job=job)


def read_parsed(shard: ShardPlan, *, job: Job) -> dict[bytes, ParsedInstruction]:
    """The rows of the instructions table that a shard needs, by the source's bytes."""
    spans = read_index(shard, job=job)
    wanted = {indexed.span.instruction.decode() for indexed in spans if not indexed.reason}
    rows = read_rows_where(job.layout.instructions, "instruction", wanted)
    parsed = map(tables.decode_instruction, rows)
    return {instruction.instruction.encode(): instruction for instruction in parsed}


def make_row(
    indexed: IndexedSpan,
    parsed: ParsedInstruction | None,
    grounding: Grounding | None,
    *,
    shard: ShardPlan,
    job: Job,
) -> EpisodeRow:
    """The row of one span: failed, rejected, text_only or interleaved.

    Args:
        parsed: None only where the instruction is not UTF-8 or the record is broken.
        grounding: None where there was nothing to look for.
    """
    instruction = indexed.span.instruction.decode("utf-8", "replace")
    row = EpisodeRow(
        episode_id=f"{shard.file_name}__{indexed.record_index}",
        span=indexed.span.number,
        dataset=job.layout.dataset,
        split=shard.key.split,
        source_shard=shard.file_name,
        record_index=indexed.record_index,
        step_start=indexed.span.step_start,
        step_end=indexed.span.step_end,
        instruction=instruction,
        interleaved="",
        images=(),
        objects=(),
        status="failed",
        reason=indexed.reason,
        message=indexed.message,
    )
    if indexed.reason or parsed is None:
        return row
    if grounding is None:
        return replace(row, status="rejected", reason=parsed.reason)
    if grounding.fault is not None:
        return replace(row, reason=grounding.fault.reason, message=str(grounding.fault))
    return _grounded_row(row, parsed, grounding)


class ShardFrames:
    """Loads probe frames of one shard by byte range; `load` may be called from threads."""

    def __init__(self, shard: ShardPlan, job: Job) -> None:
        self._job = job
        self._shard = shard
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()
        self._orders = {camera.key: camera.channel_order for camera in job.spec.cameras}
        self._needs_objects = detector_of_process(job.detector).needs_source_objects

    def __enter__(self) -> ShardFrames:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def load(self, indexed: IndexedSpan, probe: Probe) -> Frame:
        """Reads and decodes one frame, channels in RGB order.

        Raises: RecordError undecodable-image, or features-mismatch of the objects marked in it.
        """
        data = self._read(probe.offset, probe.length)
        try:
            image = decode_image(data, channel_order=self._orders[probe.camera])
            size_wh = (image.shape[1], image.shape[0])
            objects = self._source_objects(indexed, probe, size_wh)
        except RecordError as error:
            message = f"{probe.camera} of step {probe.step}: {error}"
            raise RecordError(error.reason, message) from error
        return Frame(probe.camera, probe.step, image, objects)

    def _source_objects(
        self, indexed: IndexedSpan, probe: Probe, size_wh: tuple[int, int]
    ) -> SourceObjects | None:
        keys = self._job.spec.source_objects
        if not self._needs_objects or keys is None or probe.camera != keys.camera:
            return None
        example = parse_example(self._read(indexed.offset, indexed.length))
        return read_source_objects(
            example, self._job.features, keys, step=probe.step, size_wh=size_wh
        )

    def _read(self, offset: int, length: int) -> bytes:
        with self._lock, files.naming_path(self._job.source_path(self._shard)):
            if self._file is None:
                self._file = open_source(self._shard, job=self._job)
            self._file.seek(offset)
            return self._file.read(length)


def _grounded_row(row: EpisodeRow, parsed: ParsedInstruction, grounding: Grounding) -> EpisodeRow:
    indistinct = find_indistinct(parsed.text, parsed.objects)
    crops = {at: crop for at, crop in grounding.crops.items() if at not in indistinct}
    reasons = {
        **dict.fromkeys(indistinct & grounding.crops.keys(), "ambiguous"),
        **grounding.reasons,
    }
    objects = tuple(
        _object(
            phrase,
            crops.get(position),
            reasons.get(position, ""),
            grounding.trails.get(position, Trail()),
        )
        for position, phrase in enumerate(parsed.objects)
    )
    if not crops:
        return replace(row, objects=objects, status="text_only", reason="no-crop")
    order = sorted(crops)
    return replace(
        row,
        interleaved=interleave_instruction(parsed.text, [parsed.objects[i] for i in order]),
        images=tuple(crops[i].jpeg for i in order),
        objects=objects,
        status="interleaved",
    )


def _object(phrase: Phrase, crop: Crop | None, reason: str, trail: Trail) -> GroundedObject:
    place = (phrase.phrase, phrase.start, phrase.end, phrase.query, phrase.kind)
    if crop is None:
        return add_trail(GroundedObject(*place, grounded=False, reason=reason), trail)
    return replace(
        crop.grounded,
        phrase=phrase.phrase,
        start=phrase.start,
        end=phrase.end,
        kind=phrase.kind,
    )


def _counted(rows: Iterable[EpisodeRow], counts: dict[str, int]) -> Iterator[EpisodeRow]:
    """Counts rows by status, and those with a reason as `status:reason` too."""
    for row in rows:
        counts[row.status] += 1
        if row.reason:
            name = f"{row.status}:{row.reason}"
            counts[name] = counts.get(name, 0) + 1
        yield row
