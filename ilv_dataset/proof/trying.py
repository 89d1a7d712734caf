"""One policy in one test, away from the experiment: what `ilv rollout` does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ilv_dataset.crop_scores import wilson_interval
from ilv_dataset.errors import ConfigError
from ilv_dataset.formats import atomic
from ilv_dataset.proof.demonstrations import (
    BANK_SUFFIX,
    DATASET_NAME,
    find_trial,
    open_studio,
    write_demonstrations,
)
from ilv_dataset.proof.experiment import convert
from ilv_dataset.proof.prompts import read_told, tell
from ilv_dataset.proof.rollouts import Instruction, Rollout, roll_out
from ilv_dataset.proof.strips import draw_strip, film, save_gif
from ilv_dataset.proof.trials import Trial
from ilv_dataset.train.checkpoints import Settings, TrainedPolicy, load_policy


def try_policy(
    checkpoint: Path,
    out: Path,
    *,
    test: str,
    prompt: str | None,
    num_trials: int,
    seed: int,
    device: str = "cpu",
) -> dict[str, object]:
    """Rolls a policy out in new scenes; writes result.json, rollout.png and rollout.gif to `out`.

    Raises: IlvError; a ConfigError where the policy did not learn from the proof's dataset.
    """
    policy = _load_policy(checkpoint, device)
    prompt = prompt or ("text" if policy.data.instruction == "text" else "own")
    with atomic.locked_output(str(out)):
        return _try_policy(policy, out, test, prompt, num_trials, seed)


def _load_policy(checkpoint: Path, device: str) -> TrainedPolicy:
    names = sorted(Settings.read(checkpoint).statistics)
    if DATASET_NAME not in names:
        raise ConfigError(
            f"{checkpoint} learned from {', '.join(names)}, not from {DATASET_NAME}; "
            "name a policy that `make proof` trained"
        )
    policy = load_policy(checkpoint, device=device, dataset=DATASET_NAME)
    sizes = (policy.policy.config.state_dim, policy.policy.config.action_dim)
    if sizes != (7, 7):
        raise ConfigError(f"the simulation has 7 numbers of state and of action, not {sizes}")
    return policy


def _try_policy(
    policy: TrainedPolicy, out: Path, test: str, prompt: str, num_trials: int, seed: int
) -> dict[str, object]:
    folder = out / f"{test}-{seed}-{num_trials}"
    sizes_of = {test: num_trials, test + BANK_SUFFIX: num_trials}
    write_demonstrations(folder / "source", sizes_of, seed=seed)
    convert(folder)
    told = read_told(folder / "converted", test)
    trials = [find_trial(test, index, seed=seed)[0] for index in range(num_trials)]
    instructions = [tell(prompt, trial, index, told) for index, trial in enumerate(trials)]
    results = roll_out(
        policy.act,
        trials,
        instructions,
        open_studio(),
        frame_px=policy.data.image_px,
        window=policy.data.window,
    )
    result = {"test": test, "told": prompt, "seed": seed, **_summarise(trials, results)}
    (out / "result.json").write_text(json.dumps(result, indent=1))
    _show(out, trials, instructions, results)
    return result


def _summarise(trials: Sequence[Trial], results: Sequence[Rollout]) -> dict[str, object]:
    count = sum(result.is_success for result in results)
    low, high = wilson_interval(count, len(results))
    chance = sum(trial.chance for trial in trials) / len(trials)
    return {
        "successes": count,
        "trials": len(results),
        "success": round(count / len(results), 4),
        "interval": [round(low, 4), round(high, 4)],
        "chance": round(chance, 4),
    }


def _show(
    out: Path,
    trials: Sequence[Trial],
    instructions: Sequence[Instruction],
    results: Sequence[Rollout],
) -> None:
    """Draws the first rollout that succeeded, or else the first."""
    row = next((row for row, result in enumerate(results) if result.is_success), 0)
    frames = film(results[row], trials[row], open_studio())
    title = "done" if results[row].is_success else "not done"
    draw_strip(frames, instructions[row], title).save(out / "rollout.png")
    save_gif(frames, out / "rollout.gif")
