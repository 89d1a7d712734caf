"""The options that several commands of `ilv` share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ilv_dataset.errors import ConfigError
from ilv_dataset.fields import ILV_LAYOUT, KINDS, LAYOUTS, PICTURED_KINDS

if TYPE_CHECKING:
    from ilv_dataset.llm_options import LlmOptions

Command = Callable[..., None]


def _choices(allowed: Sequence[str]) -> Callable[..., tuple[str, ...]]:
    """A callback for comma-separated lists of known names."""

    def split(_: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
        for name in names:
            if name not in allowed:
                raise click.BadParameter(f"{name!r} is not one of {', '.join(allowed)}")
        return names

    return split


def expand_folder(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A local folder with ~ expanded, or what is behind a scheme as it is."""
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty")
    return value if value is None or "://" in value else os.path.expanduser(value)  # noqa: PTH111


def check_png(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    """A callback for the name of a picture.

    Raises: ConfigError.
    """
    if value is not None and value.suffix.lower() != ".png":
        raise ConfigError(f"--png {value}: expected a name that ends in .png")
    return value


_EXTRACTOR_OPTIONS = (
    click.option(
        "--extractor",
        default="auto",
        show_default=True,
        help="Finds the nouns: grammar, or llm:MODEL at an OpenAI-compatible endpoint; auto is llm "
        "where ILV_LLM_MODEL names a model.",
    ),
    click.option(
        "--llm-base-url",
        metavar="URL",
        help="Endpoint of the language model.  [default: OPENAI_BASE_URL, else OpenAI]",
    ),
    click.option(
        "--llm-concurrency",
        type=click.IntRange(min=1),
        default=16,
        show_default=True,
        help="Requests at a time.",
    ),
    click.option(
        "--llm-items",
        type=click.IntRange(1, 200),
        default=20,
        show_default=True,
        help="Instructions a request.",
    ),
    click.option(
        "--llm-timeout",
        type=click.FloatRange(min=0.1),
        default=60.0,
        show_default=True,
        help="Seconds that a reply may take.",
    ),
    click.option(
        "--llm-max-requests",
        type=click.IntRange(min=1),
        help="Stop after so many; the same command goes on.",
    ),
    click.option(
        "--llm-max-tokens",
        type=click.IntRange(min=1),
        help="Stop at about so many, in and out; the same command goes on.",
    ),
    click.option(
        "--llm-prices",
        type=(float, float),
        metavar="IN OUT",
        help="Price of a million tokens, to show what is spent.",
    ),
    click.option(
        "--llm-cache",
        metavar="DIR",
        callback=expand_folder,
        help="Folder of replies that runs share, local or gs://.  [default: OUT/.cache/replies]",
    ),
    click.option(
        "--llm-batch",
        is_flag=True,
        help="Ask through the Batch API: half the price, within a day; resumable.",
    ),
    click.option(
        "--retry-fallbacks",
        "llm_retry_fallbacks",
        is_flag=True,
        help="Ask again about the instructions that fell back on the grammar.",
    ),
)

_RUN_OPTIONS = (
    click.argument("dataset"),
    click.argument("beam_args", nargs=-1, type=click.UNPROCESSED, metavar="[-- BEAM_FLAGS]"),
    click.option(
        "--data-dir",
        metavar="DIR",
        callback=expand_folder,
        help="Folder of TFDS datasets, local or gs://.",
    ),
    click.option(
        "--out",
        metavar="DIR",
        default="out",
        show_default=True,
        callback=expand_folder,
        help="Output folder, local or gs://.",
    ),
    click.option("--split", "splits", multiple=True, help="Only this split; may be repeated."),
    click.option(
        "--max-episodes",
        type=click.IntRange(min=1),
        help="A cap on the source episodes of each dataset.",
    ),
    *_EXTRACTOR_OPTIONS,
    click.option(
        "--detector",
        help="source (boxes that the dataset carries), yolo:WEIGHTS, yolo-world:tabletop, "
        "yolo-world:WEIGHTS, yoloe:WEIGHTS or sam3[:WEIGHTS].  [default: that of the dataset, else "
        "yolo-world:yolov8x-worldv2.pt]",
    ),
    click.option(
        "--segmenter",
        default="auto",
        show_default=True,
        help="detector (its own masks), grabcut, sam:tabletop, or sam, mobile-sam or sam2, each "
        "[:CHECKPOINT]; auto is that of the dataset, else the detector's own masks where it has "
        "them, else sam.",
    ),
    click.option(
        "--verifier",
        default="agreement",
        show_default=True,
        help="Checks the crops: agreement (of the detector's boxes, masks and frames), vlm:MODEL "
        "at an OpenAI-compatible endpoint, or none.",
    ),
    click.option(
        "--vlm-base-url",
        "llm_vlm_base_url",
        metavar="URL",
        help="Endpoint of the verifier's model.  [default: that of --llm-base-url]",
    ),
    click.option(
        "--vlm-prices",
        "llm_vlm_prices",
        type=(float, float),
        metavar="IN OUT",
        help="Price of a million tokens of the verifier's model.  [default: --llm-prices]",
    ),
    click.option(
        "--formats",
        default="",
        callback=_choices(("parquet", "rlds")),
        help="parquet,rlds  [default: parquet; rlds with --layout interleave-vla]",
    ),
    click.option(
        "--layout",
        "rlds_layout",
        type=click.Choice(LAYOUTS),
        default=ILV_LAYOUT,
        show_default=True,
        help="Of rlds: ilv is the source with the instruction beside the steps; interleave-vla is "
        "what the trainers of Interleave-VLA read (224x224, 7-D, an instruction a step).",
    ),
    click.option(
        "--max-images",
        type=click.IntRange(1, 16),
        help="With --layout interleave-vla: pictures an instruction; other nouns stay text.  "
        "[default: 1]",
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


_CROP_OPTIONS = (
    click.argument("path", required=False),
    click.option(
        "--data-dir",
        metavar="DIR",
        callback=expand_folder,
        help="Where the source of PATH is, with its true boxes and masks.",
    ),
    click.option(
        "--truth",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Labelled images: COCO JSON, or a list of images with their objects.",
    ),
    click.option(
        "--images",
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Folder of the images that FILE names.  [default: that of FILE]",
    ),
    click.option("--detector", help="With --truth, which needs one: see convert."),
    click.option(
        "--segmenter",
        default="auto",
        show_default=True,
        help="With --truth: see convert; auto is the detector's own masks, else sam.",
    ),
    click.option(
        "--verifier",
        default="agreement",
        show_default=True,
        help="With --truth: agreement, vlm:MODEL or none, see convert.",
    ),
    click.option("--vlm-base-url", metavar="URL", help="Endpoint of the verifier's model."),
    click.option(
        "--png",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        callback=check_png,
        help="Draw the worst: wrong crops, crops of what is not there, misses.",
    ),
    click.option(
        "--limit",
        type=click.IntRange(min=1),
        default=24,
        show_default=True,
        help="How many of the worst are drawn, and listed in JSON.",
    ),
    click.option("--json", "as_json", is_flag=True, help="One JSON object a line."),
)


def crop_options(command: Command) -> Command:
    """The options of what judges crops."""
    return _with_options(command, _CROP_OPTIONS)


def run_options(command: Command) -> Command:
    """The options of convert and of its steps."""
    return _with_options(command, _RUN_OPTIONS)


def extractor_options(command: Command) -> Command:
    """The options of what finds the nouns."""
    return _with_options(command, _EXTRACTOR_OPTIONS)


def llm_options(values: dict[str, Any]) -> LlmOptions:
    """Takes the options --llm-* out of all the values of a command."""
    from ilv_dataset.llm_options import LlmOptions

    named = {name: values.pop(name) for name in list(values) if name.startswith("llm_")}
    return LlmOptions(**{name.removeprefix("llm_"): value for name, value in named.items()})


def _with_options(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
