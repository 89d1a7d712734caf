"""Trains the embedded YOLO-World on simulated stills: the loop, its log and its checkpoints.

`python -m ilv_dataset.training detector --scenes DIR --work DIR --seed 0` goes on from the
checkpoint in --work, if there is one.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ilv_dataset.errors import ConfigError
from ilv_dataset.models.world_network import WorldSizes, build_world, save_world
from ilv_dataset.models.yolo_world import YoloWorldDetector
from ilv_dataset.progress import showing_count
from ilv_dataset.training.detector_batches import (
    DetectorConfig,
    lr_at,
    make_batch,
    shows_stacked,
    size_at,
)
from ilv_dataset.training.detector_loss import DetectionLoss
from ilv_dataset.training.detector_scores import answer_questions, ask_scene, rates, threshold_at
from ilv_dataset.training.prompts import PromptSampler, Vocabulary, vocabulary_of
from ilv_dataset.training.scenes import SceneFolder
from ilv_dataset.training.teams import ALONE, Team, run_team

CHECKPOINT, WEIGHTS, CONFIG, LOG = "checkpoint.pt", "weights.safetensors", "config.json", "log.csv"
_SAVE_EVERY, _LOG_EVERY = 500, 50  # steps
_CHECK_SCENES = 200
_SCORE_FLOOR = 0.001  # the lowest that a detector can give
_LOG_FIELDS = (
    "step", "images", "side_px", "lr", "loss", "box", "names", "dfl", "words",
    "right_known", "right_held_out", "recall_at_absent_5",
)  # fmt: skip
# Source: ours, after FACTS.md, section 6 (bias and scale start far off): one in 400 prompts is
# true of an anchor, so scores begin there.
_HEAD_BIAS, _HEAD_SCALE, _HEAD_LR_GAIN = -6.0, 0.0, 10.0
_GRAD_NORM_MAX = 10.0  # Source: ultralytics' trainer


@dataclass(eq=False)
class Trainee:
    """What changes while training; `state` is what a checkpoint holds of it."""

    model: Any
    average: Any  # an exponential moving average of the model
    optimizer: Any
    step: int = 0

    def state(self) -> dict[str, Any]:
        """Tensors and numbers only."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to a checkpoint."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])


def make_trainee(config: DetectorConfig) -> Trainee:
    """Fresh weights from the seed."""
    import torch

    torch.manual_seed(config.seed)
    model = build_world(world_sizes(config)).to(memory_format=torch.channels_last)
    for head in model.model[-1].cv4:
        torch.nn.init.constant_(head.bias, _HEAD_BIAS)
        torch.nn.init.constant_(head.logit_scale, _HEAD_SCALE)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    _keep_channels_last(model)
    groups: dict[str, list[Any]] = {"weights": [], "others": [], "heads": []}
    for name, parameter in model.named_parameters():
        is_head = ".cv4." in name and parameter.numel() == 1
        groups["heads" if is_head else "weights" if parameter.ndim > 1 else "others"].append(
            parameter
        )
    optimizer = torch.optim.AdamW(
        [
            {"params": groups["weights"], "weight_decay": config.weight_decay, "gain": 1.0},
            {"params": groups["others"], "weight_decay": 0.0, "gain": 1.0},
            {"params": groups["heads"], "weight_decay": 0.0, "gain": _HEAD_LR_GAIN},
        ],
        lr=config.lr,
        betas=(0.9, 0.99),
    )
    return Trainee(model.train(), average, optimizer)


def world_sizes(config: DetectorConfig) -> WorldSizes:
    """yolov8n-worldv2 without its neck's attention to the prompts.

    A phrase's score then depends on nothing else that is asked of the picture, and a training
    step can ask for all words of the vocabulary.
    """
    return WorldSizes(is_guided=False, input_px=config.input_px)


