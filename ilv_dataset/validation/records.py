"""The RLDS shards: framing, checksums, and every record against its row and features.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ilv_dataset.episodes import check_features
from ilv_dataset.errors import RecordError
from ilv_dataset.formats import files
from ilv_dataset.formats.example import BytesValues, Example, Values, parse_example
from ilv_dataset.formats.features import Feature
from ilv_dataset.formats.ragged import flat_path
from ilv_dataset.formats.rlds import encode_interleaved
from ilv_dataset.formats.tables import EpisodeRow
from ilv_dataset.formats.tfrecord import BrokenRecord, read_records
from ilv_dataset.records import ShardKey
from ilv_dataset.validation.faults import Report
from ilv_dataset.validation.frames import FrameCheck, check_frames, probed_objects
from ilv_dataset.validation.manifests import Manifest
from ilv_dataset.validation.spans import written_rows


def check_records(
    manifest: Manifest,
    shard: ShardKey,
    features: Sequence[Feature] | None,
    report: Report,
    *,
    has_rows: bool,
    probed: bool,
    deep: bool,
) -> None:
    """Checks one shard.

    Args:
        features: of features.json; None where that could not be read.
        has_rows: whether the episodes table can be compared with.
        probed: decode the frames in which an object was found.
        deep: decode every frame.
    """
    path = manifest.layout.rlds_shard(shard)
    rows: Iterator[EpisodeRow] = iter(())
    if has_rows:
        rows = written_rows(manifest.layout.episodes(shard), manifest, with_images=True)
    num_records = 0

    def frames() -> Iterator[FrameCheck]:
        nonlocal num_records
        for number, example in read_examples(path, report):
            num_records += 1
            place, row = f"record {number}", None
            if has_rows:
                row = next(rows, None)
                for message in _row_faults(example, row):
                    report.fault(path, message, place=place)
            if features is not None:
                for message in _feature_faults(example, features, row):
                    report.fault(path, message, place=place)
                    break
                else:
                    yield from _frames(example, features, row, place, probed=probed, deep=deep)

    with report.reading(path):
        check_frames(path, frames(), report)
        left = sum(1 for _ in rows)
        if left:
            report.fault(path, f"has {num_records} records, expected {num_records + left}")
    marker = manifest.markers["rlds"].get(shard)
    if marker is not None and dict(marker.counts) != {"records": num_records}:
        report.fault(path, f"has {num_records} records, its marker {dict(marker.counts)}")
    report.checked["records"] += num_records


def read_examples(path: str, report: Report) -> Iterator[tuple[int, Example]]:
    """The records of a shard that can be read, with their numbers; the others are faults."""
    size = files.file_size(path) or 0
    with files.open_read(path) as file, files.naming_path(path):
        for record in read_records(file, size=size):
            place = f"record {record.index}"
            if isinstance(record, BrokenRecord):
                report.fault(path, f"{record.reason}: {record.message}", place=place)
                continue
            with report.reading(path, place=place):
                yield record.index, parse_example(record.payload)


def _row_faults(example: Example, row: EpisodeRow | None) -> Iterator[str]:
    """Where the interleaved instruction of a record is not that of its row."""
    if row is None:
        yield "no row of the episodes table belongs to it"
        return
    try:
        encoded = encode_interleaved(row)
    except ValueError as error:  # boxes of different lengths
        yield f"{row.span_id} of the episodes table cannot be a record: {error}"
        return
    for path, expected in parse_example(encoded).items():
        values = example.get(path)
        if values is None or not are_equal(values, expected):
            yield f"{path} is not that of {row.span_id} in the episodes table"


def are_equal(values: Values, expected: Values) -> bool:
    """Whether two features hold the same; an empty one has no type in a record."""
    if len(values) == len(expected) == 0:
        return True
    if isinstance(values, BytesValues) or isinstance(expected, BytesValues):
        return list(values) == list(expected)
    return values.dtype == expected.dtype and np.array_equal(values, expected)


def _feature_faults(
    example: Example, features: Sequence[Feature], row: EpisodeRow | None
) -> Iterator[str]:
    try:
        num_steps = check_features(example, features)
    except RecordError as error:
        yield str(error)
        return
    if row is not None and num_steps != row.step_end - row.step_start:
        yield f"has {num_steps} steps, {row.span_id} {row.step_end - row.step_start}"


def _frames(
    example: Example,
    features: Sequence[Feature],
    row: EpisodeRow | None,
    place: str,
    *,
    probed: bool,
    deep: bool,
) -> Iterator[FrameCheck]:
    found: Mapping[tuple[str, int], object] = probed_objects(row) if row is not None else {}
    start = row.step_start if row is not None else 0
    for feature in features:
        if feature.kind != "image" or not feature.in_steps:
            continue
        values = _encoded(example, feature)
        for position in range(len(values)):
            key = (feature.key, start + position)
            is_probed = probed and not feature.sequence_rank and key in found
            if deep or is_probed:
                objects = tuple(probed_objects(row)[key]) if row is not None and is_probed else ()
                where = f"{place}, {feature.path} {position}"
                yield FrameCheck(where, values[position], objects, feature.shape)


def _encoded(example: Example, feature: Feature) -> BytesValues:
    values = example.get(flat_path(feature) if feature.ragged_rank else feature.path)
    return values if isinstance(values, BytesValues) else BytesValues(b"", ())
