"""Crops of converted datasets beside what their source marks in the same frames."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from ilv_dataset.attempts import decode_looks
from ilv_dataset.crop_evaluation import Case, CropEvaluation, Note, collect, make_case
from ilv_dataset.crop_scores import visible_rows
from ilv_dataset.crops import decode_image
from ilv_dataset.dataset_specs import DatasetSpec, SourceObjectKeys
from ilv_dataset.episodes import IndexedSpan
from ilv_dataset.errors import ConfigError, StorageError
from ilv_dataset.formats import files
from ilv_dataset.formats.example import BytesValues, Example, parse_example
from ilv_dataset.formats.features import Feature, decode_features
from ilv_dataset.formats.tables import (
    EpisodeRow,
    GroundedObject,
    decode_episode,
    decode_indexed_span,
)
from ilv_dataset.formats.tfrecord import read_record_at
from ilv_dataset.layout import Layout
from ilv_dataset.matching import fitting_names
from ilv_dataset.outputs import channel_orders, find_outputs, list_shards, read_dicts
from ilv_dataset.records import Phrase, ShardKey, SourceObjects
from ilv_dataset.source_objects import read_source_objects
from ilv_dataset.span_frames import check_source, find_source

_UNSEEN = "kind-not-pictured"  # the one reason that says that nobody looked


def evaluate_outputs(
    path: str, *, data_dir: str | None, limit: int, note: Note
) -> list[CropEvaluation]:
    """Judges the crops of each converted dataset at `path` whose source marks its objects.

    An object without a crop is missed where a frame that was looked at shows it; where none
    does, it is not there.

    Args:
        data_dir: where the source is; None looks where the registry has it.
        limit: how many of the worst are kept of each.

    Raises: ConfigError where no source marks objects, or is not there; StorageError; RecordError.
    """
    found = []
    for layout in find_outputs(path):
        source = _open_source(layout, data_dir)
        if source is not None:
            cases = _output_cases(layout, source, note)
            found.append(collect(f"{layout.dataset} {layout.version}", cases, limit=limit))
    if not found:
        raise ConfigError(
            f"{path}: the source carries no true boxes and masks, as that of ilv simulate does; "
            "judge the models on labelled images instead, with --truth"
        )
    return found


@dataclass(frozen=True)
class _Source:
    """Where the frames of a converted dataset came from, and what marks the objects in them."""

    spec: DatasetSpec
    keys: SourceObjectKeys
    folder: str
    features: tuple[Feature, ...]
    channel_order: str


@dataclass(eq=False)
class _Record:
    """One episode of the source; what was decoded of it is kept while it is looked at."""

    source: _Source
    example: Example
    truths: dict[int, SourceObjects] = field(default_factory=dict)  # by step

    def frame(self, step: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return decode_image(self.encoded(step), channel_order=self.source.channel_order)

    def encoded(self, step: int) -> bytes:
        """The frame as it is stored."""
        values = self.example[f"steps/{self.source.keys.camera}"]
        assert isinstance(values, BytesValues)  # check_spec and the scan saw to it
        return values[step]

    def truth(self, step: int) -> SourceObjects:
        """The marked objects of a step."""
        if step not in self.truths:
            height, width = self.frame(step).shape[:2]
            self.truths[step] = read_source_objects(
                self.example,
                self.source.features,
                self.source.keys,
                step=step,
                size_wh=(width, height),
            )
        return self.truths[step]


def _open_source(layout: Layout, data_dir: str | None) -> _Source | None:
    """None where the dataset is not known to mark its objects."""
    spec, folder = find_source(layout, data_dir)
    keys = spec.source_objects
    if keys is None:
        return None
    features = decode_features(files.read_bytes(files.join_path(folder, "features.json")).decode())
    order = channel_orders(layout).get(keys.camera, "rgb")
    return _Source(spec, keys, folder, features, order)


def _output_cases(layout: Layout, source: _Source, note: Note) -> Iterator[Case | None]:
    shards = list_shards(layout)
    for number, shard in enumerate(shards):
        yield from _shard_cases(layout, shard, source)
        note("judge", number, len(shards))


def _shard_cases(layout: Layout, shard: ShardKey, source: _Source) -> Iterator[Case | None]:
    indexed = {
        (row.record_index, row.span.number): row
        for row in map(decode_indexed_span, read_dicts(layout.index(shard)))
    }
    episodes = map(decode_episode, read_dicts(layout.episodes(shard)))
    rows = (row for row in episodes if row.objects)
    first = next(rows, None)
    if first is None:
        return
    path = files.join_path(source.folder, first.source_shard)  # a shard is made from one
    check_source(layout, shard, path)
    with files.open_read(path) as file:
        for row in itertools.chain([first], rows):
            place = indexed[row.record_index, row.span]
            yield from _span_cases(row, place, _read_record(file, path, place, source))


def _read_record(file: BinaryIO, path: str, place: IndexedSpan, source: _Source) -> _Record:
    with files.naming_path(path):
        try:
            payload, _ = read_record_at(file, offset=place.offset, length=place.length)
        except ValueError as error:
            raise StorageError(f"{path} is not the file that was scanned: {error}") from error
    return _Record(source, parse_example(payload))


def _span_cases(row: EpisodeRow, place: IndexedSpan, record: _Record) -> Iterator[Case | None]:
    pictures = iter(row.images)
    for found in row.objects:
        jpeg = next(pictures, None) if found.grounded else None
        if found.reason == _UNSEEN:
            continue
        steps = _judged_steps(found, place, record.source.keys.camera)
        if not steps:
            yield None
            continue
        step, named = _step_to_judge(found, steps, record)
        yield make_case(
            found,
            record.truth(step),
            named,
            dataset=row.dataset,
            place=f"{row.span_id}, step {step}",
            jpeg=jpeg,
            load_frame=_frame_loader(record, step),
        )


def _judged_steps(found: GroundedObject, place: IndexedSpan, camera: str) -> list[int]:
    """Steps with a truth: of the crop, or those that were looked at in vain."""
    if found.grounded:
        looks = [(found.camera, found.frame_index)]
    elif found.frames_tried:
        looks = [(look.camera, look.frame_index) for look in decode_looks(found.frames_tried)]
    else:
        looks = [(probe.camera, probe.step) for probe in place.probes[:1]]
    return [step for seen_by, step in looks if seen_by == camera and step is not None]


def _step_to_judge(
    found: GroundedObject, steps: list[int], record: _Record
) -> tuple[int, tuple[int, ...]]:
    """The first step that shows the object, else the first; and the rows that it may be."""
    phrase = Phrase(found.phrase, found.start, found.end, found.query, found.kind)
    named = fitting_names(record.truth(steps[0]).names, phrase)
    for step in steps:
        truth = record.truth(step)
        rows = fitting_names(truth.names, phrase)
        if set(rows) & set(visible_rows(truth)):
            return step, rows
    return steps[0], named


def _frame_loader(record: _Record, step: int) -> Callable[[], np.ndarray]:
    encoded, order = record.encoded(step), record.source.channel_order
    return lambda: decode_image(encoded, channel_order=order)
