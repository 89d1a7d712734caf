"""The commands `ilv bank`: make a bank of pictures, add to it, and show what it holds."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ilv_dataset.command_options import expand_folder
from ilv_dataset.messages import count_noun, shorten_list

_max_per_name = click.option(
    "--max-per-name",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Pictures of one object, of this kind; chosen by SHA-256.",
)


@click.group()
def bank() -> None:
    """Collects pictures of objects by name, for instructions of other episodes.

    A trainer shows them in place of an episode's own crop, as often as its mix of images says.

    \b
    Example:
        ilv bank build out --out bank
        ilv bank add sketches --bank bank
        ilv bank list bank
    """


@bank.command()
@click.argument("path")
@click.option("--out", required=True, metavar="BANK", callback=expand_folder, help="The bank.")
@_max_per_name
@click.option("--split", "splits", multiple=True, help="Only this split; may be repeated.")
@click.option("--overwrite", is_flag=True, help="Replace the crops that the bank has.")
def build(path: str, out: str, max_per_name: int, splits: tuple[str, ...], overwrite: bool) -> None:
    """Writes the crops of the converted datasets at PATH into a bank.

    Only crops with the verdict match, and of an episode one an object; pictures that were added
    stay. PATH is OUT or OUT/<dataset>/<version>.

    \b
    Example:
        ilv bank build out --out bank
        ilv bank build out --out bank --split train --max-per-name 64
    """
    from ilv_dataset.bank_building import build_bank
    from ilv_dataset.terminals import showing_count

    with showing_count() as note:
        report = build_bank(
            path, out, max_per_name=max_per_name, splits=splits, overwrite=overwrite, note=note
        )
    click.echo(
        f"{report.num_kept:,} of {count_noun(report.num_seen, 'crop')}, of "
        f"{count_noun(report.num_names, 'name')}, in {out}",
        err=True,
    )
    if report.left_out:
        click.echo(f"without the verdict match: {', '.join(report.left_out)}", err=True)
    if report.unfinished:
        click.echo(f"not yet complete: {shorten_list(report.unfinished)}", err=True)


@bank.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--bank", "target", required=True, metavar="BANK", callback=expand_folder, help="The bank."
)
@_max_per_name
@click.option("--overwrite", is_flag=True, help="Forget the pictures that were added before.")
def add(folder: Path, target: str, max_per_name: int, overwrite: bool) -> None:
    """Adds pictures from outside, photographs or sketches, to a bank; begins one if need be.

    DIR holds one folder of pictures an object, or files with its name: cup/photo.jpg, cup 2.png.

    \b
    Example:
        ilv bank add sketches --bank bank
    """
    from ilv_dataset.bank_building import add_images
    from ilv_dataset.terminals import showing_count

    with showing_count() as note:
        report = add_images(
            folder, target, max_per_name=max_per_name, overwrite=overwrite, note=note
        )
    click.echo(
        f"{count_noun(report.num_seen, 'picture')} read; {report.num_kept:,} from outside, of "
        f"{count_noun(report.num_names, 'name')}, in {target}",
        err=True,
    )
    if report.left_out:
        count = f"{len(report.left_out):,} left out"
        click.echo(f"{count}: {shorten_list(report.left_out)}", err=True)


@bank.command("list")
@click.argument("folder", metavar="BANK")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def show(folder: str, as_json: bool) -> None:
    """Counts the pictures of a bank by object: crops of episodes, and those from outside.

    \b
    Example:
        ilv bank list bank
        ilv bank list bank --json
    """
    from ilv_dataset.bank import BANK_FILES, Bank

    opened = Bank.open(folder)
    rows = [
        {"name": name, **{kind: opened.count(name, kind) for kind in BANK_FILES}}
        for name in opened.names
    ]
    if as_json:
        click.echo("\n".join(map(json.dumps, rows)))
        return
    click.echo(f"{'bank':>7}  {'outside':>7}  name")
    for row in rows:
        click.echo(f"{row['bank']:>7,}  {row['outside']:>7,}  {row['name']}")
    click.echo(
        f"{count_noun(len(opened), 'picture')} of {count_noun(len(rows), 'name')}, "
        f"{opened.num_bytes / 1e6:,.1f} MB in memory",
        err=True,
    )
