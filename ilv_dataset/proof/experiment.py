"""The whole experiment, step by step; each step keeps what it made, so a killed run goes on."""

from __future__ import annotations

import json
import multiprocessing.pool
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from ilv_dataset.child_processes import open_pool
from ilv_dataset.errors import ConfigError, StorageError
from ilv_dataset.fields import PROOF_TESTS
from ilv_dataset.formats import atomic
from ilv_dataset.models.bundled import list_bundled
from ilv_dataset.models.runtime import weights_digest
from ilv_dataset.proof.demonstrations import (
    BANK_SUFFIX,
    DATASET_NAME,
    find_trial,
    open_studio,
    write_demonstrations,
)
from ilv_dataset.proof.prompts import read_told, tell
from ilv_dataset.proof.rollouts import roll_out
from ilv_dataset.proof.tables import ROWS

INSTRUCTIONS = ("text", "interleaved")  # what a policy learns from
DETECTOR, SEGMENTER = "yolo-world:tabletop", "sam:tabletop"
SAVE_EVERY = 200  # steps
AVERAGE = 0.99  # of the weights; a few thousand steps are too few for a longer mean
SOURCE = "source"  # the folder of the demonstrations
TIMES, EXPERIMENT, LOSSES = "times.json", "experiment.json", "losses.csv"
THREADS = "OMP_NUM_THREADS"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Scale:
    """How large the experiment is."""

    num_train: int = 3000
    num_trials: int = 200  # of each test, a seed
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 3000
    batch: int = 64
    chunk: int = 1
    image_px: int = 64
    mix: str = "own=0.9,text=0.1"
    device: str = "cpu"
    data_seed: int = 0


QUICK = Scale(num_train=120, num_trials=20, seeds=(0,), steps=60)


@dataclass(frozen=True)
class Job:
    """The rollouts of one policy in one test, told in one way."""

    instruction: str
    seed: int
    test: str
    prompt: str

    @property
    def file_name(self) -> str:
        """Where its result is kept."""
        return f"{self.instruction}-{self.seed}-{self.test}-{self.prompt}.json"


def run_experiment(out: Path, scale: Scale, *, workers: int, say: Say) -> None:
    """Data, conversion, trainings and rollouts; what is there already is not made again.

    Raises: IlvError; a ConfigError where `out` is of another experiment, or another run's.
    """
    with atomic.locked_output(str(out)):
        keep_experiment(out, scale)
        _run_steps(out, scale, workers=workers, say=say)


def keep_experiment(out: Path, scale: Scale) -> None:
    """Writes experiment.json: the scale, and the bundled weights that cut out the crops.

    Raises: ConfigError where what is there was made at another scale or with other weights.
    """
    content = {name: value for name, value in asdict(scale).items() if name != "device"}
    content |= {f"{kind}:{name}": weights_digest(path) for kind, name, path in list_bundled()}
    now, path = json.loads(json.dumps(content)), out / EXPERIMENT
    advice = "name another --out, or delete that folder"
    if path.exists():
        before = json.loads(path.read_text())
        names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
        if names:
            said = ", ".join(f"{name} {before.get(name)}, not {now.get(name)}" for name in names)
            raise ConfigError(f"{out} holds another experiment: {said}; {advice}")
    elif (out / SOURCE).exists():
        raise ConfigError(f"{out} holds an experiment without its {EXPERIMENT}; {advice}")
    atomic.write_json(str(path), now, out=str(out))


def _run_steps(out: Path, scale: Scale, *, workers: int, say: Say) -> None:
    with timing(out, "generate", say):
        write_demonstrations(
            out / SOURCE,
            split_sizes(scale),
            seed=scale.data_seed,
            workers=workers,
            on_shard=lambda done, total: say(f"generate: shard {done} of {total}"),
        )
    with timing(out, "convert", say):
        convert(out)
    with timing(out, "train", say):
        train_policies(out, scale, workers=workers, say=say)
    with timing(out, "roll out", say):
        roll_out_jobs(out, scale, workers=workers, say=say)


def split_sizes(scale: Scale) -> dict[str, int]:
    """Episodes of each split of the experiment's dataset."""
    tests = {name: scale.num_trials for test in PROOF_TESTS for name in (test, test + BANK_SUFFIX)}
    return {"train": scale.num_train, **tests}


def convert(out: Path) -> None:
    """The real conversion, as a user runs it, by the bundled models.

    Raises: StorageError where it fails.
    """
    # -P: a file of the working directory never stands for a module.
    start = "import sys; sys.argv[0] = 'ilv'; from ilv_dataset.cli import main; main()"
    command = [sys.executable, "-P", "-c", start, "convert", DATASET_NAME]
    options = {"--data-dir": out / SOURCE, "--out": out / "converted"}
    models = {"--detector": DETECTOR, "--segmenter": SEGMENTER, "--extractor": "grammar"}
    for name, value in {**options, **models}.items():
        command += [name, str(value)]
    code = subprocess.run([*command, "--include", "text_only"], check=False).returncode
    if code:
        raise StorageError(f"ilv convert ended with {code}")


