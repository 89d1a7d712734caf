"""What the commands that look at converted datasets do: look up, then print or draw."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from PIL import Image
from rich.console import Console, RenderableType

from ilv_dataset.errors import IlvError
from ilv_dataset.formats import files
from ilv_dataset.formats.tables import EpisodeRow
from ilv_dataset.inspecting import describe_output
from ilv_dataset.lookups import find_span, interleaved_spans
from ilv_dataset.messages import count_noun
from ilv_dataset.outputs import find_outputs, read_plan
from ilv_dataset.pictures import draw_sheet, draw_span, mask_of
from ilv_dataset.span_frames import load_frames
from ilv_dataset.statistics import count_output, output_statistics
from ilv_dataset.terminals import (
    open_console,
    overview_parts,
    showing_count,
    span_parts,
    statistics_parts,
)
from ilv_dataset.validation import Fault, validate_output


def show_overview(path: str, *, limit: int, as_json: bool) -> None:
    """Prints what is in the converted datasets at `path`, as each is read.

    Raises: IlvError.
    """
    console = open_console()
    for layout in find_outputs(path):
        overview = describe_output(layout, limit=limit)
        _print(console, overview, overview_parts(overview), as_json=as_json)


def show_span(
    path: str, name: str, *, data_dir: str | None, png: Path | None, as_json: bool
) -> None:
    """Prints one span, and before that draws it where a file is named.

    Drawn first, for a reader of what is printed may close the pipe.

    Args:
        data_dir: where the source is, for frames that the output does not hold.

    Raises: IlvError.
    """
    found = find_span(find_outputs(path), name)
    config = read_plan(found.layout)
    frames, frames_from = load_frames(found, data_dir=data_dir)
    if png is not None:
        drawn = draw_span(found.row, frames, frames_from=frames_from, config=config)
        write_png(png, drawn)
    console = open_console()
    parts = span_parts(
        console, found.row, num_spans=found.num_spans, frames_from=frames_from, config=config
    )
    _print(console, span_json(found.row), parts, as_json=as_json)


def show_sheet(path: str, *, png: Path, limit: int) -> None:
    """Draws the first interleaved spans below each other.

    Raises: IlvError where there is none.
    """
    spans = list(interleaved_spans(find_outputs(path), limit=limit))
    if not spans:
        raise IlvError(f"{path}: no span is interleaved; `ilv stats` says why")
    write_png(png, draw_sheet((found.row, load_frames(found)[0]) for found in spans))


def show_statistics(path: str, *, as_json: bool) -> None:
    """Prints the figures of the converted datasets at `path`.

    Raises: IlvError.
    """
    console = open_console()
    for layout in find_outputs(path):
        with showing_count() as note:
            counts = count_output(layout, note=note)
        figures = output_statistics(layout, counts)
        _print(console, figures, statistics_parts(figures), as_json=as_json)


def show_faults(path: str, *, deep: bool) -> None:
    """Prints every fault of the converted datasets at `path`, and what was checked.

    Raises: IlvError where there is a fault.
    """
    num_faults = 0
    for layout in find_outputs(path):
        with showing_count() as note:
            found, summary = validate_output(layout, deep=deep, say=_say_fault, note=note)
        click.echo(summary, err=found > 0)
        num_faults += found
    if num_faults:
        raise IlvError(f"{path}: {count_noun(num_faults, 'fault')}")


def span_json(row: EpisodeRow) -> dict[str, Any]:
    """A row as JSON has it: pictures by their sizes, masks with their areas."""
    images = [{"num_bytes": len(jpeg)} for jpeg in row.images]
    objects = []
    for found in row.objects:
        mask = mask_of(found)
        area = None if mask is None else int(mask.sum())
        objects.append({**asdict(found), "mask_area_px": area})
    return {**asdict(row), "images": images, "objects": objects}


def write_png(path: Path, picture: Image.Image) -> None:
    """Writes a picture and says so.

    Raises: StorageError.
    """
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    with files.naming_path(str(path)):
        path.write_bytes(buffer.getvalue())
    click.echo(f"wrote {path} ({picture.width} x {picture.height})", err=True)


def _print(
    console: Console,
    content: Mapping[str, Any],
    parts: Iterable[RenderableType],
    *,
    as_json: bool,
) -> None:
    if as_json:
        click.echo(json.dumps(content, ensure_ascii=False))
        return
    for part in parts:
        if console.is_terminal:
            console.print(part)
            continue
        with console.capture() as captured:
            console.print(part)
        click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
    click.echo()


def _say_fault(fault: Fault) -> None:
    click.echo(str(fault))
