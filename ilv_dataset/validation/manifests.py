"""What a run says it wrote: plan.json, run.json and the markers, and whether they agree."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ilv_dataset.errors import IlvError, StorageError
from ilv_dataset.fields import ILV_LAYOUT
from ilv_dataset.formats import files
from ilv_dataset.formats.atomic import FileSummary
from ilv_dataset.formats.markers import Marker, decode_marker, sum_counts
from ilv_dataset.formats.parquet import relative_path
from ilv_dataset.layout import STAGES, Layout
from ilv_dataset.outputs import parse_shard_name, read_json
from ilv_dataset.records import ShardKey
from ilv_dataset.reports import make_account
from ilv_dataset.validation.faults import Report

WHOLE = "instructions"  # the stage with one marker for all shards
_STAGE_OF_FORMAT = {"parquet": "steps", "rlds": "rlds"}
_COUNTED_AS = {"instructions": "instructions", "ground": "episodes"}  # in run.json
_UPSTREAM = {"ground": "parse", "steps": "ground", "rlds": "ground"}
_CRC32C = re.compile(r"[0-9a-f]{8}")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_VERSION = re.compile(r"\d+(\.\w+)*([+!-][\w.]+)?")
_SOURCE_SIZE = re.compile(r"None|\d+")

Markers = Mapping[str, Mapping[ShardKey | None, Marker]]  # by stage


@dataclass(frozen=True)
class Manifest:
    """What should be there, as far as plan.json, run.json and the markers tell."""

    layout: Layout
    plan: Mapping[str, Any]
    stages: tuple[str, ...]  # those of STAGES that were run
    shards: tuple[ShardKey, ...]
    markers: Markers
    files: Mapping[str, FileSummary]  # by path relative to the root

    @property
    def written_statuses(self) -> frozenset[str]:
        """Statuses of the spans that steps and rlds hold."""
        include = self.plan.get("--include")
        extra = include if isinstance(include, list) else []
        return frozenset(("interleaved", *(name for name in extra if isinstance(name, str))))

    @property
    def rlds_layout(self) -> str:
        """One of fields.LAYOUTS."""
        return str(self.plan.get("--layout", ILV_LAYOUT))

    @property
    def max_images(self) -> int:
        """How many pictures each step has, where the layout has room for so many."""
        number = self.plan.get("--max-images")
        return number if isinstance(number, int) else 1

    def paths(self, stage: str, shard: ShardKey | None) -> str:
        """The file that a stage writes for a shard."""
        return stage_path(self.layout, stage, shard)


def stage_path(layout: Layout, stage: str, shard: ShardKey | None) -> str:
    """The file that a stage writes for a shard."""
    if shard is None:
        return layout.instructions
    of_shard = {
        "parse": layout.index,
        "ground": layout.episodes,
        "steps": layout.steps,
        "rlds": layout.rlds_shard,
    }
    return of_shard[stage](shard)


def read_manifest(layout: Layout, report: Report) -> Manifest:
    """Reads what the run says of itself, and reports where that does not agree."""
    plan = _read_manifest_json(layout.plan, report)
    markers = {stage: dict(_read_markers(layout, stage, report)) for stage in STAGES}
    if files.exists(layout.run):
        run = _read_manifest_json(layout.run, report)
    else:
        report.fault(layout.run, f"missing: the run is not complete; {_next_step(markers)}")
        run = {}
    listed = _listed_files(layout, run, report)
    of_markers = {
        file.path: file for found in markers.values() for m in found.values() for file in m.files
    }
    shards = _all_shards(markers, listed)
    manifest = Manifest(
        layout=layout,
        plan=plan,
        stages=_stages(run, markers),
        shards=shards,
        markers=markers,
        files={**listed, **of_markers},
    )
    if any(markers.values()):
        _check_missing(manifest, report)
        for stage, key, message in _input_faults(manifest):
            report.fault(layout.marker(stage, key), message)
    else:
        report.fault(files.join_path(layout.root, ".state"), "missing: no shard is committed")
    if run:
        for message in _run_faults(run, manifest, listed, of_markers):
            report.fault(layout.run, message)
    return manifest


def _next_step(markers: Markers) -> str:
    """What to do about a run that is not complete, also where its steps are run one by one."""
    if not markers[WHOLE] or markers["steps"] or markers["rlds"]:
        return "run the same command again"
    is_grounded = markers["ground"].keys() == markers["parse"].keys()
    return f"run the same command again, or `ilv {'write' if is_grounded else 'ground'}` next"


def _read_manifest_json(path: str, report: Report) -> dict[str, Any]:
    """A JSON object; empty where there is none, which is a fault."""
    content: dict[str, Any] = {}
    if not files.exists(path):
        report.fault(path, "missing")
        return content
    with report.reading(path):
        content = read_json(path)
        _check_form(path, content, report)
    return content


def _check_form(path: str, content: Mapping[str, Any], report: Report) -> None:
    """A byte that was changed without changing a value still shows in the form."""
    form = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
    if files.read_bytes(path) != form:
        report.fault(path, "not in the form in which it was written: it has been changed")


def _read_markers(
    layout: Layout, stage: str, report: Report
) -> Iterator[tuple[ShardKey | None, Marker]]:
    for name in files.list_names(layout.markers(stage)):
        if not name.endswith(".json"):
            continue  # an index; whether it belongs there is asked of every file
        key = parse_shard_name(name)
        path = files.join_path(layout.markers(stage), name)
        if name != "all.json" if stage == WHOLE else key is None:
            report.fault(path, "not the name of a marker")
            continue
        with report.reading(path):
            marker = decode_marker(path, files.read_bytes(path))
            _check_form(path, read_json(path), report)
            if fault := _marker_fault(layout, stage, key, marker):
                raise StorageError(fault)
            yield key, marker


def _marker_fault(layout: Layout, stage: str, key: ShardKey | None, marker: Marker) -> str | None:
    expected = relative_path(stage_path(layout, stage, key), layout.root)
    named = [str(file.path) for file in marker.files]
    if named != [expected]:
        return f"names the files {named}, expected {expected}"
    if not _is_summary(marker.files[0]):
        return f"{expected} has the size {marker.files[0].num_bytes!r}, CRC32C " + repr(
            marker.files[0].crc32c
        )
    if any(count < 0 for count in marker.counts.values()):
        return f"counts below zero: {dict(marker.counts)}"
    return None


def _is_summary(file: FileSummary) -> bool:
    is_size = isinstance(file.num_bytes, int) and file.num_bytes >= 0
    is_crc = isinstance(file.crc32c, str) and _CRC32C.fullmatch(file.crc32c) is not None
    return isinstance(file.path, str) and is_size and is_crc


def _listed_files(layout: Layout, run: Mapping[str, Any], report: Report) -> dict[str, FileSummary]:
    """The files that run.json lists, by path."""
    entries = run.get("files", [])
    listed = {}
    for entry in entries if isinstance(entries, list) else []:
        try:
            file = FileSummary(**entry)
        except TypeError:
            file = FileSummary("", -1, "")
        if _is_summary(file) and not {"..", ""} & set(file.path.split("/")):
            listed[file.path] = file
        else:
            report.fault(layout.run, f"not the entry of a file: {entry!r}")
    return listed


def _all_shards(markers: Markers, listed: Mapping[str, FileSummary]) -> tuple[ShardKey, ...]:
    keys = {key for found in markers.values() for key in found}
    for path in listed:
        folder, _, name = path.rpartition("/")
        if folder in ("episodes", "steps"):
            keys.add(parse_shard_name(name))
    return tuple(sorted(key for key in keys if key is not None))


def _stages(run: Mapping[str, Any], markers: Markers) -> tuple[str, ...]:
    formats = run.get("formats")
    named = [_STAGE_OF_FORMAT.get(str(f)) for f in formats] if isinstance(formats, list) else []
    return tuple(
        stage
        for stage in STAGES
        if stage in named or markers[stage] or (run and stage in ("parse", WHOLE, "ground"))
    )


def _check_missing(manifest: Manifest, report: Report) -> None:
    for stage in manifest.stages:
        keys: Sequence[ShardKey | None] = (None,) if stage == WHOLE else manifest.shards
        for key in keys:
            path = manifest.layout.marker(stage, key)
            # One that is there and is no marker is a fault of its own.
            if key not in manifest.markers[stage] and not files.exists(path):
                report.fault(path, "missing: the shard is not committed")


def _input_faults(manifest: Manifest) -> Iterator[tuple[str, ShardKey | None, str]]:
    """Markers that say they were made from something else than what lies upstream now."""
    markers = manifest.markers
    for key, marker in markers["parse"].items():
        inputs = dict(marker.inputs)
        is_known = inputs.keys() - {"crc32c"} == {"source"}
        if not is_known or not _SOURCE_SIZE.fullmatch(str(inputs["source"])):
            yield "parse", key, f"made from {inputs}, expected the size of the source"
    for stage, upstream in _UPSTREAM.items():
        for key, marker in markers[stage].items():
            before = markers[upstream].get(key)
            if before and dict(marker.inputs) != {upstream: before.files[0].crc32c}:
                there = f"expected {upstream} with CRC32C {before.files[0].crc32c}"
                yield stage, key, f"made from {dict(marker.inputs)}, {there}"
    whole = markers[WHOLE].get(None)
    if whole and markers["parse"].keys() == set(manifest.shards):
        checksums = [markers["parse"][key].files[0].crc32c for key in manifest.shards]
        digest = hashlib.sha256("\n".join(checksums).encode()).hexdigest()
        if dict(whole.inputs) != {"indexes": digest}:
            yield WHOLE, None, f"made from {dict(whole.inputs)}, expected the indexes {digest}"


def _run_faults(
    run: Mapping[str, Any],
    manifest: Manifest,
    listed: Mapping[str, FileSummary],
    of_markers: Mapping[str, FileSummary],
) -> Iterator[str]:
    config = run.get("config")
    config = config if isinstance(config, dict) else {}
    for name in dict.fromkeys([*config, *manifest.plan] if manifest.plan else ()):
        said, planned = (repr(of[name]) if name in of else "not" for of in (config, manifest.plan))
        if said != planned:
            yield f"the option {name} is {said} here and {planned} in plan.json"
    formats = run.get("formats")
    if not isinstance(formats, list) or not set(map(str, formats)) <= set(_STAGE_OF_FORMAT):
        yield f"formats are {formats!r}, expected some of {', '.join(_STAGE_OF_FORMAT)}"
    versions = run.get("versions")
    named = versions.items() if isinstance(versions, dict) else [("versions", versions)]
    for name, version in named:
        is_named = isinstance(version, str) and _VERSION.fullmatch(version) is not None
        if not is_named or not _NAME.fullmatch(name):
            yield f"{name!r} has the version {version!r}"
    if not any(manifest.markers.values()):
        return
    index_folder = relative_path(manifest.layout.markers("parse"), manifest.layout.root)
    for path, file in of_markers.items():
        if path in listed and listed[path] != file:
            found = listed[path]
            yield f"{path} has {found.num_bytes} bytes and CRC32C {found.crc32c}, not as its marker"
        elif path not in listed and not path.startswith(f"{index_folder}/"):
            yield f"does not list {path}, which has a marker"
    yield from _count_faults(run, manifest)


def _count_faults(run: Mapping[str, Any], manifest: Manifest) -> Iterator[str]:
    """Sums over the markers, where every shard has its marker."""
    keys = {stage: set(manifest.markers[stage]) for stage in manifest.stages}
    if any(keys[stage] != ({None} if stage == WHOLE else set(manifest.shards)) for stage in keys):
        return
    sums = {
        _COUNTED_AS.get(stage, stage): sum_counts(list(manifest.markers[stage].values()))
        for stage in manifest.stages
        if stage != "parse"
    }
    if run.get("counts") != sums:
        yield f"counts are {run.get('counts')}, but the markers add up to {sums}"
    try:
        account = asdict(
            make_account(*(list(manifest.markers[s].values()) for s in ("parse", "ground")))
        )
    except IlvError as error:
        yield str(error)
        return
    if run.get("account") != account:
        yield f"the account is {run.get('account')}, but the markers add up to {account}"