def train(
    trainee: Trainee,
    scenes: SceneFolder,
    sampler: PromptSampler,
    config: DetectorConfig,
    *,
    team: Team = ALONE,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Yields the number of steps done and the loss with its parts, after each update."""
    import torch

    num_steps = config.num_steps
    words = sampler.vocabulary
    loss_of = DetectionLoss(
        trainee.model, num_nouns=len(words.nouns), num_colours=len(words.colours)
    )
    trainee.model.model[-1].nc = config.num_names + len(words.nouns) + len(words.colours)
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(make_batch, trainee.step, team.rank, scenes, sampler, config)
        while trainee.step < num_steps:
            batch = ahead.result()
            following = min(trainee.step + 1, num_steps - 1)
            ahead = pool.submit(make_batch, following, team.rank, scenes, sampler, config)
            for group in trainee.optimizer.param_groups:
                group["lr"] = lr_at(trainee.step, config) * group["gain"]
            pixels = batch.images.to(memory_format=torch.channels_last).float() / 255
            with torch.autocast("cpu", dtype=torch.bfloat16):
                outputs = trainee.model.predict(pixels, txt_feats=batch.features)
            loss_of.prefers_small = shows_stacked(trainee.step, config)
            loss, parts = loss_of(outputs, batch.targets)
            trainee.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            team.average_gradients(trainee.model, trainee.step)
            torch.nn.utils.clip_grad_norm_(trainee.model.parameters(), _GRAD_NORM_MAX)
            trainee.optimizer.step()
            trainee.step += 1
            _update_average(trainee, config)
            shown = {"loss": float(loss.detach())}
            yield trainee.step, shown | {name: float(part) for name, part in parts.items()}


def _update_average(trainee: Trainee, config: DetectorConfig) -> None:
    """Moves the average towards the model, faster at first."""
    import torch

    weight = 1 - min(config.ema_decay, (1 + trainee.step) / (10 + trainee.step))
    averages, models = trainee.average.state_dict(), trainee.model.state_dict()
    names = [name for name, tensor in averages.items() if tensor.is_floating_point()]
    with torch.no_grad():
        torch._foreach_lerp_(
            [averages[name] for name in names], [models[name] for name in names], weight
        )


def _keep_channels_last(model: Any) -> None:
    """Keeps gradients in the layout of the activations.

    Measured: with a gradient in another layout the backward pass of a BatchNorm takes ten times
    as long, and the whole step twice.
    """
    import torch
    from ultralytics.nn.modules import Conv

    def hook(module: Any, inputs: Any, output: Any) -> None:
        if output.requires_grad:
            output.register_hook(lambda grad: grad.contiguous(memory_format=torch.channels_last))

    for module in model.modules():
        if isinstance(module, Conv | torch.nn.Conv2d | torch.nn.BatchNorm2d):
            module.register_forward_hook(hook)


def main(arguments: Sequence[str]) -> None:
    """Trains, or goes on; logs to standard error and to WORK/log.csv."""
    parser = argparse.ArgumentParser(prog="python -m ilv_dataset.training detector")
    parser.add_argument("--scenes", type=Path, required=True, help="stills to learn from")
    parser.add_argument("--check", type=Path, help="stills with held-out names, to log scores of")
    parser.add_argument("--work", type=Path, required=True, help="checkpoint, log and weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=DetectorConfig.num_images)
    parser.add_argument("--check-every", type=int, default=1000, help="steps")
    args = parser.parse_args(arguments)
    args.work.mkdir(parents=True, exist_ok=True)
    config = DetectorConfig(seed=args.seed, num_images=args.images)
    folders = Folders(args.scenes, args.check, args.work)
    model = make_trainee(config).model
    num_values = sum(p.numel() for p in model.parameters() if p.requires_grad)
    run_team(
        run_training, (folders, config, args.check_every), size=config.workers,
        num_values=num_values,
    )  # fmt: skip


@dataclass(frozen=True)
class Folders:
    """What a training reads, and where it writes."""

    scenes: Path
    check: Path | None  # stills to log scores of
    work: Path


def run_training(folders: Folders, config: DetectorConfig, check_every: int, *, team: Team) -> None:
    """One worker's training to the end; the first one saves, logs and checks on the way.

    Raises: ConfigError if there are no stills, or the checkpoint is of another training.
    """
    scenes = SceneFolder(folders.scenes)
    sampler = PromptSampler(vocabulary_of(scenes.pairs()), num_names=config.num_names)
    trainee = make_trainee(config)
    resume(trainee, folders.work, config, is_first=team.rank == 0)
    steps = train(trainee, scenes, sampler, config, team=team)
    if team.rank > 0:
        for _ in steps:
            pass
        return
    checks = folders.check and SceneFolder(folders.check, limit=_CHECK_SCENES)
    log = Log(folders.work / LOG, config)
    with showing_count(
        lambda: trainee.step, config.num_steps, "train", unit="steps", detail=lambda: log.shown
    ):
        for step, parts in steps:
            is_last = step == config.num_steps
            scores = None
            if step % check_every == 0 or is_last:
                save_world(folders.work / WEIGHTS, trainee.average, world_sizes(config), {})
                if checks:
                    scores = check_scores(folders.work / WEIGHTS, checks, sampler.vocabulary)
            log.note(step, parts, scores, is_last=is_last)
            if step % _SAVE_EVERY == 0 or is_last:
                save_checkpoint(trainee, folders.work, config)


@dataclass(eq=False)
class Log:
    """Means of the losses since the last row, and the rows of log.csv."""

    path: Path
    config: DetectorConfig
    shown: str = ""  # the last row, for people
    losses: list[Mapping[str, float]] = field(default_factory=list)

    def note(
        self, step: int, parts: Mapping[str, float], scores: Mapping[str, float] | None,
        *, is_last: bool,
    ) -> None:  # fmt: skip
        """Takes in one step; now and then, and with scores, writes a row."""
        self.losses.append(parts)
        if not (step % _LOG_EVERY == 0 or scores or is_last):
            return
        means = {name: np.mean([one[name] for one in self.losses]) for name in parts}
        row: dict[str, Any] = {
            "step": step,
            "images": step * self.config.batch,
            "side_px": size_at(step - 1, self.config),
            "lr": f"{lr_at(step - 1, self.config):.6f}",
            **{name: f"{mean:.4f}" for name, mean in means.items()},
            **(scores or {}),
        }
        append_log(self.path, row)
        self.shown = " ".join(f"{name} {row[name]}" for name in _LOG_FIELDS if name in row)
        self.losses.clear()


def open_detector(weights: Path) -> YoloWorldDetector:
    """The detector as it is shipped, but for boxes of any score."""
    return YoloWorldDetector(weights, spec=str(weights), device="cpu", score_min=_SCORE_FLOOR)


def check_scores(weights: Path, checks: SceneFolder, words: Vocabulary) -> dict[str, Any]:
    """Scores of the averaged weights on some stills, as the log has them."""
    detector = open_detector(weights)
    known = frozenset(words.pairs)
    rng = np.random.default_rng(0)
    asked = [
        (scene, ask_scene(scene, words, rng)) for scene in (checks[i] for i in range(len(checks)))
    ]
    replies = answer_questions(detector, asked)
    news = [r for r in replies if (r.question.colour, r.question.noun) not in known]
    olds = [r for r in replies if (r.question.colour, r.question.noun) in known]
    score_min = threshold_at(olds, absent_max=0.05)
    return {
        "right_known": rates(olds).right,
        "right_held_out": rates(news).right,
        "recall_at_absent_5": rates(olds, score_min=score_min).recall,
    }


def save_checkpoint(trainee: Trainee, work: Path, config: DetectorConfig) -> None:
    """Writes the checkpoint under another name, then renames it: a kill leaves the old one."""
    import torch

    unfinished = work / f".{CHECKPOINT}"
    torch.save({"config": asdict(config), **trainee.state()}, unfinished)
    unfinished.rename(work / CHECKPOINT)
    (work / CONFIG).write_text(json.dumps(asdict(config), indent=1) + "\n", encoding="utf-8")


def resume(trainee: Trainee, work: Path, config: DetectorConfig, *, is_first: bool = True) -> None:
    """Goes on from the checkpoint in `work`, if there is one; the first cuts its log to there.

    Raises: ConfigError if it is of another configuration, of which all steps depend: another
        number of images is another learning rate.
    """
    import torch

    path = work / CHECKPOINT
    if not path.exists():
        if is_first:
            (work / LOG).unlink(missing_ok=True)
        return
    state = torch.load(path, weights_only=True)
    if state["config"] != asdict(config):
        raise ConfigError(f"{path} is of another training: {state['config']}")
    trainee.restore(state)
    if not is_first:
        return
    with (work / LOG).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if int(row["step"]) <= trainee.step]
    (work / LOG).unlink()
    for row in rows:
        append_log(work / LOG, row)


def append_log(path: Path, row: Mapping[str, Any]) -> None:
    """Adds one row to the log; the first one brings the header."""
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _LOG_FIELDS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)