def train_policies(out: Path, scale: Scale, *, workers: int, say: Say) -> None:
    """One policy for each instruction and seed, several at a time."""
    pairs = [(kind, seed) for seed in scale.seeds for kind in INSTRUCTIONS]
    missing = [pair for pair in pairs if not (policy_folder(out, *pair) / ".trained").exists()]
    train = partial(_train_policy, out=out, scale=scale)
    with _pool(min(workers, len(missing) or 1)) as pool:
        for kind, seed, loss, minutes in pool.imap_unordered(train, missing):
            say(f"trained {kind} {seed}: loss {loss:.4f}, {minutes:.1f} min")


def policy_folder(out: Path, instruction: str, seed: int) -> Path:
    """Where a policy is."""
    return out / "policies" / f"{instruction}-{seed}"


def _train_policy(
    pair: tuple[str, int], *, out: Path, scale: Scale
) -> tuple[str, int, float, float]:
    from ilv_dataset.train import checkpoints, loop
    from ilv_dataset.train.data import DataConfig, open_batches

    instruction, seed = pair
    began, folder = time.monotonic(), policy_folder(out, *pair)
    config = loop.TrainConfig(steps=scale.steps, seed=seed, device=scale.device, average=AVERAGE)
    data = DataConfig(
        image_px=scale.image_px,
        crop_px=scale.image_px // 2,
        batch=scale.batch,
        chunk=scale.chunk,
        seed=seed,
        instruction=instruction,
        mix=scale.mix,
        keep_frames=True,
    )
    batches = open_batches([str(out / "converted")], data)
    settings = checkpoints.settings_of(batches, config, data)
    trainee = loop.make_trainee(settings.policy, config)
    folder.mkdir(parents=True, exist_ok=True)
    if checkpoints.has_training(folder):
        checkpoints.resume(folder, trainee, batches, settings)
    cut_log(folder, trainee.step)
    losses: deque[float] = deque(maxlen=100)
    for step, loss in loop.train(trainee, batches, config):
        losses.append(loss)
        if step % SAVE_EVERY == 0 or step == config.steps:
            _log(folder, f"{step},{sum(losses) / len(losses):.5f}\n")
            checkpoints.save(folder, trainee, settings, batches.state())
    (folder / ".trained").touch()
    return instruction, seed, sum(losses) / max(1, len(losses)), (time.monotonic() - began) / 60


def cut_log(folder: Path, step: int) -> None:
    """Takes out of losses.csv what comes behind a step: it is done again."""
    path = folder / LOSSES
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if int(line.partition(",")[0]) <= step]
    path.write_text("".join(kept))


def _log(folder: Path, line: str) -> None:
    with (folder / LOSSES).open("a") as file:
        file.write(line)


def list_jobs(scale: Scale) -> list[Job]:
    """Every policy in every test, told in each way that the table has a row for."""
    return [
        Job(instruction, seed, test, prompt)
        for seed in scale.seeds
        for test in PROOF_TESTS
        for instruction, prompt in ROWS
    ]


def roll_out_jobs(out: Path, scale: Scale, *, workers: int, say: Say) -> None:
    """Rolls out what has no result yet; a process sets up a test's trials once for a seed."""
    folder = out / "rollouts"
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[tuple[int, str], list[Job]] = {}
    for job in list_jobs(scale):
        if not (folder / job.file_name).exists():
            groups.setdefault((job.seed, job.test), []).append(job)
    with _pool(workers) as pool:
        run = partial(_run_jobs, out=out, scale=scale)
        for lines in pool.imap_unordered(run, groups.values()):
            say("\n".join(lines))


def _run_jobs(jobs: Sequence[Job], *, out: Path, scale: Scale) -> list[str]:
    """Runs jobs of one test; each leaves its file as soon as it is through."""
    from ilv_dataset.train.checkpoints import load_policy

    test = jobs[0].test
    told = read_told(out / "converted", test)
    found = [find_trial(test, index, seed=scale.data_seed) for index in range(scale.num_trials)]
    trials = [trial for trial, _ in found]
    chance = sum(trial.chance for trial in trials) / len(trials)
    lines = []
    for job in jobs:
        policy = load_policy(policy_folder(out, job.instruction, job.seed), device=scale.device)
        results = roll_out(
            policy.act,
            trials,
            [tell(job.prompt, trial, index, told) for index, trial in enumerate(trials)],
            open_studio(),
            frame_px=scale.image_px,
            first_frames=[picture.rgb for _, picture in found],
        )
        successes = [result.is_success for result in results]
        unfinished = out / "rollouts" / f".{job.file_name}"
        unfinished.write_text(json.dumps({"successes": successes, "chance": chance}))
        unfinished.rename(out / "rollouts" / job.file_name)
        share = sum(successes) / len(successes)
        lines.append(f"{job.instruction} {job.seed}, {test}, told by {job.prompt}: {share:.1%}")
    return lines


@contextmanager
def _pool(workers: int) -> Iterator[multiprocessing.pool.Pool]:
    """Processes of one thread each: several trainings side by side are faster than one by one."""
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"  # read by a process when it begins
    try:
        with open_pool(workers) as pool:
            yield pool
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before


@contextmanager
def timing(out: Path, step: str, say: Say) -> Iterator[None]:
    """Adds the seconds that a step took to those of earlier runs, which were killed perhaps."""
    out.mkdir(parents=True, exist_ok=True)
    began, path = time.monotonic(), out / TIMES
    say(f"{step} …")
    try:
        yield
    finally:
        times = json.loads(path.read_text()) if path.exists() else {}
        times[step] = times.get(step, 0.0) + time.monotonic() - began
        path.write_text(json.dumps(times, indent=1))
