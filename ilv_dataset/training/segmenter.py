"""Trains the embedded SAM on simulated stills from a seed, goes on where it was, and exports it.

Its network is small and looks at windows: see `ilv_dataset.training.segmenter_samples`.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ilv_dataset.boxes import AREA_MIN_PX
from ilv_dataset.errors import ConfigError
from ilv_dataset.models.grabcut import GrabCutSegmenter
from ilv_dataset.models.runtime import bad_weights, fix_threads
from ilv_dataset.models.sam import SamSegmenter
from ilv_dataset.models.sam_network import (
    SamSizes,
    build_sam,
    decode_masks,
    embed_prompts,
    load_sam,
    save_sam,
)
from ilv_dataset.progress import showing_count
from ilv_dataset.training.scenes import SceneFolder, check_apart
from ilv_dataset.training.segmenter_samples import ZOOM, Sample, draw_sample
from ilv_dataset.training.segmenter_scores import measure_segmenter
from ilv_dataset.training.teams import ALONE, Team, run_team

SIZES = SamSizes(
    image_px=96,
    patch_px=8,
    width=128,
    depth=6,
    heads=4,
    mlp_ratio=4.0,
    window=0,  # windows of 6 tokens are hardly faster, and see less
    global_blocks=(),  # all of them, see `start_run`
    prompt_width=128,
    mask_channels=16,
    num_masks=1,
    decoder_depth=2,
    decoder_mlp=512,
    quality_depth=3,
    quality_width=128,
)
NAME = "sam-tabletop"  # of the files that are bundled
SAVE_EVERY, LOG_EVERY = 100, 50  # steps
_EDGE_PX = 7
FALL_SHARE = 0.35  # of the steps, in which the learning rate falls
SAMPLES_PER_SCENE = 2  # a still is decoded once for both


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """All that a run depends on beside its stills."""

    start: str = ""  # weights to begin with, of an earlier run; else random ones
    depth: int = SIZES.depth  # blocks of the encoder; those that `start` lacks begin idle
    seed: int = 0
    steps: int = 11_500
    batch: int = 32  # shared by the workers
    workers: int = 2
    lr: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.05
    average: float = 0.999  # what the averaged weights keep of themselves at each step

    def __post_init__(self) -> None:
        for name in ("depth", "steps", "workers", "warmup"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} must be at least 1, got {getattr(self, name)}")
        if self.batch < 1 or self.batch % self.workers:
            raise ConfigError(
                f"--batch must be a multiple of --workers, got {self.batch} and {self.workers}"
            )


@dataclass
class Run:
    """What is saved and gone on with; the samples of a step follow from the seed and the step."""

    model: Any
    averaged: dict[str, Any]  # the state dict that is exported
    optimizer: Any
    step: int  # steps that are done
    log: list[dict[str, float]]  # one row every LOG_EVERY steps


def lr_at(step: int, config: TrainingConfig) -> float:
    """The learning rate of a step: a linear start, then level, at last down to nothing.

    Before it falls the number of steps may still be changed: all that was done stays the same.
    """
    start = min(1.0, (step + 1) / config.warmup)
    end = min(1.0, (config.steps - step) / (FALL_SHARE * config.steps))
    return config.lr * start * end


def draw_batch(scenes: SceneFolder, step: int, rank: int, config: TrainingConfig) -> list[Sample]:
    """A worker's samples of a step, equal for an equal seed."""
    rng = np.random.default_rng([config.seed, step, rank])
    num = config.batch // config.workers
    samples: list[Sample] = []
    while len(samples) < num:
        scene = scenes[int(rng.integers(len(scenes)))]
        things = np.flatnonzero(scene.visible_px >= AREA_MIN_PX)
        for thing in rng.permutation(things)[:SAMPLES_PER_SCENE]:
            samples.append(draw_sample(scene, int(thing), rng, side=SIZES.image_px))
    return samples[:num]


