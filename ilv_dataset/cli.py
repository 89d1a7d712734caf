"""The command line: `ilv`, one verb a command. Each parses, calls the library, and prints."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from ilv_dataset import __version__
from ilv_dataset.bank_command import bank
from ilv_dataset.command_options import (
    check_png,
    crop_options,
    expand_folder,
    extractor_options,
    llm_options,
    run_options,
)
from ilv_dataset.errors import INTERRUPTED, IlvError
from ilv_dataset.models_command import models
from ilv_dataset.rollout_command import rollout
from ilv_dataset.train_command import train

# Every import below a command is made there: `ilv --help` answers in a tenth of a second.

_RESUMING = dict.fromkeys(
    ("convert", "parse", "ground", "write", "models", "train"),
    "; the same command goes on where it was",
)


class Group(click.Group):
    """Shows our own errors as one line; lets every other exception trace."""

    def invoke(self, ctx: click.Context) -> object:
        """Runs a command."""
        logging.basicConfig(level=logging.ERROR)
        try:
            return super().invoke(ctx)
        except IlvError as error:
            raise click.ClickException(" ".join(str(error).split())) from error
        except KeyboardInterrupt:
            click.echo(f"interrupted{_RESUMING.get(ctx.invoked_subcommand or '', '')}", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ilv")
def main() -> None:
    """Turns robot datasets with text instructions into interleaved image-text instructions."""


@main.command()
@run_options
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
@run_options
def parse(**options: Any) -> None:
    """Scans DATASET and writes its instructions table: the first step of convert.

    \b
    Example:
        ilv parse bridge --data-dir ~/data
    """
    _run(("parse",), **options)


@main.command()
@run_options
def ground(**options: Any) -> None:
    """Finds and cuts out the objects of DATASET: the second step of convert.

    \b
    Example:
        ilv ground bridge --data-dir ~/data
    """
    _run(("ground",), **options)


@main.command()
@run_options
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
@extractor_options
def phrases(source: BinaryIO, extractor: str, **values: Any) -> None:
    """Finds the object phrases of instructions, one a line of FILE or of standard input.

    Prints one JSON object a line; start and end are code points, end exclusive.

    \b
    Example:
        echo "put the carrot on the plate" | ilv phrases
        ilv phrases commands.txt --extractor llm:gpt-4o-mini
    """
    from ilv_dataset.extraction.evaluation import extract
    from ilv_dataset.llm_options import resolve_extractor
    from ilv_dataset.phrases import encode_parsed

    lines = (line.decode("utf-8", "replace").rstrip("\r\n") for line in source)
    resolved, llm = resolve_extractor(extractor, is_demo=False), llm_options(values)
    # The grammar answers line by line; a model is asked about all of them together.
    groups = ([line] for line in lines) if resolved == "grammar" else [list(lines)]
    for group in groups:
        for row in extract(group, resolved, llm, out="out")[0]:
            click.echo(json.dumps(encode_parsed(row), ensure_ascii=False))


@main.group("eval")
def evaluate() -> None:
    """Measures how right a part of the pipeline is, on labelled data.

    \b
    Example:
        ilv eval phrases --gold gold.jsonl
    """


@evaluate.command("phrases")
@click.option(
    "--gold",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='JSON lines of {"instruction", "objects", "surfaces"?}.',
)
@extractor_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def evaluate_extractor(gold: Path, extractor: str, as_json: bool, **values: Any) -> None:
    """Precision, recall and F1 of an extractor's phrases, and a table of what it missed.

    A phrase is right where it is exactly a labelled one; surfaces neither help nor harm.

    \b
    Example:
        ilv eval phrases --gold gold.jsonl
        ilv eval phrases --gold gold.jsonl --extractor llm:gpt-4o-mini
    """
    from ilv_dataset.extraction.evaluation import describe_evaluation, evaluate_phrases
    from ilv_dataset.llm_options import resolve_extractor

    resolved = resolve_extractor(extractor, is_demo=False)
    found = evaluate_phrases(gold, resolved, llm_options(values), out="out")
    click.echo("\n".join(describe_evaluation(found, as_json=as_json)))


@evaluate.command("crops")
@crop_options
def evaluate_crops(
    path: str | None, truth: Path | None, data_dir: str | None, images: Path | None, **values: Any
) -> None:
    """How right crops are, by true boxes and masks, with 95 % intervals and the worst drawn.

    Judges the crops of the converted datasets at PATH whose source marks its objects, or those
    that models make of the labelled images of a --truth file. A crop is right where its box has
    an IoU of 0.5 with the named object's and no other object's fits better.

    \b
    Example:
        ilv eval crops out --png worst.png
        ilv eval crops --truth coco.json --detector yolo-world:yolov8s-worldv2.pt --segmenter sam
    """
    from ilv_dataset.crop_evaluation import Grounders
    from ilv_dataset.crop_views import show_model_scores, show_output_scores

    models = {name: values.pop(name) for name in ("detector", "segmenter", "verifier")}
    vlm_base_url = values.pop("vlm_base_url")
    if (path is None) == (truth is None):
        raise click.UsageError("name PATH, a converted dataset, or --truth, labelled images")
    if truth is None:
        show_output_scores(str(path), data_dir=data_dir, **values)
    elif models["detector"] is None:
        raise click.UsageError("--truth: name the --detector that is to be measured")
    else:
        grounders = Grounders(**models, vlm_base_url=vlm_base_url)
        show_model_scores(truth, grounders, images=images, **values)


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
    from ilv_dataset.messages import command_line, count_noun
    from ilv_dataset.progress import showing_count
    from ilv_dataset.simulation import simulate as run

    num_done = [0]
    with showing_count(lambda: num_done[-1], episodes, "simulate"):
        folder = run(out, episodes=episodes, seed=seed, workers=workers, on_episode=num_done.append)
    click.echo(f"{count_noun(episodes, 'episode')} in {folder}; convert them with", err=True)
    click.echo(f"  {command_line('convert', 'demo', '--data-dir', str(out))}", err=True)


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
    callback=check_png,
    help="Draw it, or the first interleaved spans where there is no --episode.",
)
@click.option(
    "--data-dir",
    metavar="DIR",
    callback=expand_folder,
    help="Where the source is: frames that were not written are read there.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How many shards are listed, or spans drawn.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def inspect(
    path: str,
    episode: str | None,
    png: Path | None,
    data_dir: str | None,
    limit: int,
    as_json: bool,
) -> None:
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
        show_span(path, episode, data_dir=data_dir, png=png, as_json=as_json)
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


main.add_command(bank)
main.add_command(models)
main.add_command(rollout)
main.add_command(train)


def _run(steps: Sequence[str], *, beam_args: tuple[str, ...], dry_run: bool, **values: Any) -> None:
    from ilv_dataset.catalogues import mixture_lines
    from ilv_dataset.datasets import is_mixture
    from ilv_dataset.running import (
        describe_plans,
        foresee_faults,
        plan_datasets,
        prepare_plan,
        run_plan,
    )

    if is_mixture(values["dataset"]):
        click.echo("\n".join([*mixture_lines(values["dataset"]), ""]), err=True)
    values["llm"] = llm_options(values)
    plans = plan_datasets(values, beam_args)
    if dry_run:
        lines = [*describe_plans(plans), *foresee_faults(plans, steps)]
        click.echo("\n".join(lines), err=True)
        return
    fingerprints = [prepare_plan(plan, steps) for plan in plans]
    click.echo("\n".join(describe_plans(plans)), err=True)
    prepared = zip(plans, fingerprints, strict=True)
    results = [run_plan(plan, steps, fingerprint) for plan, fingerprint in prepared]
    faults = [fault for fault in results if fault]
    if faults:
        raise IlvError("; ".join(faults))
