"""The command line: `ilv`, one verb a command. Each parses, calls the library, and prints."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from ilv_dataset import __version__
from ilv_dataset.errors import IlvError
from ilv_dataset.fields import KINDS, PICTURED_KINDS

# Every import below a command is made there: `ilv --help` answers in a tenth of a second.


class Group(click.Group):
    """Shows our own errors as one line; lets every other exception trace."""

    def invoke(self, ctx: click.Context) -> object:
        """Runs a command."""
        logging.basicConfig(level=logging.ERROR)
        try:
            return super().invoke(ctx)
        except IlvError as error:
            raise click.ClickException(" ".join(str(error).split())) from error


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ilv")
def main() -> None:
    """Turns robot datasets with text instructions into interleaved image-text instructions."""


def _choices(allowed: Sequence[str]) -> Callable[..., tuple[str, ...]]:
    """A callback for comma-separated lists of known names."""

    def split(_: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
        for name in names:
            if name not in allowed:
                raise click.BadParameter(f"{name!r} is not one of {', '.join(allowed)}")
        return names

    return split


def _folder(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A local folder with ~ expanded, or what is behind a scheme as it is."""
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty")
    return value if value is None or "://" in value else os.path.expanduser(value)  # noqa: PTH111


_RUN_OPTIONS = (
    click.argument("dataset"),
    click.argument("beam_args", nargs=-1, type=click.UNPROCESSED, metavar="[-- BEAM_FLAGS]"),
    click.option(
        "--data-dir",
        metavar="DIR",
        callback=_folder,
        help="Folder of TFDS datasets, local or gs://.",
    ),
    click.option(
        "--out",
        metavar="DIR",
        default="out",
        show_default=True,
        callback=_folder,
        help="Output folder, local or gs://.",
    ),
    click.option("--split", "splits", multiple=True, help="Only this split; may be repeated."),
    click.option(
        "--max-episodes",
        type=click.IntRange(min=1),
        help="A cap on the source episodes of each dataset.",
    ),
    click.option("--extractor", default="grammar", show_default=True, help="Finds the nouns."),
    click.option(
        "--detector",
        help="source, yolo:WEIGHTS or yolo-world:WEIGHTS.  [default: source where the dataset "
        "carries boxes, else yolo-world:yolov8x-worldv2.pt]",
    ),
    click.option(
        "--segmenter",
        default="auto",
        show_default=True,
        help="detector (its own masks), grabcut or sam[:CHECKPOINT]; auto is the detector's own "
        "masks where it has them, else sam.",
    ),
    click.option("--verifier", default="none", show_default=True, help="Checks the crops."),
    click.option(
        "--formats",
        default="parquet",
        show_default=True,
        callback=_choices(("parquet", "rlds")),
        help="parquet,rlds",
    ),
    click.option(
        "--include",
        default="",
        callback=_choices(("text_only",)),
        help="text_only: write spans without a crop to steps and rlds as well.",
    ),
    click.option(
        "--picture-kinds",
        default=",".join(PICTURED_KINDS),
        show_default=True,
        callback=_choices(KINDS),
        help="Kinds of objects that become pictures.",
    ),
    click.option(
        "--max-failed",
        type=click.FloatRange(0, 1),
        default=0.0,
        show_default=True,
        help="Share of failed spans above which the command exits with 1, after all is written.",
    ),
    click.option(
        "--image-key", "image_keys", multiple=True, help="Camera of an unregistered dataset."
    ),
    click.option("--instruction-key", help="Instruction of an unregistered dataset."),
    click.option(
        "--overwrite",
        is_flag=True,
        help="Delete the output of a run with other options. The same options resume.",
    ),
    click.option("--dry-run", is_flag=True, help="Print the plan and stop."),
)


def _run_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_RUN_OPTIONS):
        command = option(command)
    return command


@main.command()
@_run_options
def convert(**options: Any) -> None:
    """Converts DATASET, or each dataset of a mixture; the same command again resumes.

    \b
    Example:
        ilv convert demo
        ilv convert bridge --data-dir ~/data --formats parquet,rlds
        ilv convert bridge --data-dir gs://BUCKET --out gs://BUCKET/out -- --runner=DataflowRunner
    """
    _run(("parse", "ground", "write"), **options)


@main.command()
@_run_options
def parse(**options: Any) -> None:
    """Scans DATASET and writes its instructions table: the first step of convert.

    \b
    Example:
        ilv parse bridge --data-dir ~/data
    """
    _run(("parse",), **options)


@main.command()
@_run_options
def ground(**options: Any) -> None:
    """Finds and cuts out the objects of DATASET: the second step of convert.

    \b
    Example:
        ilv ground bridge --data-dir ~/data
    """
    _run(("ground",), **options)


