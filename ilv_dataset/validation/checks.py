"""All checks of one converted dataset, in an order in which each can trust the ones before."""

from __future__ import annotations

from collections.abc import Callable

from ilv_dataset.fields import INTERLEAVE_VLA_LAYOUT
from ilv_dataset.formats.parquet import relative_path
from ilv_dataset.layout import Layout
from ilv_dataset.messages import count_noun
from ilv_dataset.validation.builders import check_builder, check_columns, check_metadata
from ilv_dataset.validation.faults import Fault, Report
from ilv_dataset.validation.interleave_vla import check_interleave_vla
from ilv_dataset.validation.manifests import Manifest, read_manifest
from ilv_dataset.validation.paths import check_files
from ilv_dataset.validation.records import check_records
from ilv_dataset.validation.spans import Spans
from ilv_dataset.validation.steps import check_steps

Note = Callable[[str, int, int], None]  # what is being checked, how many are done, of how many


def validate_output(
    layout: Layout,
    *,
    deep: bool,
    say: Callable[[Fault], None],
    note: Note = lambda _label, _done, _total: None,
) -> tuple[int, str]:
    """Reads everything back; each fault is said when it is found, and the rest is still checked.

    A file whose bytes are not those that were written is a fault and is not read any further.

    Args:
        deep: decode every frame of every camera.

    Returns: the number of faults, and one line on what was checked.
    """
    report = Report(say)
    manifest = read_manifest(layout, report)
    intact = check_files(manifest, report, note=note)
    spans = Spans(manifest, intact, report)
    spans.check_instructions()
    faults_before = report.num_faults
    features = check_metadata(manifest, report) if "rlds" in manifest.stages else None
    is_sound = report.num_faults == faults_before
    for number, shard in enumerate(manifest.shards):
        note("shards", number, len(manifest.shards))
        has_rows = spans.check_shard(shard)
        has_steps = _is_intact(manifest, layout.steps(shard), intact)
        is_own = manifest.rlds_layout == INTERLEAVE_VLA_LAYOUT  # features of its own
        if has_steps and features is not None and not is_own:
            check_columns(layout.steps(shard), features, report)
        if has_steps and has_rows:
            check_steps(manifest, shard, report, deep=deep)
        if not _is_intact(manifest, layout.rlds_shard(shard), intact):
            continue
        if is_own:
            parsed = spans.parsed if has_rows else None
            check_interleave_vla(manifest, shard, features, report, parsed=parsed, deep=deep)
        else:
            options = {"has_rows": has_rows, "probed": not has_steps, "deep": deep}
            check_records(manifest, shard, features, report, **options)
    spans.check_unused()
    opened = ""
    if "rlds" in manifest.stages:
        opened = check_builder(manifest, report) if is_sound else "TFDS was not asked"
    return report.num_faults, _describe(layout, manifest, report, opened)


def _is_intact(manifest: Manifest, path: str, intact: frozenset[str]) -> bool:
    return relative_path(path, manifest.layout.root) in intact


def _describe(layout: Layout, manifest: Manifest, report: Report, opened: str) -> str:
    counted = report.checked
    spans = (
        f"{count_noun(counted['spans'], 'span')} of {count_noun(counted['episodes'], 'episode')}"
    )
    parts = [
        f"{count_noun(counted['files'], 'file')} of {counted['bytes'] / 1e6:,.1f} MB",
        f"{spans} in {count_noun(len(manifest.shards), 'shard')}",
        count_noun(counted["instructions"], "instruction"),
        count_noun(counted["crops"], "crop"),
        *([count_noun(counted["steps"], "step")] if "steps" in manifest.stages else []),
        *([count_noun(counted["records"], "RLDS record")] if "rlds" in manifest.stages else []),
        f"{count_noun(counted['frames'], 'frame')} decoded",
        *([opened] if opened else []),
    ]
    faults = count_noun(report.num_faults, "fault") if report.num_faults else "no fault"
    return f"{layout.dataset} {layout.version}: {', '.join(parts)}: {faults}"
