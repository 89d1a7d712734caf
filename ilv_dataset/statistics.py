"""What a converted dataset holds, counted from its episodes table and its markers, streaming."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ilv_dataset.fields import DAMAGED_REASONS, STATUSES
from ilv_dataset.formats import files
from ilv_dataset.formats.markers import peek_marker
from ilv_dataset.layout import STAGES, Layout
from ilv_dataset.outputs import list_shards, read_dicts, read_run

# Leaves: pictures and masks are most of the bytes and tell nothing here.
_COLUMNS = (
    "source_shard",
    "span",
    "status",
    "reason",
    "images.list.element.path",
    *(
        f"objects.list.element.{name}"
        for name in ("phrase", "kind", "grounded", "camera", "frame_index", "box_score", "scale")
    ),
    "objects.list.element.reason",
    "step_start",
)
_NOT_SEEN = ("missing-shard", "missing-record")
PERCENTILES = (5, 25, 50, 75, 95)
TOP_PHRASES = 20


@dataclass
class SplitCounts:
    """The account of one split."""

    num_promised: int = 0  # episodes that dataset_info.json speaks of
    num_seen: int = 0  # episodes that there were
    by_status: Counter[str] = field(default_factory=Counter)


@dataclass
class Counts:
    """Everything that is counted of one dataset; grows with its vocabulary, not with its rows.

    Scores and scales take few distinct values (they are rounded, or 224 over whole pixels), so
    counters of them give exact percentiles.
    """

    splits: dict[str, SplitCounts] = field(default_factory=dict)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)  # (status, reason)
    damaged: set[str] = field(default_factory=set)  # source shards that fetching again may mend
    images: Counter[int] = field(default_factory=Counter)  # pictures of an interleaved span
    kinds: Counter[tuple[str, bool]] = field(default_factory=Counter)  # (kind, grounded)
    object_reasons: Counter[str] = field(default_factory=Counter)
    phrases: Counter[tuple[str, bool]] = field(default_factory=Counter)  # (phrase, grounded)
    cameras: Counter[str] = field(default_factory=Counter)  # that gave a crop
    frames: Counter[int] = field(default_factory=Counter)  # steps into the span, of a crop
    scores: Counter[float] = field(default_factory=Counter)
    scales: Counter[float] = field(default_factory=Counter)

    def add(self, split: str, row: Mapping[str, Any]) -> None:
        """Counts one row of the episodes table."""
        counts = self.splits.setdefault(split, SplitCounts())
        if row["span"] == 0:
            counts.num_promised += 1
            counts.num_seen += row["reason"] not in _NOT_SEEN
        counts.by_status[row["status"]] += 1
        if row["reason"]:
            self.reasons[row["status"], row["reason"]] += 1
        if row["reason"] in DAMAGED_REASONS:
            self.damaged.add(row["source_shard"])
        if row["status"] == "interleaved":
            self.images[len(row["images"])] += 1
        for found in row["objects"]:
            self._add_object(found, step_start=row["step_start"])

    def _add_object(self, found: Mapping[str, Any], *, step_start: int) -> None:
        self.kinds[found["kind"], found["grounded"]] += 1
        self.phrases[found["phrase"].lower(), found["grounded"]] += 1
        if not found["grounded"]:
            self.object_reasons[found["reason"]] += 1
            return
        self.cameras[found["camera"] or ""] += 1
        self.frames[(found["frame_index"] or 0) - step_start] += 1
        self.scores[round(found["box_score"] or 0.0, 3)] += 1
        self.scales[round(found["scale"] or 0.0, 3)] += 1


def count_output(
    layout: Layout, *, note: Callable[[str, int, int], None] = lambda _label, _done, _total: None
) -> Counts:
    """Counts the rows of all shards, some hundred in memory at a time.

    Raises: StorageError where a table cannot be read.
    """
    counts = Counts()
    shards = list_shards(layout)
    for number, shard in enumerate(shards):
        note(layout.dataset, number, len(shards))
        for row in read_dicts(layout.episodes(shard), _COLUMNS):
            counts.add(shard.split, row)
    return counts


def output_statistics(layout: Layout, counts: Counts) -> dict[str, Any]:
    """All figures of one dataset as JSON has them."""
    grounded_by_kind = _by_name(counts.kinds)
    num_objects = sum(counts.kinds.values())
    num_grounded = sum(grounded for _, grounded in grounded_by_kind.values())
    return {
        "dataset": layout.dataset,
        "version": layout.version,
        "path": layout.root,
        "complete": files.exists(layout.run),
        "account": {split: _account(found) for split, found in sorted(counts.splits.items())},
        "reasons": [
            {"status": status, "reason": reason, "spans": count}
            for (status, reason), count in _ranked(counts.reasons)
        ],
        "damaged_shards": sorted(counts.damaged),
        "objects": {
            "count": num_objects,
            "grounded": num_grounded,
            "by_kind": [
                {"kind": kind, "count": count, "grounded": grounded}
                for kind, (count, grounded) in _largest(grounded_by_kind)
            ],
            "by_reason": dict(_ranked(counts.object_reasons)),
            "distinct_phrases": len(_by_name(counts.phrases)),
            "top_phrases": [
                {"phrase": phrase, "count": count, "grounded": grounded}
                for phrase, (count, grounded) in _largest(_by_name(counts.phrases))[:TOP_PHRASES]
            ],
        },
        "images_per_span": {str(number): n for number, n in sorted(counts.images.items())},
        "crops": {
            "count": num_grounded,
            "scale": percentiles(counts.scales),
            "box_score": percentiles(counts.scores),
            "by_camera": dict(_ranked(counts.cameras)),
            "by_step_of_span": {str(step): n for step, n in sorted(counts.frames.items())},
        },
        "bytes": _sizes(layout),
    }


def percentiles(counts: Counter[float]) -> dict[str, float]:
    """Percentiles of counted values by the nearest rank; empty without values.

    >>> percentiles(Counter({1.0: 3, 8.0: 1}))["p75"], percentiles(Counter({1.0: 3, 8.0: 1}))["p95"]
    (1.0, 8.0)
    """
    total = sum(counts.values())
    ranks = {f"p{share}": max(1, -(-share * total // 100)) for share in PERCENTILES if total}
    found: dict[str, float] = {}
    seen = 0
    for value, count in sorted(counts.items()):
        seen += count
        for name, rank in ranks.items():
            if name not in found and seen >= rank:
                found[name] = value
    return found


def _account(counts: SplitCounts) -> dict[str, int]:
    return {
        "episodes_promised": counts.num_promised,
        "episodes_seen": counts.num_seen,
        "in": sum(counts.by_status.values()),
        **{status: counts.by_status[status] for status in STATUSES},
    }


def _by_name(counts: Counter[tuple[str, bool]]) -> dict[str, tuple[int, int]]:
    """Name -> (count, of these grounded)."""
    found: dict[str, tuple[int, int]] = {}
    for (name, grounded), count in counts.items():
        total, num_grounded = found.get(name, (0, 0))
        found[name] = (total + count, num_grounded + count * grounded)
    return found


def _largest(found: Mapping[str, tuple[int, int]]) -> list[tuple[str, tuple[int, int]]]:
    return sorted(found.items(), key=lambda item: (-item[1][0], item[0]))


def _ranked(counts: Counter[Any]) -> list[tuple[Any, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _sizes(layout: Layout) -> dict[str, int]:
    """Bytes of each kind of file, as run.json or else the markers have them."""
    sizes: Counter[str] = Counter()
    for path, num_bytes in _listed_sizes(layout):
        sizes[path.split("/")[0]] += num_bytes
    return dict(sorted(sizes.items()))


def _listed_sizes(layout: Layout) -> Iterator[tuple[str, int]]:
    run = read_run(layout)
    listed = run.get("files") if run else None
    if isinstance(listed, list):
        for file in listed:
            if isinstance(file, dict) and isinstance(file.get("num_bytes"), int):
                yield str(file.get("path")), file["num_bytes"]
        return
    for stage in STAGES:
        for shard in [None] if stage == "instructions" else list_shards(layout, stage):
            marker = peek_marker(layout, stage, shard)
            for summary in marker.files if marker else ():
                yield summary.path, summary.num_bytes
