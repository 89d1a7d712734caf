"""The frames that a span was looked at in, from where they still are: the output or the source."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from ilv_dataset.crops import decode_image
from ilv_dataset.dataset_specs import DatasetSpec
from ilv_dataset.datasets import list_datasets, resolve_data_dir, unregistered
from ilv_dataset.episodes import Probe
from ilv_dataset.errors import ConfigError, IlvError, RecordError, StorageError
from ilv_dataset.fields import INTERLEAVE_VLA_LAYOUT
from ilv_dataset.formats import files
from ilv_dataset.formats.example import BytesValues, parse_example
from ilv_dataset.formats.markers import peek_marker
from ilv_dataset.formats.rlds import GROUP
from ilv_dataset.formats.tables import EpisodeRow, decode_indexed_span
from ilv_dataset.formats.tfrecord import RawRecord, read_records
from ilv_dataset.layout import Layout
from ilv_dataset.lookups import FoundSpan
from ilv_dataset.outputs import (
    channel_orders,
    read_batches,
    read_dicts,
    read_plan,
    read_schema,
)
from ilv_dataset.records import ShardKey

Place = tuple[str, int]  # camera, step in the episode
Encoded = dict[Place, bytes]
Frames = Mapping[Place, np.ndarray]  # (H, W, 3) uint8 RGB

_NOT_AT_HAND = "its frames were not written; --data-dir says where the source is"


def describe_steps(row: EpisodeRow) -> str:
    """Which steps a span has; of a record that could not be read none are known."""
    if row.step_end:
        return f"steps {row.step_start} to {row.step_end - 1}"
    return "no steps" if row.reason == "no-steps" else "the record could not be read"


def load_frames(found: FoundSpan, *, data_dir: str | None = None) -> tuple[Frames, str]:
    """The frames in which objects of a span were found; without any, the first looked at.

    Args:
        data_dir: where the source is; None looks where the registry has it.

    Returns: those that are there, channels in RGB order, and where they are from, or why there
        are none.
    """
    if not found.row.step_end:
        return {}, describe_steps(found.row)
    sources = (
        ("from the steps table", _frames_of_steps),
        ("from the RLDS shards", _frames_of_record),
        ("from the source", _frames_of_source),
    )
    orders = channel_orders(found.layout)
    try:
        wanted = _wanted(found)
    except IlvError as error:
        return {}, str(error)
    faults = []
    for name, read in sources if wanted else ():
        try:
            frames = {
                (camera, step): decode_image(data, channel_order=orders.get(camera, "rgb"))
                for (camera, step), data in read(found, wanted, data_dir).items()
            }
        except IlvError as error:
            faults.append(str(error))
            continue
        if frames:
            return frames, name
    if not wanted:
        return {}, "no frame of this span was looked at"
    return {}, faults[0] if faults else _NOT_AT_HAND


def _wanted(found: FoundSpan) -> set[Place]:
    places = {
        (thing.camera, thing.frame_index)
        for thing in found.row.objects
        if thing.camera is not None and thing.frame_index is not None
    }
    return places or {(probe.camera, probe.step) for probe in _probes(found)[:1]}


def _probes(found: FoundSpan) -> tuple[Probe, ...]:
    """The frames that a span is looked at in, as the scan found them; none of a broken span."""
    place = (found.row.record_index, found.row.span)
    for indexed in map(decode_indexed_span, read_dicts(found.layout.index(found.shard))):
        if (indexed.record_index, indexed.span.number) == place:
            return indexed.probes
    return ()


def _frames_of_steps(found: FoundSpan, wanted: Collection[Place], _: str | None) -> Encoded:
    """Encoded frames from the steps table."""
    path, row = found.layout.steps(found.shard), found.row
    if not files.exists(path):
        return {}
    there = set(read_schema(path).names)
    cameras = sorted({camera for camera, _ in wanted if camera in there})
    frames = {}
    for batch in read_batches(path, ["episode_id", "span", "step", *cameras], batch_rows=64):
        keys = batch.select(["episode_id", "span", "step"]).to_pylist()
        for position, key in enumerate(keys):
            if (key["episode_id"], key["span"]) != (row.episode_id, row.span):
                continue
            for camera in cameras:
                if (camera, key["step"]) in wanted:
                    image = batch.column(camera)[position].as_py()
                    frames[camera, key["step"]] = image["bytes"]
    return frames


def _frames_of_record(found: FoundSpan, wanted: Collection[Place], _: str | None) -> Encoded:
    """Encoded frames from the span's RLDS record."""
    path, row = found.layout.rlds_shard(found.shard), found.row
    # Boxes are of the source's frames, and that layout has others.
    is_resized = read_plan(found.layout).get("--layout") == INTERLEAVE_VLA_LAYOUT
    if is_resized or not files.exists(path):
        return {}
    identity = [row.episode_id.encode()]
    with files.open_read(path) as file, files.naming_path(path):
        for record in read_records(file, size=files.file_size(path) or 0):
            if not isinstance(record, RawRecord):
                raise RecordError(record.reason, f"{path}: record {record.index} is broken")
            example = parse_example(record.payload)
            spans = example.get(f"{GROUP}/span", ())
            if list(example.get(f"{GROUP}/episode_id", ())) != identity or row.span not in spans:
                continue
            frames = {}
            for camera, step in wanted:
                values = example.get(f"steps/{camera}")
                if isinstance(values, BytesValues) and 0 <= step - row.step_start < len(values):
                    frames[camera, step] = values[step - row.step_start]
            return frames
    return {}


def _frames_of_source(found: FoundSpan, wanted: Collection[Place], data_dir: str | None) -> Encoded:
    """Encoded frames from the shard that was converted, where it is as it was scanned."""
    path = _source_path(found.layout, found.row, data_dir)
    if not path or files.file_size(path) is None:
        return {}
    check_source(found.layout, found.shard, path)
    frames = {}
    with files.open_read(path) as file, files.naming_path(path):
        for probe in _probes(found):
            if (probe.camera, probe.step) in wanted:
                file.seek(probe.offset)
                frames[probe.camera, probe.step] = file.read(probe.length)
    return frames


def find_source(layout: Layout, data_dir: str | None) -> tuple[DatasetSpec, str]:
    """The dataset that was converted, as the registry has it, and the folder that it is in.

    Raises: ConfigError where it is not there.
    """
    registered = (spec for spec in list_datasets() if spec.tfds_name == layout.dataset)
    spec = replace(next(registered, unregistered(layout.dataset)), version=layout.version)
    folder = resolve_data_dir(spec, data_dir, exists=files.exists, list_names=files.list_names)
    return spec, folder


def check_source(layout: Layout, shard: ShardKey, path: str) -> None:
    """Raises: StorageError where a source shard is not as it was scanned."""
    size, scanned = files.file_size(path), peek_marker(layout, "parse", shard)
    if scanned is None or scanned.inputs.get("source") != str(size):
        raise StorageError(f"{path} is not the file that was scanned")


def _source_path(layout: Layout, row: EpisodeRow, data_dir: str | None) -> str:
    """The source shard of a span; empty where nobody knows its folder."""
    try:
        _, folder = find_source(layout, data_dir)
    except ConfigError:
        return ""
    return files.join_path(folder, row.source_shard)
