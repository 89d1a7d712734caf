"""The tables of spans as a whole: instructions, index and episodes, shard by shard."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from ilv_dataset.episodes import IndexedSpan
from ilv_dataset.fields import DAMAGED_REASONS, STATUSES
from ilv_dataset.formats import tables
from ilv_dataset.formats.parquet import relative_path
from ilv_dataset.formats.tables import EpisodeRow
from ilv_dataset.formats.tfrecord import FOOTER_BYTES
from ilv_dataset.outputs import count_rows, read_dicts
from ilv_dataset.records import ParsedInstruction, ShardKey
from ilv_dataset.validation.faults import Report
from ilv_dataset.validation.manifests import WHOLE, Manifest
from ilv_dataset.validation.rows import (
    check_schema,
    coverage_faults,
    image_fault,
    index_faults,
    instruction_faults,
    parsed_faults,
    read_checked,
    row_faults,
)

_WITHOUT_IMAGES = tuple(name for name in tables.EPISODES_SCHEMA.names if name != "images")


@dataclass
class Spans:
    """Checks the tables of spans; remembers what must be unique over all shards."""

    manifest: Manifest
    intact: frozenset[str]  # relative paths of the files that may be read
    report: Report
    parsed: Mapping[str, ParsedInstruction] | None = None  # None where that table is damaged
    shard_files: dict[str, str] = field(default_factory=dict)  # source shard -> episodes file
    instructions: set[str] = field(default_factory=set)  # that spans have
    num_read: int = 0  # shards

    def check_instructions(self) -> None:
        """Checks the instructions table and keeps it for the rows that refer to it."""
        path = self.manifest.layout.instructions
        if not self._is_table(path, tables.INSTRUCTIONS_SCHEMA):
            return
        parsed: dict[str, ParsedInstruction] = {}
        before = ""
        for number, row in read_checked(path, self.report):
            instruction = tables.decode_instruction(row)
            for message in instruction_faults(instruction):
                self.report.fault(path, message, place=f"row {number}")
            if parsed and instruction.instruction <= before:
                message = f"{instruction.instruction!r} is there twice, or not in order"
                self.report.fault(path, message, place=f"row {number}")
            before = instruction.instruction
            parsed[before] = instruction
        marker = self.manifest.markers[WHOLE].get(None)
        rejected = sum(found.status == "rejected" for found in parsed.values())
        fallback = sum(bool(found.fallback) for found in parsed.values())
        counts = {"instructions": len(parsed), "rejected": rejected, "fallback": fallback}
        if marker is not None and dict(marker.counts) != counts:
            self.report.fault(path, f"has {counts}, its marker {dict(marker.counts)}")
        self.parsed = parsed
        self.report.checked["instructions"] += len(parsed)

    def check_unused(self) -> None:
        """Checks that every row of the instructions table is of a span; call it last."""
        if self.num_read < len(self.manifest.shards):
            return
        for instruction in sorted((self.parsed or {}).keys() - self.instructions):
            message = f"no span has the instruction {instruction!r}"
            self.report.fault(self.manifest.layout.instructions, message)

    def check_shard(self, shard: ShardKey) -> bool:
        """Checks the index and the rows of one shard.

        Returns: whether the rows could all be read, so that others can be compared with them.
        """
        layout = self.manifest.layout
        path, index_path = layout.episodes(shard), layout.index(shard)
        index: Iterator[IndexedSpan] = iter(())
        if self._is_table(index_path, tables.INDEX_SCHEMA) and self._check_index(index_path, shard):
            index = map(tables.decode_indexed_span, read_dicts(index_path))
        if not self._is_table(path, tables.EPISODES_SCHEMA):
            return False
        counts: dict[str, int] = dict.fromkeys(STATUSES, 0)
        seen: set[str] = set()
        num_rows = 0
        for number, row in self._rows(path):
            num_rows += 1
            for name in (row.status, f"{row.status}:{row.reason}" if row.reason else ""):
                counts |= {name: counts.get(name, 0) + 1} if name else {}
            for message in self._row_faults(row, shard, path, seen, next(index, None)):
                self.report.fault(path, message, place=f"row {number} ({row.span_id})")
        self._check_counts(path, "ground", shard, counts)
        parse = self.manifest.markers["parse"].get(shard)
        if parse is not None and parse.counts.get("spans") != num_rows:
            message = f"has {num_rows} rows, the index {parse.counts.get('spans')}"
            self.report.fault(path, message)
        self.report.checked["spans"] += num_rows
        is_readable = num_rows == count_rows(path)
        self.num_read += is_readable
        return is_readable

    def _rows(self, path: str) -> Iterator[tuple[int, EpisodeRow]]:
        """Rows whose pictures have been looked at."""
        for number, row in read_checked(path, self.report):
            episode = tables.decode_episode(row)
            for position, image in enumerate(row["images"]):
                self.report.checked["crops"] += 1
                expected = f"{episode.span_id}-{position}.jpg"
                fault = image_fault(image["bytes"])
                if fault is None and image["path"] != expected:
                    fault = f"is called {image['path']!r}, expected {expected!r}"
                if fault is not None:
                    place = f"row {number} ({episode.span_id}), image {position}"
                    self.report.fault(path, fault, place=place)
            yield number, episode

    def _row_faults(
        self,
        row: EpisodeRow,
        shard: ShardKey,
        path: str,
        seen: set[str],
        indexed: IndexedSpan | None,
    ) -> Iterator[str]:
        if row.span_id in seen:
            yield "the id is there twice"
        seen.add(row.span_id)
        other = self.shard_files.setdefault(row.source_shard, path)
        if other != path:
            yield f"its source shard is that of {other}"
        if (row.dataset, row.split) != (self.manifest.layout.dataset, shard.split):
            yield f"is of dataset {row.dataset!r}, split {row.split!r}"
        parsed = None if self.parsed is None else self.parsed.get(row.instruction)
        if parsed is not None:
            self.instructions.add(row.instruction)
        yield from row_faults(row)
        if self.parsed is not None:
            yield from parsed_faults(row, parsed)
        if indexed is not None:
            yield from index_faults(indexed, row)

    def _check_index(self, path: str, shard: ShardKey) -> bool:
        """Whether the index could be read in full."""
        counts = {"spans": 0, "episodes": 0, "damaged": 0, "missing": 0}
        rows = (tables.decode_indexed_span(row) for _, row in read_checked(path, self.report))
        expected = end = 0
        is_whole = self.manifest.plan.get("--max-episodes", 0) is None
        for record, group in itertools.groupby(rows, key=lambda span: span.record_index):
            spans = list(group)
            end = max(end, spans[0].offset + spans[0].length + FOOTER_BYTES)
            is_whole = is_whole and spans[0].length > 0
            if record != expected:
                self.report.fault(path, f"expected record {expected}", place=f"record {record}")
            expected = record + 1
            counts["spans"] += len(spans)
            counts["episodes"] += 1
            counts["damaged"] += sum(span.reason in DAMAGED_REASONS for span in spans)
            counts["missing"] += sum(span.reason == "missing-shard" for span in spans)
            for message in coverage_faults(spans):
                self.report.fault(path, message, place=f"record {record}")
        self._check_counts(path, "parse", shard, counts)
        marker = self.manifest.markers["parse"].get(shard)
        source = str(marker.inputs.get("source")) if marker is not None else ""
        if source.isdecimal() and (
            int(source) != end if is_whole else int(source) < end - FOOTER_BYTES
        ):
            message = f"its records end at byte {end} of a source of {source} bytes"
            self.report.fault(path, message)
        self.report.checked["episodes"] += counts["episodes"]
        return counts["spans"] == count_rows(path)

    def _check_counts(
        self, path: str, stage: str, shard: ShardKey, counts: Mapping[str, int]
    ) -> None:
        marker = self.manifest.markers[stage].get(shard)
        if marker is not None and dict(marker.counts) != dict(counts):
            self.report.fault(path, f"has {dict(counts)}, its marker {dict(marker.counts)}")

    def _is_table(self, path: str, schema: pa.Schema) -> bool:
        is_intact = relative_path(path, self.manifest.layout.root) in self.intact
        return is_intact and check_schema(path, schema, self.report)


def written_rows(path: str, manifest: Manifest, *, with_images: bool) -> Iterator[EpisodeRow]:
    """The rows of the spans that steps and rlds hold, in order.

    Raises: StorageError.
    """
    for row in read_dicts(path, None if with_images else _WITHOUT_IMAGES):
        if row["status"] in manifest.written_statuses:
            yield tables.decode_episode({"images": [], **row})