def compute_loss(model: Any, samples: Sequence[Sample]) -> tuple[Any, float]:
    """The loss of a batch, a tensor, and the mean IoU of its masks.

    Cross entropy, most of it near the edge, and dice of every mask, and how far the network's
    estimate of the IoU is off.
    """
    import torch
    from torch.nn import functional

    boxes = [sample for sample in samples if len(sample.prompt) == 4]
    points = [sample for sample in samples if len(sample.prompt) == 2]
    ordered = [*boxes, *points]
    pixels = torch.stack([model.preprocess(torch.from_numpy(each.pixels)) for each in ordered])
    truth = torch.from_numpy(np.stack([each.mask for each in ordered]))[:, None]
    prompts = [np.stack([each.prompt for each in part]) for part in (boxes, points) if part]
    # A coordinate in bfloat16 is wrong by a third of a pixel.
    embedded = [embed_prompts(model, torch.from_numpy(part)) for part in prompts]
    sparse, dense = (torch.cat(parts) for parts in zip(*embedded, strict=True))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low, quality = decode_masks(model, model.image_encoder(pixels), sparse, dense)
    low, quality = low.float(), quality.float()
    logits = functional.interpolate(low, truth.shape[-2:], mode="bilinear")
    truth = truth.expand_as(logits)
    chance = logits.sigmoid()
    dice = 1 - (2 * (chance * truth).sum((2, 3)) + 1) / (chance.sum((2, 3)) + truth.sum((2, 3)) + 1)
    found, real = logits.detach() > 0, truth > 0.5
    ious = (found & real).sum((2, 3)) / (found | real).sum((2, 3)).clamp(min=1)
    near = functional.avg_pool2d(truth, _EDGE_PX, stride=1, padding=_EDGE_PX // 2)
    weight = 1 + 16 * near * (1 - near)  # 5 where the thing's edge is, 1 away from it
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, weight=weight)
    loss = 3 * entropy + dice.mean() + functional.mse_loss(quality, ious)
    return loss, float(ious.mean())


def train(
    run: Run, scenes: SceneFolder, config: TrainingConfig, *, team: Team = ALONE
) -> Iterator[tuple[float, float]]:
    """Yields the loss and the mean IoU after each step that is left; the caller logs and saves."""
    import torch

    while run.step < config.steps:
        for group in run.optimizer.param_groups:
            group["lr"] = lr_at(run.step, config)
        loss, iou = compute_loss(run.model, draw_batch(scenes, run.step, team.rank, config))
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        team.average_gradients(run.model, run.step)
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
        run.optimizer.step()
        run.step += 1
        # At first the average follows closely, for it begins with untrained weights.
        kept = min(config.average, run.step / (run.step + 10))
        now = run.model.state_dict()
        with torch.no_grad():
            torch._foreach_lerp_([run.averaged[name] for name in now], [*now.values()], 1 - kept)
        yield float(loss.detach()), iou


def start_run(config: TrainingConfig) -> Run:
    """A network that does what `config.start` does, or untrained, the same for the same seed.

    Raises: ConfigError if there are no such weights, or their network cannot grow into this one.
    """
    import torch

    fix_threads()
    torch.manual_seed(config.seed)
    blocks = tuple(range(config.depth))
    sizes = replace(SIZES, depth=config.depth, global_blocks=blocks)
    model = build_sam(sizes).train()
    torch.nn.init.trunc_normal_(model.image_encoder.pos_embed, std=0.02)  # SAM's begins at 0
    if config.start:
        path = Path(config.start)
        try:
            _begin_with(model, load_sam(path)[0])
        except RuntimeError as error:
            raise bad_weights(path, f"a SAM that can grow into {sizes}") from error
    averaged = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    decay = [weight for weight in model.parameters() if weight.ndim > 1]
    rest = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        groups, lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )
    return Run(model, averaged, optimizer, 0, [])


def _begin_with(model: Any, earlier: Any) -> None:
    """Copies a network of as many blocks or fewer; the others add nothing until they are trained.

    Raises: RuntimeError if it is no such network.
    """
    import torch

    blocks, num = model.image_encoder.blocks, len(earlier.image_encoder.blocks)
    model.image_encoder.blocks = blocks[:num]
    model.load_state_dict(earlier.state_dict())
    model.image_encoder.blocks = blocks
    for block in blocks[num:]:
        for last in (block.attn.proj, block.mlp.lin2):
            torch.nn.init.zeros_(last.weight)
            torch.nn.init.zeros_(last.bias)