@main.command()
@_run_options
def write(**options: Any) -> None:
    """Writes steps and RLDS shards of DATASET: the last step of convert.

    \b
    Example:
        ilv write bridge --data-dir ~/data --formats rlds
    """
    _run(("write",), **options)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def datasets(as_json: bool) -> None:
    """Lists the datasets and mixtures that are known by name.

    \b
    Example:
        ilv datasets
        ilv datasets --json
    """
    from ilv_dataset.catalogues import dataset_lines, mixture_lines
    from ilv_dataset.datasets import dataset_rows, list_mixtures

    if as_json:
        for row in dataset_rows():
            click.echo(json.dumps(row))
        return
    lines = dataset_lines()
    for mixture in list_mixtures():
        lines += ["", *mixture_lines(mixture.name)]
    click.echo("\n".join(lines))


@main.command()
@click.argument("source", metavar="[FILE]", type=click.File("rb"), default="-")
def phrases(source: BinaryIO) -> None:
    """Finds the object phrases of instructions, one a line of FILE or of standard input.

    Prints one JSON object a line; start and end are code points, end exclusive.

    \b
    Example:
        echo "put the carrot on the plate" | ilv phrases
    """
    from ilv_dataset.grammar import parse_instruction
    from ilv_dataset.phrases import encode_parsed

    for line in source:
        instruction = line.decode("utf-8", "replace").rstrip("\r\n")
        click.echo(json.dumps(encode_parsed(parse_instruction(instruction)), ensure_ascii=False))


@main.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--episodes", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=os.cpu_count(), show_default=True)
def simulate(out: Path, episodes: int, seed: int, workers: int) -> None:
    """Makes a TFDS dataset of simulated table-top episodes below OUT, with true boxes and masks.

    \b
    Example:
        ilv simulate --episodes 100 sim
        ilv convert demo --data-dir sim
    """
    from ilv_dataset.progress import showing_count
    from ilv_dataset.simulation import simulate as run

    num_done = [0]
    with showing_count(lambda: num_done[-1], episodes, "simulate"):
        folder = run(out, episodes=episodes, seed=seed, workers=workers, on_episode=num_done.append)
    click.echo(f"{episodes} episodes in {folder}; convert them with", err=True)
    click.echo(f"  ilv convert demo --data-dir {out}", err=True)


@main.command()
@click.argument("path")
@click.option(
    "--episode",
    metavar="ID",
    help="Show one span: an episode_id or the end of one, SPLIT:SHARD:RECORD, or `first`; "
    "ID#N is span N.",
)
@click.option(
    "--png",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw it, or the first interleaved spans where there is no --episode.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How many shards are listed, or spans drawn.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def inspect(path: str, episode: str | None, png: Path | None, limit: int, as_json: bool) -> None:
    """Shows the shards, columns and account at PATH, or one interleaved instruction.

    PATH is OUT or OUT/<dataset>/<version>.

    \b
    Example:
        ilv inspect out
        ilv inspect out --png sheet.png
        ilv inspect out --episode first --png first.png
    """
    from ilv_dataset.views import show_overview, show_sheet, show_span

    if episode is not None:
        show_span(path, episode, png=png, as_json=as_json)
    elif png is not None:
        show_sheet(path, png=png, limit=limit)
    else:
        show_overview(path, limit=limit, as_json=as_json)


@main.command()
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def stats(path: str, as_json: bool) -> None:
    """Counts what is at PATH: spans, reasons, objects, pictures, scores and sizes.

    \b
    Example:
        ilv stats out
        ilv stats out/bridge_dataset/1.0.0 --json
    """
    from ilv_dataset.views import show_statistics

    show_statistics(path, as_json=as_json)


@main.command()
@click.argument("path")
@click.option("--deep", is_flag=True, help="Decode every frame, not only those with an object.")
def validate(path: str, deep: bool) -> None:
    """Reads everything at PATH back; prints one line a fault and exits with 1 if there is one.

    \b
    Example:
        ilv validate out
        ilv validate out/bridge_dataset/1.0.0 --deep
    """
    from ilv_dataset.views import show_faults

    show_faults(path, deep=deep)


def _run(steps: Sequence[str], *, beam_args: tuple[str, ...], dry_run: bool, **values: Any) -> None:
    from ilv_dataset.catalogues import mixture_lines
    from ilv_dataset.datasets import is_mixture
    from ilv_dataset.running import describe_plans, plan_datasets, prepare_plan, run_plan

    if is_mixture(values["dataset"]):
        click.echo("\n".join([*mixture_lines(values["dataset"]), ""]), err=True)
    plans = plan_datasets(values, beam_args)
    fingerprints = [] if dry_run else [prepare_plan(plan, steps) for plan in plans]
    click.echo("\n".join(describe_plans(plans)), err=True)
    results = [
        run_plan(plan, steps, fingerprint)
        for plan, fingerprint in zip(plans, fingerprints, strict=False)
    ]
    faults = [fault for fault in results if fault]
    if faults:
        raise IlvError("; ".join(faults))
