"""What `inspect` looks up: an overview of a dataset, and the frames that a span was cut from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ilv_dataset.crops import decode_image
from ilv_dataset.errors import IlvError, RecordError
from ilv_dataset.formats import files
from ilv_dataset.formats.example import BytesValues, parse_example
from ilv_dataset.formats.features import decode_features
from ilv_dataset.formats.markers import Marker
from ilv_dataset.formats.rlds import GROUP
from ilv_dataset.formats.tables import EpisodeRow
from ilv_dataset.formats.tfrecord import RawRecord, read_records
from ilv_dataset.layout import Layout
from ilv_dataset.lookups import FoundSpan, interleaved_rows
from ilv_dataset.outputs import (
    channel_orders,
    list_shards,
    read_batches,
    read_plan,
    read_run,
    read_schema,
    read_shard_marker,
)
from ilv_dataset.records import ShardKey

_NUM_EXAMPLES = 3

Frames = Mapping[tuple[str, int], np.ndarray]  # (camera, frame index) -> (H, W, 3) uint8 RGB


def describe_output(layout: Layout, *, limit: int) -> dict[str, Any]:
    """An overview of one dataset; reads run.json, `limit` markers a stage, and a footer a table.

    Raises: StorageError.
    """
    run, shards = read_run(layout), list_shards(layout)
    plan = run.get("config") if run else read_plan(layout)
    shown = [_describe_shard(layout, shard) for shard in shards[:limit]]
    return {
        "dataset": layout.dataset,
        "version": layout.version,
        "path": layout.root,
        "complete": run is not None,
        "formats": (run or {}).get("formats", []),
        "config": plan if isinstance(plan, dict) else {},
        "account": (run or {}).get("account"),
        "num_shards": len(shards),
        "shards": shown,
        "schema": _schemas(layout, shards),
        "examples": [
            {"id": row.span_id, "instruction": row.instruction, "interleaved": row.interleaved}
            for row in _some_interleaved(layout, shards[:limit])
        ],
    }


def load_frames(found: FoundSpan) -> tuple[Frames, str]:
    """The frames in which objects of a span were found, channels in RGB order.

    Returns: those that are there, and where they are from, or why there are none.
    """
    wanted = {
        (thing.camera, thing.frame_index)
        for thing in found.row.objects
        if thing.camera is not None and thing.frame_index is not None
    }
    if not wanted:
        return {}, "no object of this span was found in a frame"
    layout, shard = found.layout, found.shard
    sources = (
        ("from the steps table", layout.steps(shard), _frames_of_steps),
        ("from the RLDS shards", layout.rlds_shard(shard), _frames_of_record),
    )
    reason = "frames are in the steps table or the RLDS shards, and neither was written"
    for name, path, read in sources:
        if not files.exists(path):
            continue
        orders = channel_orders(layout)
        try:
            encoded = read(path, found.row, wanted)
            frames = {
                (camera, step): decode_image(data, channel_order=orders.get(camera, "rgb"))
                for (camera, step), data in encoded.items()
            }
        except IlvError as error:
            reason = str(error)
            continue
        if frames:
            return frames, name
        reason = f"{path} does not hold this span"
    return {}, reason


def _describe_shard(layout: Layout, shard: ShardKey) -> dict[str, Any]:
    markers = {stage: read_shard_marker(layout, stage, shard) for stage in ("parse", "ground")}
    written = {stage: read_shard_marker(layout, stage, shard) for stage in ("steps", "rlds")}
    counts = {name: _count(markers["ground"], name) for name in _STATUS_COLUMNS}
    sizes = [f.num_bytes for m in (markers["ground"], *written.values()) if m for f in m.files]
    return {
        "shard": shard.name,
        "episodes": _count(markers["parse"], "episodes"),
        "spans": _count(markers["parse"], "spans"),
        **counts,
        "steps": _count(written["steps"], "steps"),
        "records": _count(written["rlds"], "records"),
        "bytes": sum(size for size in sizes if isinstance(size, int)),
    }


_STATUS_COLUMNS = ("interleaved", "text_only", "rejected", "failed")


def _count(marker: Marker | None, name: str) -> int | None:
    return None if marker is None else marker.counts.get(name, 0)


def _schemas(layout: Layout, shards: Sequence[ShardKey]) -> dict[str, dict[str, str]]:
    """Columns and their types, of the first file of each table; features of the RLDS records."""
    paths = {"instructions": layout.instructions}
    if shards:
        paths |= {"episodes": layout.episodes(shards[0]), "steps": layout.steps(shards[0])}
    schemas = {
        name: {field.name: _short_type(field.type) for field in read_schema(path)}
        for name, path in paths.items()
        if files.exists(path)
    }
    path = files.join_path(layout.rlds_folder, "features.json")
    if files.exists(path):
        text = files.read_bytes(path).decode("utf-8", "replace")
        schemas["rlds"] = {
            f.path: f"{f.kind} {f.dtype}{list(f.shape) if f.shape else ''}"
            for f in decode_features(text)
        }
    return schemas


def _short_type(kind: pa.DataType) -> str:
    """An Arrow type as people write it: image, list<image>, float32[7]."""
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        return "image" if names == ["bytes", "path"] else f"struct<{', '.join(names)}>"
    if pa.types.is_fixed_size_list(kind):
        return f"{_short_type(kind.value_type)}[{kind.list_size}]"
    if pa.types.is_list(kind):
        return f"list<{_short_type(kind.value_type)}>"
    return {"float": "float32", "double": "float64", "halffloat": "float16"}.get(
        str(kind), str(kind)
    )


def _some_interleaved(layout: Layout, shards: Sequence[ShardKey]) -> list[EpisodeRow]:
    for shard in shards:
        rows = [
            row
            for _, row in zip(range(_NUM_EXAMPLES), interleaved_rows(layout, shard), strict=False)
        ]
        if rows:
            return rows
    return []


def _frames_of_steps(
    path: str, row: EpisodeRow, wanted: Collection[tuple[str, int]]
) -> dict[tuple[str, int], bytes]:
    """Encoded frames from the steps table."""
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


def _frames_of_record(
    path: str, row: EpisodeRow, wanted: Collection[tuple[str, int]]
) -> dict[tuple[str, int], bytes]:
    """Encoded frames from the span's RLDS record."""
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
