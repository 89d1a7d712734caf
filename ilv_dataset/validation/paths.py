"""Whether the files that were committed are there as they were written, and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import google_crc32c

from ilv_dataset.formats import files
from ilv_dataset.formats.atomic import FileSummary
from ilv_dataset.formats.parquet import relative_path
from ilv_dataset.layout import STAGES, Layout
from ilv_dataset.ledgers import is_account
from ilv_dataset.outputs import parse_shard_name
from ilv_dataset.validation.faults import Report
from ilv_dataset.validation.manifests import WHOLE, Manifest

CHUNK_BYTES = 4 << 20
RLDS_METADATA = ("dataset_info.json", "features.json")


def check_files(
    manifest: Manifest, report: Report, *, note: Callable[[str, int, int], None]
) -> frozenset[str]:
    """Checks sizes and checksums, and that nothing else lies beside the files.

    Returns: the relative paths of the files that are as they were written; no other is read.
    """
    intact = set()
    for number, (path, file) in enumerate(sorted(manifest.files.items())):
        note("files", number, len(manifest.files))
        fault = _file_fault(files.join_path(manifest.layout.root, path), file)
        if fault:
            report.fault(files.join_path(manifest.layout.root, path), fault)
        else:
            intact.add(path)
        report.checked["files"] += 1
        report.checked["bytes"] += file.num_bytes
    allowed = {*manifest.files, *_uncommitted(manifest)}
    for path in list_paths(manifest.layout):
        if path not in allowed:
            report.fault(files.join_path(manifest.layout.root, path), "in no marker: not committed")
    return frozenset(intact)


def list_paths(layout: Layout) -> Iterator[str]:
    """Relative paths of all files; a folder that has no place in an output is one entry."""
    rlds = relative_path(layout.rlds_folder, layout.root)
    states = [*(f".state/{stage}" for stage in STAGES), relative_path(layout.spent, layout.root)]
    folders = ["", "instructions", "episodes", "steps", ".state", *states]
    folders += ["rlds", rlds.rsplit("/", 1)[0], rlds]
    for folder in folders:
        within = files.join_path(layout.root, folder) if folder else layout.root
        with files.naming_path(within):
            names = files.list_names(within)
        for name in names:
            path = f"{folder}/{name}" if folder else name
            is_file = path not in folders or files.file_size(f"{within}/{name}") is not None
            if is_file:
                yield path


def _uncommitted(manifest: Manifest) -> Iterator[str]:
    """Files of our own that no marker lists."""
    root = manifest.layout.root
    layout = manifest.layout
    own = (layout.plan, layout.run, layout.distinct_instructions)
    spent = (files.join_path(layout.spent, name) for name in files.list_names(layout.spent))
    yield from (relative_path(path, root) for path in (*own, *filter(is_account, spent)))
    for name in RLDS_METADATA:
        yield relative_path(files.join_path(manifest.layout.rlds_folder, name), root)
    for stage in STAGES:
        folder = manifest.layout.markers(stage)
        for name in files.list_names(folder):
            is_marker = name == "all.json" if stage == WHOLE else parse_shard_name(name) is not None
            if is_marker and name.endswith(".json"):
                yield relative_path(files.join_path(folder, name), root)


def _file_fault(path: str, expected: FileSummary) -> str | None:
    size = files.file_size(path)
    if size is None:
        return "missing"
    if size != expected.num_bytes:
        return f"has {size} bytes, expected {expected.num_bytes}: run the same command again"
    crc = 0
    with files.open_read(path) as file, files.naming_path(path):
        while chunk := file.read(CHUNK_BYTES):
            crc = google_crc32c.extend(crc, chunk)
    found = f"{crc:08x}"
    if found == expected.crc32c:
        return None
    # A run looks at sizes alone, so it would take the file for whole.
    return (
        f"has CRC32C {found}, expected {expected.crc32c}: "
        "delete this file and run the same command again"
    )
