"""What `inspect`, `stats` and `validate` show in a terminal; plain text where there is none."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from ilv_dataset.canvases import COLOURS, clean
from ilv_dataset.crops import decode_image
from ilv_dataset.errors import RecordError
from ilv_dataset.fields import STATUSES
from ilv_dataset.formats.tables import EpisodeRow
from ilv_dataset.messages import command_line, count_noun, damaged_lines
from ilv_dataset.pictures import empty_text, mask_of, object_colours, object_facts
from ilv_dataset.span_frames import describe_steps

if TYPE_CHECKING:
    from rich.progress import TaskID

PLAIN_WIDTH = 200  # columns where no terminal says how many there are
PICTURE_COLUMNS = 28
LINE_EVERY_S = 10.0  # of progress where there is no terminal

Note = Callable[[str, int, int], None]


def open_console() -> Console:
    """Stdout; text of a dataset is never markup."""
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console = Console(markup=False, emoji=False, highlight=False, width=PLAIN_WIDTH)
    return console


def can_show_pictures(console: Console) -> bool:
    """Whether the terminal has enough colours for a picture."""
    return console.is_terminal and console.color_system in ("256", "truecolor")


@contextlib.contextmanager
def showing_count() -> Iterator[Note]:
    """Yields a function that is told (label, done, total), and shows it on stderr."""
    if not sys.stderr.isatty():
        yield _print_lines(time.monotonic() + LINE_EVERY_S)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def note(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bar.add_task(label, total=total)
            bar.update(tasks[label], completed=done + 1)

        yield note


def overview_parts(overview: Mapping[str, Any]) -> Iterator[RenderableType]:
    """An overview of a dataset, top to bottom."""
    state = "complete" if overview["complete"] else "not complete: run the same command again"
    yield Text(f"{overview['dataset']} {overview['version']}: {state}", style="bold")
    yield Text(f"in {overview['path']}")
    for path in overview["damaged"]:
        yield Text(f"{path}: damaged, so its shard is not complete")
    options = {n.lstrip("-"): v for n, v in overview["config"].items() if n.startswith("--") and v}
    for name, value in {"formats": overview["formats"], **options}.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield Text(f"  {name:<14} {clean(shown)}")
    account = overview["account"]
    if isinstance(account, dict):
        counts = account.get("by_status") or {}
        parts = " + ".join(f"{counts.get(status, 0):,} {status}" for status in STATUSES)
        yield Text(f"\n{account.get('num_in', 0):,} spans = {parts}")
    yield Text(f"\n{count_noun(overview['num_shards'], 'shard')}", style="bold")
    yield _shards_table(overview["shards"])
    if len(overview["shards"]) < overview["num_shards"]:
        left = overview["num_shards"] - len(overview["shards"])
        yield Text(f"  … and {left:,} more; --limit N shows more of them")
    for name, columns in overview["schema"].items():
        yield Text(f"\n{name}", style="bold")
        yield _pairs(columns)
    if overview["examples"]:
        yield Text("\nfor example", style="bold")
        yield _pairs({row["id"]: row["interleaved"] for row in overview["examples"]})
        shown = command_line("inspect", overview["path"], "--episode", "first")
        yield Text(f"\n{shown}")


def span_parts(
    console: Console,
    row: EpisodeRow,
    *,
    num_spans: int,
    frames_from: str,
    config: Mapping[str, Any],
) -> Iterator[RenderableType]:
    """Everything of one span, top to bottom; its crops where the console has the colours."""
    status = f"{row.status} ({row.reason})" if row.reason else row.status
    yield Text(f"{clean(row.span_id)}", style="bold")
    which = f"one of {num_spans}" if num_spans > 1 else "its only one"
    yield Text(f"span {row.span}, {which}, {describe_steps(row)}, {status}")
    if row.message:
        yield Text(clean(row.message))
    yield Text()
    yield _marked(row)
    if row.interleaved:
        yield Text(clean(row.interleaved), style="bold")
    if row.images and can_show_pictures(console):
        yield Padding(_picture_columns(row), (1, 0, 0, 0))
    if row.objects:
        yield Text()
        table = _objects_table(row)
        yield table if _natural_width(table) <= console.width else _objects_list(row)
        yield Text(f"\nframes: {clean(frames_from)}")
    names = ("--extractor", "--detector", "--segmenter", "--verifier", "ilv_dataset")
    options = ", ".join(f"{name.lstrip('-')} {config[name]}" for name in names if name in config)
    yield Text(clean(options))


def statistics_parts(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The figures of one dataset, top to bottom."""
    state = "" if found["complete"] else " (not complete)"
    yield Text(f"{found['dataset']} {found['version']}{state}", style="bold")
    yield Text(f"in {found['path']}\n")
    if found["account"]:
        yield _table([{"split": split, **counts} for split, counts in found["account"].items()])
    else:
        yield Text("no span is grounded yet: run the same command again, or `ilv ground` next")
    objects, crops = found["objects"], found["crops"]
    sections: list[tuple[str, list[dict[str, Any]]]] = [
        (count_noun(objects["count"], "object"), [_with_share(row) for row in objects["by_kind"]]),
        ("why objects stay text", _counted("reason", objects["by_reason"])),
        (
            f"{count_noun(objects['distinct_phrases'], 'distinct phrase')}, the most frequent",
            [_with_share(row) for row in objects["top_phrases"]],
        ),
        ("images a span", _counted("images", found["images_per_span"], bars=True)),
        (
            count_noun(crops["count"], "crop"),
            [{"": name, **crops[name]} for name in ("scale", "box_score") if crops[name]],
        ),
        ("cameras that gave a crop", _counted("camera", crops["by_camera"])),
        ("steps into the span", _counted("step", crops["by_step_of_span"], bars=True)),
        ("sizes", [{"": n, "MB": f"{size / 1e6:,.1f}"} for n, size in found["bytes"].items()]),
    ]
    yield from _section("why spans are not interleaved", found["reasons"])
    if lines := damaged_lines(found["damaged_shards"]):
        yield Text("\n".join(["", *lines]))
    for title, rows in sections:
        yield from _section(title, rows)


