"""`ilv models`: lists the weights that are known, and fetches them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from ilv_dataset.models.catalog import ModelFile

# Imports of the models are made where they are used: they bring NumPy, and `ilv --help` is quick.

_MB = 1_000_000
_HEADING = ("name", "for", "kind", "MB", "licence", "from", "checksum", "where it is")


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def models(context: click.Context, as_json: bool) -> None:
    """Lists weights: size, licence, source, checksum, and where they are; `fetch` gets them.

    They are looked for in the working folder, then in ILV_MODELS, by default
    ~/.cache/ilv_dataset; programs (.ts) there alone.

    \b
    Example:
        ilv models
        ilv models fetch yolov8x-worldv2.pt sam_vit_b_01ec64.pth
    """
    if context.invoked_subcommand is not None:
        return
    rows = model_rows()
    lines = [json.dumps(row) for row in rows] if as_json else model_lines(rows)
    click.echo("\n".join(lines))


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def fetch(names: tuple[str, ...]) -> None:
    """Downloads weights into the models folder, with what they need; goes on where it was cut.

    \b
    Example:
        ilv models fetch yolov8x-worldv2.pt
    """
    from ilv_dataset.models.catalog import find_model, locate_weights, models_folder
    from ilv_dataset.models.fetching import fetch_model

    asked = [find_model(name) for name in names]
    needed = [find_model(name) for model in asked for name in model.needs]
    for model in dict.fromkeys([*asked, *needed]):
        with _showing_bytes(model) as shown:
            fetched = fetch_model(model, models_folder(), note=shown.note)
        if fetched.replaced:
            click.echo(fetched.replaced, err=True)
        origin = "as first seen, for none is published" if fetched.is_first else "as it should be"
        state = "fetched" if fetched.is_new else "is there"
        click.echo(f"{model.name} {state}; sha256 {fetched.sha256}, {origin}", err=True)
        used = locate_weights(model.name)
        if used is not None and not used.samefile(fetched.path):
            click.echo(
                f"{used.resolve()}, in the working folder, goes before it: move that away, or "
                "name the path of the one fetched",
                err=True,
            )
        click.echo(fetched.path)


def model_rows() -> list[dict[str, object]]:
    """One row a file, in the order of the catalogue; None where something is not known.

    A checksum that was recorded is shown beside the file that is compared with it, no other.
    """
    from ilv_dataset.models.catalog import (
        list_models,
        locate_weights,
        models_folder,
        read_checksums,
    )

    folder = models_folder()
    recorded = read_checksums(folder)
    rows = _bundled_rows()
    for model in list_models():
        path = locate_weights(model.name)
        is_fetched = path is not None and path.parent.resolve() == folder.resolve()
        first = recorded.get(model.name) if is_fetched else None
        rows.append(
            {
                "name": model.name,
                "backend": model.backend,
                "kind": model.kind,
                "size_mb": model.size_mb,
                "license": model.license,
                "checksum": model.checksum or (f"sha256:{first}" if first else None),
                "checksum_from": "publisher"
                if model.checksum
                else ("first download" if first else None),
                "url": model.url,
                "gated": model.gated or None,
                "path": str(path) if path else None,
            }
        )
    return rows


def _bundled_rows() -> list[dict[str, object]]:
    """The models that come with the package, whose licence is that of what they were made with."""
    from ilv_dataset.models.bundled import list_bundled
    from ilv_dataset.models.runtime import weights_digest

    return [
        {
            "name": name,
            "backend": backend,
            "kind": "detector" if backend == "yolo-world" else "segmenter",
            "size_mb": path.stat().st_size / _MB,
            "license": "AGPL-3.0" if backend == "yolo-world" else "Apache-2.0",
            "checksum": f"sha256:{weights_digest(path, advice='')}",
            "checksum_from": "this package",
            "url": None,
            "gated": None,
            "path": str(path),
        }
        for backend, name, path in list_bundled()
    ]


def model_lines(rows: list[dict[str, object]]) -> list[str]:
    """The rows as a table, and what people need to know about it."""
    from ilv_dataset.models.catalog import models_folder

    table = [_HEADING, *(_cells(row) for row in rows)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(_HEADING))]
    gated = [f"{row['name']}: accept the licence at {row['gated']}" for row in rows if row["gated"]]
    return [
        *(_line(cells, widths) for cells in table),
        "",
        "* of the first download, for the publisher names no checksum",
        f"`ilv models fetch NAME` puts a file into {models_folder()}; --json has the addresses",
        *(f"{line}, download the file and put it there" for line in gated),
    ]


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    padded = [
        cell.rjust(width) if heading == "MB" else cell.ljust(width)
        for heading, cell, width in zip(_HEADING, cells, widths, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _cells(row: dict[str, object]) -> tuple[str, ...]:
    checksum = str(row["checksum"] or "")
    is_first = row["checksum_from"] == "first download"
    return (
        str(row["name"]),
        str(row["backend"]),
        str(row["kind"]),
        "" if row["size_mb"] is None else f"{row['size_mb']:,.1f}",
        str(row["license"]),
        str(urlsplit(str(row["url"])).hostname) if row["url"] else "this package",
        f"{checksum[:19]}{'...' if len(checksum) > 19 else ''}{' *' if is_first else ''}",
        str(row["path"] or ""),
    )


@dataclass
class _ShownBytes:
    """What a bar or a line shows of a download; it appears with the first byte."""

    model: ModelFile
    stack: contextlib.ExitStack
    num_bytes: int | None = None

    def note(self, done: int, total: int | None) -> None:
        """Takes how many bytes there are, and how many there will be."""
        is_begun, self.num_bytes = self.num_bytes is not None, done
        if is_begun:
            return
        from ilv_dataset.progress import showing_count

        expected = total if total is not None else (self.model.size_mb or 0) * _MB
        self.stack.enter_context(
            showing_count(
                lambda: (self.num_bytes or 0) // _MB,
                round(expected) // _MB,
                self.model.name,
                unit="MB",
            )
        )


@contextlib.contextmanager
def _showing_bytes(model: ModelFile) -> Iterator[_ShownBytes]:
    with contextlib.ExitStack() as stack:
        yield _ShownBytes(model, stack)
