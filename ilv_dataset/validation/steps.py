"""The steps table: one row a step of every written span, in order, with frames that decode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ilv_dataset.formats.parquet import IMAGE
from ilv_dataset.formats.tables import EpisodeRow
from ilv_dataset.outputs import count_rows, read_batches, read_schema
from ilv_dataset.records import ShardKey
from ilv_dataset.validation.faults import Report
from ilv_dataset.validation.frames import FrameCheck, check_frames, probed_objects
from ilv_dataset.validation.manifests import Manifest
from ilv_dataset.validation.spans import written_rows

_KEYS = {
    "episode_id": pa.string(),
    "span": pa.int32(),
    "step": pa.int32(),
    "language_instruction": pa.string(),
}
BATCH_ROWS = 64


def check_steps(manifest: Manifest, shard: ShardKey, report: Report, *, deep: bool) -> None:
    """Checks the steps of one shard against its episodes rows.

    Args:
        deep: decode every frame, not only those in which an object was found.
    """
    path = manifest.layout.steps(shard)
    with report.reading(path):
        schema = read_schema(path)
        for name, kind in _KEYS.items():
            if schema.get_field_index(name) < 0 or schema.field(name).type != kind:
                report.fault(path, f"has no column {name} of {kind}")
                return
        rows = list(written_rows(manifest.layout.episodes(shard), manifest, with_images=False))
        num_steps = sum(max(0, row.step_end - row.step_start) for row in rows)
        num_found = count_rows(path)
        if num_found != num_steps:
            report.fault(path, f"has {num_found} rows, expected {num_steps}")
        cameras = _image_columns(schema, rows, deep=deep)
        check_frames(path, _frames(path, rows, cameras, report, deep=deep), report)
        marker = manifest.markers["steps"].get(shard)
        counts = {"spans": len(rows), "steps": num_steps}
        if marker is not None and dict(marker.counts) != counts:
            report.fault(path, f"expected {counts}, its marker has {dict(marker.counts)}")


def _image_columns(schema: pa.Schema, rows: Sequence[EpisodeRow], *, deep: bool) -> list[str]:
    """The columns whose frames are decoded: all, or the cameras that have shown an object."""
    there = [field.name for field in schema if _is_image(field.type)]
    wanted = {camera for row in rows for camera, _ in probed_objects(row)}
    return [name for name in there if deep or name in wanted]


def _frames(
    path: str, rows: Sequence[EpisodeRow], cameras: Sequence[str], report: Report, *, deep: bool
) -> Iterator[FrameCheck]:
    """Goes through the rows, reports what is out of order, and yields the frames to decode."""
    expected = ((row, step) for row in rows for step in range(row.step_start, row.step_end))
    number = 0
    for batch in read_batches(path, [*_KEYS, *cameras], batch_rows=BATCH_ROWS):
        for position, key in enumerate(batch.select(list(_KEYS)).to_pylist()):
            row, step = next(expected, (None, 0))
            fault = _order_fault(key, row, step)
            if fault is not None or row is None:
                report.fault(path, fault or "", place=f"row {number}")
                return  # all that follows is shifted
            found = probed_objects(row)
            for camera in cameras:
                objects = tuple(found.pop((camera, step), ()))
                if deep or objects:
                    place = f"row {number} ({row.span_id}), {camera} of step {step}"
                    for encoded in _encoded_frames(batch.column(camera), position):
                        yield FrameCheck(place, encoded, objects)
            for camera in (camera for camera, index in found if index == step):
                report.fault(path, f"has no image column {camera}", place=f"row {number}")
            number += 1
        report.checked["steps"] += batch.num_rows


def _order_fault(key: Mapping[str, Any], row: EpisodeRow | None, step: int) -> str | None:
    found = f"step {key['step']} of {key['episode_id']}#{key['span']}"
    if row is None:
        return f"is {found}, expected no more rows"
    if (key["episode_id"], key["span"], key["step"]) != (row.episode_id, row.span, step):
        return f"is {found}, expected step {step} of {row.span_id}"
    if key["language_instruction"] != row.instruction:
        said = repr(key["language_instruction"])
        return f"has the instruction {said}, its span {row.instruction!r}"
    return None


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_image(kind.value_type)
    return kind == IMAGE


def _encoded_frames(column: pa.Array, position: int) -> Iterator[bytes]:
    """The bytes of a frame, or of all frames of a list; an image that is null has none."""
    waiting = [column[position].as_py()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        else:
            yield (value or {}).get("bytes") or b""