def _section(title: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """A table under its title; nothing where it has no row."""
    if rows:
        yield Text(f"\n{title}", style="bold")
        yield _table(rows)


def half_blocks(image: np.ndarray, *, columns: int) -> Text:
    """A picture (H, W, 3) uint8 RGB as coloured characters, two pixels each."""
    rows = max(1, round(columns * image.shape[0] / image.shape[1] / 2))
    small = Image.fromarray(image).resize((columns, 2 * rows), Image.Resampling.LANCZOS)
    pixels = np.asarray(small)
    text = Text()
    for top, bottom in zip(pixels[0::2], pixels[1::2], strict=True):
        for upper, lower in zip(top.tolist(), bottom.tolist(), strict=True):
            colours = ("#{:02x}{:02x}{:02x}".format(*colour) for colour in (upper, lower))
            text.append("▀", Style(color=next(colours), bgcolor=next(colours)))
        text.append("\n")
    text.rstrip()
    return text


def _print_lines(due: float) -> Note:
    def note(label: str, done: int, total: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + LINE_EVERY_S
            print(f"{label}: {done:,} of {total:,}", file=sys.stderr, flush=True)  # noqa: T201

    return note


def _marked(row: EpisodeRow) -> Text:
    """The instruction with its phrases in colour."""
    text = Text(clean(row.instruction) or f"({empty_text(row)})")
    colours = object_colours(row.objects)
    for found in row.objects:
        if row.instruction[found.start : found.end] == found.phrase:
            style = Style(color=colours.get(found.start), underline=True)
            text.stylize(style, found.start, found.end)
    return text


def _picture_columns(row: EpisodeRow) -> RenderableType:
    grounded = [found for found in row.objects if found.grounded]
    shown: list[RenderableType] = []
    for number, jpeg in enumerate(row.images):
        name = clean(grounded[number].phrase) if number < len(grounded) else ""
        try:
            picture = half_blocks(decode_image(jpeg), columns=PICTURE_COLUMNS)
        except RecordError:
            picture = Text("(does not decode)")
        caption = Text(name, style=COLOURS[number % len(COLOURS)])
        shown.append(Group(picture, caption))
    return Columns(shown, padding=(0, 2))


def _objects_table(row: EpisodeRow) -> Table:
    rows = []
    for found in row.objects:
        mask = mask_of(found)
        where = f"{found.camera} step {found.frame_index}" if found.grounded else ""
        box = " ".join(f"{edge:.1f}" for edge in found.box_xyxy or ())
        rows.append(
            {
                "phrase": found.phrase,
                "query": found.query,
                "kind": found.kind,
                "becomes": "picture" if found.grounded else f"text: {found.reason}",
                "frame": where,
                "box": box,
                "score": _number(found.box_score, 3),
                "mask px": "" if mask is None else f"{int(mask.sum()):,}",
                "mask score": _number(found.mask_score, 3),
                "scale": _number(found.scale, 2),
                "method": found.method or "",
                "verdict": found.verdict or "",
                "verifier": found.verifier or "",
            }
        )
    used = [name for name in rows[0] if any(row[name] for row in rows)]
    return _table([{name: row[name] for name in used} for row in rows])


def _natural_width(table: Table) -> int:
    """Columns of text that a table takes where nothing is folded."""
    widths = [
        max(len(str(cell)) for cell in (column.header, *column.cells)) for column in table.columns
    ]
    return sum(widths) + 2 * len(widths)


def _objects_list(row: EpisodeRow) -> Text:
    """The objects table for a narrow terminal: one fact below the other."""
    text = Text()
    colours = object_colours(row.objects)
    for found in row.objects:
        text.append(f"{clean(found.phrase)}\n", Style(color=colours.get(found.start), bold=True))
        for fact in object_facts(found):
            text.append(f"  {clean(fact)}\n")
    text.rstrip()
    return text


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _shards_table(shards: Sequence[Mapping[str, Any]]) -> Table:
    rows = [{**row, "bytes": f"{row['bytes'] / 1e6:,.1f} MB"} for row in shards]
    return _table(rows)


def _pairs(values: Mapping[str, str]) -> Table:
    return _table([{"": name, " ": value} for name, value in values.items()])


def _with_share(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "share": f"{row['grounded'] / max(1, row['count']):.0%}"}


def _counted(
    name: str, counts: Mapping[str, int], *, bars: bool = False
) -> list[dict[str, object]]:
    largest = max(counts.values(), default=1)
    return [
        {name: key, "count": n, **({" ": "█" * round(30 * n / largest)} if bars else {})}
        for key, n in counts.items()
    ]


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table without lines, for people and for `awk`; numbers to the right."""
    names = list(rows[0]) if rows else []
    table = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(map(str.strip, names))
    )
    for name in names:
        is_number = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row[name])) for name in names))
    return table


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else clean(str(value))
