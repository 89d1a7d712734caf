"""What the detector's training is made of: its settings, its schedules and its batches."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ilv_dataset.training.augment import augment_scene
from ilv_dataset.training.detector_loss import Targets
from ilv_dataset.training.prompts import PromptSampler
from ilv_dataset.training.scenes import SceneFolder


@dataclass(frozen=True)
class DetectorConfig:
    """All that the weights depend on, beside the stills."""

    seed: int = 0
    num_images: int = 190_000  # seen in all, each changed anew
    batch: int = 32  # shared by the workers
    workers: int = 2  # each sees its part of a batch: layers' statistics are of that part
    lr: float = 2e-3
    lr_end_share: float = 0.01
    warmup_steps: int = 300
    weight_decay: float = 0.03
    ema_decay: float = 0.998
    num_names: int = 24  # prompts of a picture, beside all nouns and colours
    small_px: int = 192  # side of the pictures at first: they teach more a second
    small_share: float = 0.6  # of the steps
    input_px: int = 256
    # Other hues teach that any noun may have any colour: without them names of pairs that were
    # never seen score low (measured: recall 0.44 where seen pairs had 0.76).
    recolour_share: float = 0.25
    recolour_after: float = 0.3368  # of the steps
    # What lies in or on another thing is rare and hard: from here on it is given its anchors, see
    # DetectionLoss.prefers_small, and shown more (measured: 0.55 right without, others 0.99).
    stacked_after: float = 0.76  # of the steps
    stacked_share: float = 0.4  # of the pictures, beside those that have such things anyway

    @property
    def num_steps(self) -> int:
        """Updates of the whole training."""
        return max(1, self.num_images // self.batch)


def lr_at(step: int, config: DetectorConfig) -> float:
    """The learning rate: a linear warm-up, then half a cosine.

    >>> lr_at(0, DetectorConfig(lr=1.0, warmup_steps=4))
    0.25
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, config.num_steps - config.warmup_steps)
    floor = config.lr_end_share
    return config.lr * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def size_at(step: int, config: DetectorConfig) -> int:
    """The side of the pictures of a step, pixels."""
    return config.small_px if step < config.small_share * config.num_steps else config.input_px


def shows_stacked(step: int, config: DetectorConfig) -> bool:
    """Whether things in and on others are shown more and get their anchors."""
    return step >= config.stacked_after * config.num_steps


def scenes_at(step: int, num_scenes: int, config: DetectorConfig) -> list[int]:
    """Rows of the stills of a step: each epoch is another order of all stills."""
    rows = []
    for position in range(step * config.batch, (step + 1) * config.batch):
        epoch, place = divmod(position, num_scenes)
        rows.append(int(_order(num_scenes, config.seed, epoch)[place]))
    return rows


@functools.lru_cache(maxsize=2)
def _order(num_scenes: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_scenes)


@dataclass(frozen=True, eq=False)
class Batch:
    """B changed pictures, their prompts and what is true; tensors."""

    images: Any  # (B, 3, S, S) uint8
    features: Any  # (B, P, D) float32
    targets: Targets


def make_batch(
    step: int, rank: int, scenes: SceneFolder, sampler: PromptSampler, config: DetectorConfig
) -> Batch:
    """A worker's part of the batch of a step; depends on these and the seed alone."""
    import torch

    side_px = size_at(step, config)
    share = config.recolour_share if step >= config.recolour_after * config.num_steps else 0.0
    pictures, prompts, boxes = [], [], []
    rows = list(enumerate(scenes_at(step, len(scenes), config)))
    for slot, row in rows[rank :: config.workers]:
        rng = np.random.default_rng([config.seed, step, slot])
        if shows_stacked(step, config) and rng.random() < config.stacked_share:
            row = scenes.stacked[int(rng.integers(len(scenes.stacked)))]
        sample = augment_scene(scenes[row], rng, size_px=side_px, recolour_share=share)
        pictures.append(sample.rgb)
        boxes.append(sample.boxes_xyxy)
        prompts.append(
            sampler.draw(
                sample.nouns, sample.colours, sample.hidden, rng,
                has_colours=not sample.is_recoloured,
            )
        )  # fmt: skip
    most = max(1, *(len(corners) for corners in boxes))
    shape = (len(boxes), most)
    padded = np.zeros((*shape, 4), np.float32)
    is_box = np.zeros((*shape, 1), np.float32)
    truth = np.zeros((*shape, len(prompts[0].features)), np.float32)
    for slot, corners in enumerate(boxes):
        padded[slot, : len(corners)], is_box[slot, : len(corners)] = corners, 1
        truth[slot, : len(corners)] = prompts[slot].truth
    is_asked = np.stack([drawn.is_asked for drawn in prompts])[:, None].astype(np.float32)
    targets = Targets(*map(torch.from_numpy, (padded, is_box, truth, is_asked)))
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    features = torch.from_numpy(np.stack([drawn.features for drawn in prompts]))
    return Batch(images, features, targets)
