"""What `ilv eval crops` does: measure, draw the worst, print; apart from `views`, for models."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ilv_dataset.canvases import stack
from ilv_dataset.converted_crops import evaluate_outputs
from ilv_dataset.crop_evaluation import CropEvaluation, Grounders, evaluate_images
from ilv_dataset.crop_montage import draw_montage
from ilv_dataset.crop_reports import describe_scores, scores_json
from ilv_dataset.terminals import showing_count
from ilv_dataset.views import write_png


def show_output_scores(
    path: str, *, data_dir: str | None, png: Path | None, limit: int, as_json: bool
) -> None:
    """Prints how right the crops of the converted datasets at `path` are.

    Args:
        data_dir: where the source is; None looks where the registry has it.
        limit: how many of the worst are drawn, and listed in JSON.

    Raises: IlvError.
    """
    with showing_count() as note:
        found = evaluate_outputs(path, data_dir=data_dir, limit=limit, note=note)
    _show(found, png=png, as_json=as_json)


def show_model_scores(
    truth: Path,
    grounders: Grounders,
    *,
    images: Path | None,
    png: Path | None,
    limit: int,
    as_json: bool,
) -> None:
    """Prints how right the crops are that models make of labelled images.

    Args:
        images: the folder that paths in the file are relative to; None for the file's own.
        limit: how many of the worst are drawn, and listed in JSON.

    Raises: IlvError.
    """
    with showing_count() as note:
        found = evaluate_images(truth, grounders, images=images, limit=limit, note=note)
    _show([found], png=png, as_json=as_json)


def _show(found: list[CropEvaluation], *, png: Path | None, as_json: bool) -> None:
    """Drawn first, for a reader of what is printed may close the pipe."""
    if png is not None:
        write_png(png, stack([draw_montage(each.worst, title=each.title) for each in found], gap=0))
    for each in found:
        if as_json:
            click.echo(json.dumps(scores_json(each), ensure_ascii=False))
        else:
            click.echo("\n".join([*describe_scores(each), ""]))
