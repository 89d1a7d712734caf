"""A trained policy on disk: its weights, a JSON of all settings, and what training goes on from."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from ilv_dataset.errors import ConfigError
from ilv_dataset.formats import atomic, files
from ilv_dataset.instruction_tokens import encode_instruction
from ilv_dataset.step_statistics import StepStatistics
from ilv_dataset.train.data import Batches, DataConfig
from ilv_dataset.train.loop import TrainConfig, Trainee, autocast
from ilv_dataset.train.model import Policy, PolicyConfig, build_policy

WEIGHTS, CONFIG, RESUME = "policy.safetensors", "policy.json", "resume.pt"
_MAY_DIFFER = ("steps", "device", "compile")


@dataclass(frozen=True)
class Settings:
    """All that a checkpoint's JSON says of a training."""

    policy: PolicyConfig
    train: TrainConfig
    data: DataConfig
    statistics: Mapping[str, StepStatistics]  # by dataset

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "policy": asdict(self.policy),
            "train": asdict(self.train),
            "data": self.data.to_json(),
            "statistics": {name: found.to_json() for name, found in self.statistics.items()},
        }

    @classmethod
    def read(cls, folder: Path) -> Settings:
        """Those of a checkpoint.

        Raises: ConfigError where it is none.
        """
        try:
            content = json.loads((folder / CONFIG).read_text())
            found = content["statistics"].items()
            return cls(
                PolicyConfig(**content["policy"]),
                TrainConfig(**content["train"]),
                DataConfig.from_json(content["data"]),
                {name: StepStatistics.from_json(numbers) for name, numbers in found},
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{folder} is not a folder of `ilv train`: {error!r}") from error


def settings_of(batches: Batches, train: TrainConfig, data: DataConfig, **sizes: int) -> Settings:
    """Settings for some data; `sizes` are width, layers and heads of the policy."""
    statistics = next(iter(batches.statistics.values()))
    policy = PolicyConfig(
        state_dim=len(statistics.state_mean),
        action_dim=len(statistics.action_mean),
        frame_px=data.image_px,
        **{name: getattr(data, name) for name in ("crop_px", "window", "chunk", "max_tokens")},
        **sizes,
    )
    return Settings(policy, train, data, batches.statistics)


def save(folder: Path, trainee: Trainee, settings: Settings, position: object) -> None:
    """Writes the policy, and what `resume` goes on from; each file whole or not at all.

    RESUME alone says how far the training is: it needs CONFIG, and makes good WEIGHTS behind it.

    Raises: StorageError.
    """
    state = io.BytesIO()
    torch.save({**trainee.state(), "data": position}, state)
    config = json.dumps({**settings.to_json(), "step": trainee.step}, indent=1).encode()
    atomic.write_small(str(folder / CONFIG), config, out=str(folder))
    atomic.write_small(str(folder / RESUME), state.getvalue(), out=str(folder))
    _save_weights(folder, trainee)


def _save_weights(folder: Path, trainee: Trainee) -> None:
    weights = {name: part.contiguous() for name, part in trainee.average.state_dict().items()}
    content = safetensors.torch.save(weights)
    atomic.write_small(str(folder / WEIGHTS), content, out=str(folder))


def has_training(folder: Path) -> bool:
    """Whether there is something to go on from.

    Raises: ConfigError where there are weights alone, which a training would replace.
    """
    if (folder / RESUME).exists():
        return True
    if (folder / WEIGHTS).exists():
        raise ConfigError(
            f"{folder} holds {WEIGHTS}, and no {RESUME} to go on from; "
            "name another --out, or --overwrite it"
        )
    return False


def discard(folder: Path) -> None:
    """Deletes what `save` wrote.

    Raises: StorageError.
    """
    for name in (RESUME, CONFIG, WEIGHTS):  # first what another training would go on from
        with files.naming_path(str(folder / name)):
            (folder / name).unlink(missing_ok=True)


def resume(folder: Path, trainee: Trainee, batches: Batches, settings: Settings) -> None:
    """Goes back to where `save` was called; more or fewer steps, and another device, may follow.

    On the same device, with as many threads, the losses are those of one run. Weights that a cut
    `save` has not written are written.

    Raises: ConfigError where the settings or the data are others, or more steps are done;
        StorageError.
    """
    before, now = Settings.read(folder).to_json(), settings.to_json()
    for part in ("train", "data", "policy"):
        for name, value in now[part].items():
            if name not in _MAY_DIFFER and before[part].get(name) != value:
                raise ConfigError(
                    f"{folder} holds a training with {name} {before[part].get(name)!r}, not "
                    f"{value!r}; name another --out, or --overwrite it"
                )
    try:
        state = torch.load(folder / RESUME, map_location="cpu", weights_only=True)
        trainee.restore(state)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise ConfigError(f"{folder / RESUME} is damaged; --overwrite begins anew") from error
    if trainee.step > settings.train.steps:
        raise ConfigError(
            f"{folder} is at step {trainee.step}, beyond --steps {settings.train.steps}; "
            "name another --out, or --overwrite it"
        )
    batches.restore(state["data"])
    _save_weights(folder, trainee)


@dataclass(eq=False)
class TrainedPolicy:
    """A policy with what it needs to be used: sizes of pictures, normalisation."""

    policy: Policy
    data: DataConfig
    statistics: StepStatistics
    device: str = "cpu"

    def act(
        self,
        frames: np.ndarray,
        states: np.ndarray,
        instructions: Sequence[tuple[str, Sequence[np.ndarray]]],
    ) -> np.ndarray:
        """Actions (N, chunk, A) float32 in the dataset's units.

        Args:
            frames: (N, window, image_px, image_px, 3) uint8 RGB.
            states: (N, window, S) in the dataset's units.
            instructions: N of (interleaved text, an RGB picture for each `<image>`).
        """
        encoded = [encode_instruction(text, shown, self.data) for text, shown in instructions]
        batch = {
            "frames": np.ascontiguousarray(np.moveaxis(frames, -1, 2)),
            "state": self.statistics.normalize_states(states),
            "tokens": np.stack([one.tokens for one in encoded]),
            "images": np.stack([one.images for one in encoded]),
            "image_mask": np.stack([one.image_mask for one in encoded]),
        }
        moved = {name: torch.from_numpy(part).to(self.device) for name, part in batch.items()}
        with torch.inference_mode(), autocast(self.device):
            return self.statistics.denormalize_actions(self.policy(moved).cpu().numpy())


def load_policy(folder: Path, *, device: str = "cpu", dataset: str | None = None) -> TrainedPolicy:
    """The policy of a checkpoint.

    Args:
        dataset: whose units states and actions are in; needed where it learned from several.

    Raises: ConfigError, also where the device is not there.
    """
    settings = Settings.read(Path(folder))
    names = sorted(settings.statistics)
    if (dataset is None and len(names) > 1) or dataset not in (None, *names):
        raise ConfigError(f"name one of its datasets, {', '.join(names)}; got {dataset!r}")
    policy = build_policy(settings.policy, device)
    try:
        policy.load_state_dict(safetensors.torch.load_file(Path(folder) / WEIGHTS))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise ConfigError(f"{folder}/{WEIGHTS} are not the weights of {CONFIG}: {error}") from error
    statistics = settings.statistics[dataset or names[0]]
    return TrainedPolicy(policy.eval(), settings.data, statistics, device)
