"""Progress of a stage, counted from the markers and from small notes of shards under way.

Beam's local runner reports no live metrics, so a worker notes how many records of its shard it
has done in OUT/.tmp, and the launcher adds the notes to what the markers say.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ilv_dataset.errors import StorageError
from ilv_dataset.formats import files
from ilv_dataset.formats.atomic import TEMPORARY_FOLDER
from ilv_dataset.jobs import Job
from ilv_dataset.selection import ShardPlan

NOTE_EVERY_S = 0.5
LOOK_EVERY_S = {False: 0.5, True: 15.0}  # local, behind a scheme
LINE_EVERY_S = 10.0  # where there is no terminal

T = TypeVar("T")


def noting_progress(rows: Iterable[T], *, job: Job, stage: str, shard: ShardPlan) -> Iterator[T]:
    """Passes rows on and notes how many have gone by; does nothing behind a scheme.

    Raises: StorageError, e.g. on a full disk.
    """
    if files.is_remote(job.layout.out):
        yield from rows
        return
    note = _notes_folder(job, stage) / shard.key.name
    due = 0.0
    for num_done, row in enumerate(rows, start=1):
        yield row
        if time.monotonic() >= due:
            with files.naming_path(str(note)):
                note.parent.mkdir(parents=True, exist_ok=True)
                note.write_text(str(num_done))
            due = time.monotonic() + NOTE_EVERY_S


@contextlib.contextmanager
def showing_progress(
    job: Job, stages: Sequence[str], label: str, *, detail: Callable[[], str] = lambda: ""
) -> Iterator[None]:
    """Shows on stderr how far the stages are, while the block runs; `detail` as below."""
    total = sum(shard.num_selected for shard in job.shards)
    look_every_s = LOOK_EVERY_S[files.is_remote(job.layout.out)]
    count = functools.partial(count_done, job, stages)
    with showing_count(count, total, label, detail=detail, look_every_s=look_every_s):
        yield


@contextlib.contextmanager
def showing_count(
    count: Callable[[], int],
    total: int,
    label: str,
    *,
    unit: str = "episodes",
    detail: Callable[[], str] = lambda: "",
    look_every_s: float = LOOK_EVERY_S[False],
) -> Iterator[None]:
    """Shows on stderr how many of `total` episodes are done, with a rate and what is left.

    A bar on a terminal, a line now and then elsewhere, while the block runs.

    Args:
        detail: what else there is to say, asked anew each time.
    """
    done = threading.Event()
    unit = unit.removesuffix("s") if total == 1 else unit
    args = (_Count(count, total, label, unit, detail), done, look_every_s)
    watcher = threading.Thread(target=_watch, args=args, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def count_done(job: Job, stages: Sequence[str]) -> int:
    """Records that are done, each as far as all the stages are through with it on average."""
    num_done = 0
    for stage in stages:
        committed = set(files.list_names(job.layout.markers(stage)))
        for shard in job.shards:
            if f"{shard.key.name}.json" in committed:
                num_done += shard.num_selected
            elif not files.is_remote(job.layout.out):
                num_done += min(_read_note(job, stage, shard), shard.num_selected)
    return num_done // len(stages)


@dataclass(frozen=True)
class _Count:
    """What is counted, and how it is called."""

    count: Callable[[], int]
    total: int
    label: str
    unit: str
    detail: Callable[[], str]


def _watch(shown: _Count, done: threading.Event, look_every_s: float) -> None:
    with contextlib.suppress(StorageError):  # the run meets the same failure, and reports it
        if sys.stderr.isatty():
            _show_bar(shown, done, look_every_s)
        else:
            _show_lines(shown, done)


def _notes_folder(job: Job, stage: str) -> Path:
    return Path(job.layout.out, TEMPORARY_FOLDER, "progress", job.layout.dataset, stage)


def _read_note(job: Job, stage: str, shard: ShardPlan) -> int:
    try:
        return int(_notes_folder(job, stage).joinpath(shard.key.name).read_text())
    except (OSError, ValueError):  # not begun, or being written
        return 0


def _show_bar(shown: _Count, done: threading.Event, look_every_s: float) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<7}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(shown.unit),
        TextColumn("{task.fields[rate]:>9.1f}/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    begun, first = time.monotonic(), shown.count()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(
            shown.label, total=shown.total, completed=first, rate=0.0, detail=shown.detail()
        )
        finished = False
        while not finished:
            finished = done.wait(look_every_s)
            num_done = shown.count()
            rate = (num_done - first) / max(time.monotonic() - begun, 1e-9)
            bar.update(task, completed=num_done, rate=rate, detail=shown.detail())


def _show_lines(shown: _Count, done: threading.Event) -> None:
    begun, first, finished = time.monotonic(), shown.count(), False
    while not finished:
        finished = done.wait(LINE_EVERY_S)
        num_done = shown.count()
        elapsed_s = time.monotonic() - begun
        rate = (num_done - first) / max(elapsed_s, 1e-9)
        left = max(0, shown.total - num_done)
        eta = f", {left / rate:,.0f} s left" if rate and not finished else ""
        said = shown.detail()
        detail = f"; {said}" if said else ""
        print(  # noqa: T201
            f"{shown.label}: {num_done:,} of {shown.total:,} {shown.unit}, {rate:,.1f}/s"
            f"{eta}{detail}",
            file=sys.stderr,
            flush=True,
        )
