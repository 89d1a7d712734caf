"""Trains a policy: the schedule, the loop, and what a training needs to go on bit by bit."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, optim

from ilv_dataset.errors import ConfigError, IlvError
from ilv_dataset.train.model import Batch, Policy, PolicyConfig, build_policy, compute_loss


@dataclass(frozen=True)
class TrainConfig:
    """How a policy is trained."""

    steps: int = 1000
    lr: float = 2e-3
    warmup: int = 100  # steps, at most a fifth of all
    weight_decay: float = 0.02
    grad_norm_max: float = 1.0
    average: float = 0.999  # decay of the moving average of the weights, which is what is kept
    jitter: float = 0.15  # of brightness and of each colour, alike in frames and instruction images
    seed: int = 0
    device: str = "cpu"
    compile: bool = False


def lr_at(step: int, config: TrainConfig) -> float:
    """Learning rate of a step, from 1 on: a linear warm-up, then a cosine down to 0."""
    warmup = min(config.warmup, config.steps // 5)
    if step <= warmup:
        return config.lr * step / warmup
    done = (step - warmup) / (config.steps - warmup + 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


@dataclass(eq=False)
class Trainee:
    """What changes while training."""

    policy: Policy
    average: Policy
    optimizer: optim.Optimizer
    rng: torch.Generator  # of the colour jitter
    step: int = 0

    def state(self) -> dict[str, Any]:
        """Tensors and plain values."""
        states = {name: part.state_dict() for name, part in self._parts().items()}
        return {**states, "rng": self.rng.get_state(), "step": self.step}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to a `state`."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.rng.set_state(state["rng"])
        self.step = int(state["step"])

    def _parts(self) -> dict[str, Any]:
        return {"model": self.policy, "average": self.average, "optimizer": self.optimizer}


def make_trainee(policy_config: PolicyConfig, config: TrainConfig) -> Trainee:
    """Fresh weights from the seed. Raises ConfigError where the device is not there."""
    torch.manual_seed(config.seed)
    policy = build_policy(policy_config, config.device)
    decayed = [weight for weight in policy.parameters() if weight.ndim > 1]
    others = [weight for weight in policy.parameters() if weight.ndim <= 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = optim.AdamW(groups, weight_decay=config.weight_decay, betas=(0.9, 0.98), fused=True)
    average = copy.deepcopy(policy).eval().requires_grad_(False)
    return Trainee(policy.train(), average, optimizer, torch.Generator().manual_seed(config.seed))


def train(
    trainee: Trainee, batches: Iterable[Batch], config: TrainConfig
) -> Iterator[tuple[int, float]]:
    """Yields (step, loss) after each update, up to config.steps; the caller logs and saves.

    Raises: IlvError where the loss is no number any more; ConfigError where it does not compile.
    """
    loss_of = torch.compile(compute_loss) if config.compile else compute_loss
    weights = list(trainee.policy.parameters())
    for step, batch in zip(range(trainee.step + 1, config.steps + 1), batches, strict=False):
        for group in trainee.optimizer.param_groups:
            group["lr"] = lr_at(step, config)
        moved = {name: part.to(config.device, non_blocking=True) for name, part in batch.items()}
        try:
            with autocast(config.device):
                loss = loss_of(trainee.policy, jitter(moved, config.jitter, trainee.rng))
        except torch._dynamo.exc.TorchDynamoException as error:
            raise ConfigError(f"--compile: {str(error).splitlines()[0]}") from error
        if not loss.isfinite():
            raise IlvError(f"the loss is {loss.item()} at step {step}; try a lower --lr")
        trainee.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, config.grad_norm_max)
        trainee.optimizer.step()
        decay = min(config.average, step / (step + 10))  # short at the start
        for mean, weight in zip(trainee.average.parameters(), weights, strict=True):
            mean.lerp_(weight.detach(), 1 - decay)
        trainee.step = step
        yield step, loss.item()


def autocast(device: str) -> torch.autocast:
    """bfloat16 where the processor has matrix units for it; float32 elsewhere."""
    kind = torch.device(device).type
    has_units = torch.cpu._is_amx_tile_supported() if kind == "cpu" else True
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=has_units)


def jitter(batch: Batch, strength: float, rng: torch.Generator) -> dict[str, Tensor]:
    """Brightens and tints frames and instruction images; a row's own share the same change."""
    frames, images = batch["frames"].float(), batch["images"].float()
    draw = torch.rand(2, len(frames), 1, 3, 1, 1, generator=rng).to(frames.device) * 2 - 1
    gain, shift = 1 + strength * draw[0], 100 * strength * draw[1, :, :, :1]
    changed = {"frames": frames * gain + shift, "images": images * gain + shift}
    return {**batch, **{name: part.clamp(0, 255) for name, part in changed.items()}}