def load_run(path: Path, config: TrainingConfig) -> Run:
    """The run that was saved, or a new one where none was.

    Raises: ConfigError if it was of another config; see `lr_at` for its steps.
    """
    import torch

    if not path.exists():
        return start_run(config)
    saved = torch.load(path, weights_only=True)
    others = TrainingConfig(**saved["config"])
    is_level = saved["step"] <= (1 - FALL_SHARE) * min(config.steps, others.steps)
    if replace(others, steps=config.steps if is_level else others.steps) != config:
        raise ConfigError(f"{path} was made with {others}; go on with that, or remove it")
    run = start_run(replace(config, start=""))  # all of it is replaced
    run.model.load_state_dict(saved["model"])
    run.optimizer.load_state_dict(saved["optimizer"])
    run.averaged, run.step, run.log = saved["averaged"], saved["step"], saved["log"]
    return run


def save_run(path: Path, run: Run, config: TrainingConfig) -> None:
    """Saves a run under another name first, so that a killed one leaves the last whole."""
    import torch

    state = {
        "config": asdict(config),
        "model": run.model.state_dict(),
        "averaged": run.averaged,
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "log": run.log,
    }
    unfinished = path.with_suffix(".unfinished")
    torch.save(state, unfinished)
    unfinished.replace(path)


def train_segmenter(stills: Path, config: TrainingConfig, path: Path, *, team: Team) -> None:
    """One worker's training to the end, or on from `path`.

    The first one saves there, and shows loss, IoU, rate and what is left.
    """
    run = load_run(path, config)
    steps = train(run, SceneFolder(stills), config, team=team)
    if team.rank > 0:
        for _ in steps:
            pass
        return
    recent: list[tuple[float, float]] = []

    def tell() -> str:
        row = run.log[-1] if run.log else None
        return f"loss {row['loss']:.4f}, IoU {row['mask_iou']:.4f}" if row else ""

    with showing_count(lambda: run.step, config.steps, "train", unit="steps", detail=tell):
        for pair in steps:
            recent.append(pair)
            if run.step % LOG_EVERY == 0 or run.step == config.steps:
                loss, iou = np.mean(recent, axis=0).round(5).tolist()
                lr = round(lr_at(run.step - 1, config), 7)
                run.log.append({"step": run.step, "lr": lr, "loss": loss, "mask_iou": iou})
                recent.clear()
            if run.step % SAVE_EVERY == 0 or run.step == config.steps:
                save_run(path, run, config)


def export_run(run: Run, out: Path) -> Path:
    """Writes the averaged weights and the log beside them; returns the weights' path."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{NAME}.safetensors"
    save_sam(path, run.averaged, ZOOM)
    with (out / f"{NAME}.log.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "lr", "loss", "mask_iou"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(run.log)
    return path


def measure_export(path: Path, folders: Sequence[Path], *, limit: int) -> dict[str, Any]:
    """Scores of the exported weights and of grabcut, as the product loads them, by folder."""
    segmenters = (SamSegmenter(path, spec="sam:tabletop", device="cpu"), GrabCutSegmenter())
    scores: dict[str, Any] = {}
    for folder in folders:
        stored = SceneFolder(folder, limit=limit)
        scenes = [stored[index] for index in range(len(stored))]
        scores[folder.name] = {each.spec: measure_segmenter(each, scenes) for each in segmenters}
    return scores


def main(arguments: Sequence[str]) -> None:
    """Trains on --scenes in --work, then exports to --out and measures on --held-out."""
    parser = argparse.ArgumentParser(prog="python -m ilv_dataset.training segmenter")
    parser.add_argument("--scenes", type=Path, required=True, help="stills to train on")
    parser.add_argument("--held-out", type=Path, nargs="*", default=[], help="stills to measure on")
    parser.add_argument("--work", type=Path, required=True, help="what an unfinished run leaves")
    parser.add_argument("--out", type=Path, required=True, help="of weights, log and scores")
    parser.add_argument("--limit", type=int, default=500, help="stills measured of each folder")
    for name, value in asdict(TrainingConfig()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = parser.parse_args(arguments)
    config = TrainingConfig(**{name: getattr(args, name) for name in asdict(TrainingConfig())})
    check_apart([args.scenes, *args.held_out])
    args.work.mkdir(parents=True, exist_ok=True)
    path = args.work / "run.pt"
    model = load_run(path, config).model
    num_values = sum(weight.numel() for weight in model.parameters())
    run_team(
        train_segmenter, (args.scenes, config, path), size=config.workers, num_values=num_values
    )
    weights = export_run(load_run(path, config), args.out)
    scores = measure_export(weights, args.held_out, limit=args.limit)
    told = {"config": asdict(config), "scores": scores}
    (args.out / f"{NAME}.scores.json").write_text(json.dumps(told, indent=2) + "\n")
