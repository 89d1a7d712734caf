"""What `inspect` shows of a dataset as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ilv_dataset.fields import STATUSES
from ilv_dataset.formats import files
from ilv_dataset.formats.features import decode_features
from ilv_dataset.formats.markers import Marker, peek_marker
from ilv_dataset.formats.tables import EpisodeRow
from ilv_dataset.layout import Layout
from ilv_dataset.lookups import interleaved_rows
from ilv_dataset.outputs import list_shards, read_plan, read_run, read_schema
from ilv_dataset.records import ShardKey

_NUM_EXAMPLES = 3
_STAGES = ("parse", "ground", "steps", "rlds")  # with a marker a shard


def describe_output(layout: Layout, *, limit: int) -> dict[str, Any]:
    """An overview of one dataset; reads run.json, `limit` markers a stage, and a footer a table.

    Raises: StorageError.
    """
    run, grounded = read_run(layout), list_shards(layout)
    shards = sorted({*list_shards(layout, "parse"), *grounded})
    plan = run.get("config") if run else read_plan(layout)
    markers = {
        shard: {stage: peek_marker(layout, stage, shard) for stage in _STAGES}
        for shard in shards[:limit]
    }
    damaged = [
        path
        for shard, found in markers.items()
        for stage in _STAGES
        if found[stage] is None and files.exists(path := layout.marker(stage, shard))
    ]
    return {
        "dataset": layout.dataset,
        "version": layout.version,
        "path": layout.root,
        "complete": run is not None and not damaged,
        "damaged": damaged,
        "formats": (run or {}).get("formats", []),
        "config": plan if isinstance(plan, dict) else {},
        "account": (run or {}).get("account"),
        "num_shards": len(shards),
        "shards": [_describe_shard(shard, found) for shard, found in markers.items()],
        "schema": _schemas(layout, grounded),
        "examples": [
            {"id": row.span_id, "instruction": row.instruction, "interleaved": row.interleaved}
            for row in _some_interleaved(layout, grounded[:limit])
        ],
    }


def _describe_shard(shard: ShardKey, markers: Mapping[str, Marker | None]) -> dict[str, Any]:
    counts = {name: _count(markers["ground"], name) for name in STATUSES}
    written = [markers[stage] for stage in ("ground", "steps", "rlds")]
    return {
        "shard": shard.name,
        "episodes": _count(markers["parse"], "episodes"),
        "spans": _count(markers["parse"], "spans"),
        **counts,
        "steps": _count(markers["steps"], "steps"),
        "records": _count(markers["rlds"], "records"),
        "bytes": sum(file.num_bytes for marker in written if marker for file in marker.files),
    }


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
