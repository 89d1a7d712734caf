"""The command `ilv train`: trains a policy on converted datasets; logs, saves, and goes on."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ilv_dataset.command_options import expand_folder
from ilv_dataset.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image

    from ilv_dataset.train.data import DataConfig
    from ilv_dataset.train.loop import TrainConfig

# Imports below a command are made there: `ilv --help` is quick.

LOG, CURVE = "log.csv", "curve.png"
_RECENT_STEPS = 100
_CURVE_WH, _CURVE_POINTS = (720, 360), 100


def parse_weights(_: click.Context, __: click.Parameter, values: Sequence[str]) -> dict[str, float]:
    """A callback for weights of datasets, each NAME=W."""
    weights: dict[str, float] = {}
    for value in values:
        name, _equals, number = value.rpartition("=")
        try:
            weights[name] = float(number)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} is not NAME=W, such as bridge=2") from error
        if not name or not 0 < weights[name] < math.inf:
            raise click.BadParameter(f"{value!r} is not NAME=W with W above 0")
    return weights


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="DATA...")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--instruction",
    type=click.Choice(["interleaved", "text"]),
    default="interleaved",
    show_default=True,
    help="What the policy is told.",
)
@click.option("--steps", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--lr", type=click.FloatRange(0, 1, min_open=True), default=2e-3, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--split", default="train", show_default=True)
@click.option("--camera", default="", help="A feature of the frames.  [default: the conversion's]")
@click.option(
    "--action-key",
    default="action",
    show_default=True,
    metavar="COLUMNS",
    help="One, or several that are joined: action/world_vector,action/open_gripper.",
)
@click.option(
    "--state-key",
    default="observation/state",
    show_default=True,
    metavar="COLUMNS",
    help='Likewise; "" for none.',
)
@click.option(
    "--weights",
    multiple=True,
    callback=parse_weights,
    metavar="NAME=W",
    help="A dataset's share of the samples; once for each.  [default: by steps]",
)
@click.option("--window", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--chunk", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--mix", default="own=1", show_default=True, help="E.g. own=2,bank=1,text=1.")
@click.option("--bank", callback=expand_folder, help="Pictures by name; see `ilv bank`.")
@click.option("--workers", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--keep-frames", is_flag=True, help="Decode frames once, into DATA's .cache/frames.")
@click.option("--save-every", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--compile", is_flag=True, help="torch.compile: minutes at first, for a GPU.")
@click.option("--overwrite", is_flag=True, help="Begin anew where --out holds a training.")
def train(paths: tuple[str, ...], out: Path, bank: str | None, **options: Any) -> None:
    """Trains a small policy on the converted datasets at DATA; the same command again resumes.

    Ctrl-C saves before it stops; with as many threads (OMP_NUM_THREADS) the losses are those of one
    run. More --steps go on, too. The folder --out gets policy.safetensors, policy.json, log.csv and
    curve.png.

    Datasets name actions and state in their own ways: say --action-key and --state-key, or convert
    with --layout interleave-vla, where all have the default ones.

    \b
    Example:
        ilv train out --out policy
        ilv train out --out policy --instruction text --steps 10000 --device cuda
    """
    from ilv_dataset.train.data import DataConfig
    from ilv_dataset.train.loop import TrainConfig

    named = {name: options.pop(name) for name in ("lr", "steps", "device", "compile")}
    run = {name: options.pop(name) for name in ("workers", "save_every", "overwrite")}
    config = TrainConfig(seed=options["seed"], **named)
    loss = run_training(paths, out, config, DataConfig(**options, bank=bank or ""), **run)
    click.echo(f"mean loss {loss:.4f} at the end, step {config.steps:,}", err=True)
    click.echo(out)


def run_training(
    paths: Sequence[str],
    out: Path,
    config: TrainConfig,
    data: DataConfig,
    *,
    workers: int = 0,
    save_every: int = 500,
    overwrite: bool = False,
) -> float:
    """Trains to the last step, from where an earlier run was; returns the last losses' mean.

    Raises: ConfigError; StorageError; RecordError for an image that does not decode; IlvError where
        the loss is no number any more; KeyboardInterrupt, once all is saved.
    """
    from ilv_dataset.formats import atomic
    from ilv_dataset.messages import shorten_list
    from ilv_dataset.outputs import find_outputs, list_unfinished
    from ilv_dataset.progress import showing_count
    from ilv_dataset.train import checkpoints, loop
    from ilv_dataset.train.data import open_batches

    batches = open_batches(paths, data, workers=workers)
    layouts = dict.fromkeys(layout for path in paths for layout in find_outputs(path))
    if unfinished := list_unfinished(layouts):
        click.echo(f"not yet complete: {shorten_list(unfinished)}", err=True)
    settings = checkpoints.settings_of(batches, config, data)
    trainee = loop.make_trainee(settings.policy, config)
    log = TrainingLog(out)
    shown = showing_count(
        lambda: trainee.step, config.steps, "train", unit="steps", detail=log.describe
    )
    with atomic.locked_output(str(out)), contextlib.ExitStack() as stack:
        if overwrite:
            checkpoints.discard(out)
        elif checkpoints.has_training(out):
            checkpoints.resume(out, trainee, batches, settings)
            log.read(up_to=trainee.step)
        is_stopped = stack.enter_context(stopping())
        stack.enter_context(shown)
        for step, loss in loop.train(trainee, batches, config):
            log.rows.append((step, loop.lr_at(step, config), loss))
            if step % save_every == 0 or step == config.steps or is_stopped():
                log.write()
                checkpoints.save(out, trainee, settings, batches.state())
            if is_stopped():
                raise KeyboardInterrupt
    return log.recent_loss()


@dataclass
class TrainingLog:
    """The losses of a training, in log.csv and drawn in curve.png."""

    folder: Path
    rows: list[tuple[int, float, float]] = field(default_factory=list)  # step, lr, loss

    def read(self, *, up_to: int) -> None:
        """Takes the rows that are there, up to a step: what came behind it is done again.

        Raises: ConfigError where log.csv is something else.
        """
        try:
            with (self.folder / LOG).open(newline="") as file:
                rows = [
                    (int(row["step"]), float(row["lr"]), float(row["loss"]))
                    for row in csv.DictReader(file)
                ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self.folder / LOG} is not a log of losses: {error!r}") from error
        self.rows = [row for row in rows if row[0] <= up_to]

    def write(self) -> None:
        """Writes both files.

        Raises: StorageError.
        """
        from ilv_dataset.formats import atomic

        table, picture = io.StringIO(newline=""), io.BytesIO()
        csv.writer(table).writerows([("step", "lr", "loss"), *self.rows])
        draw_curve(self.rows).save(picture, "PNG")
        for name, content in ((LOG, table.getvalue().encode()), (CURVE, picture.getvalue())):
            atomic.write_small(str(self.folder / name), content, out=str(self.folder))

    def recent_loss(self) -> float:
        """Mean of the last losses."""
        recent = [loss for *_, loss in self.rows[-_RECENT_STEPS:]]
        return sum(recent) / max(1, len(recent))

    def describe(self) -> str:
        """What the progress bar says."""
        return f"loss {self.recent_loss():.4f}" if self.rows else ""


def draw_curve(rows: Sequence[tuple[int, float, float]]) -> Image.Image:
    """Loss, on a logarithmic scale, and learning rate over the steps; each point is a mean."""
    from PIL import Image, ImageDraw

    from ilv_dataset.canvases import COLOURS, INK, LINE, PAPER

    picture = Image.new("RGB", _CURVE_WH, PAPER)
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = 20, 30, _CURVE_WH[0] - 20, _CURVE_WH[1] - 30
    draw.rectangle((left, top, right, bottom), outline=LINE)
    size = math.ceil(len(rows) / _CURVE_POINTS) or 1
    groups = [rows[start : start + size] for start in range(0, len(rows), size)]
    for column, colour, name in ((1, COLOURS[1], "learning rate"), (2, COLOURS[0], "loss")):
        means = [math.fsum(row[column] for row in group) / len(group) for group in groups]
        heights = [math.log(max(mean, 1e-9)) if column == 2 else mean for mean in means]
        low, high = min(heights, default=0.0), max(heights, default=0.0)
        points = [
            (
                left + (right - left) * group[-1][0] / rows[-1][0],
                bottom - (bottom - top) * (height - low) / (high - low or 1.0),
            )
            for group, height in zip(groups, heights, strict=True)
        ]
        if len(points) > 1:
            draw.line(points, fill=colour, width=2)
        said = f"{name} {min(means, default=0):.2g} to {max(means, default=0):.2g}"
        draw.text((left + 200 * column - 200, 10), said, fill=colour)
    draw.text((left, bottom + 8), f"{rows[0][0] if rows else 0:,}", fill=INK)
    draw.text((right, bottom + 8), f"step {rows[-1][0] if rows else 0:,}", fill=INK, anchor="ra")
    return picture


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Yields whether the user has asked to stop; asked again, Python's own handlers answer."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread is told of signals
        return
    asked: list[int] = []
    former = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: object) -> None:
        asked.append(number)
        signal.signal(number, former[number])

    for number in former:
        signal.signal(number, note)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
