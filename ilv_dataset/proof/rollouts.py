"""Policies in the simulation in closed loop: look, act for some steps, look again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ilv_dataset.formats.frames import fit_square
from ilv_dataset.proof.experts import begin_trial, settle
from ilv_dataset.proof.studio import Studio
from ilv_dataset.proof.trials import Trial
from ilv_dataset.simulation.motion import NOTHING, Arrangement, advance
from ilv_dataset.simulation.tasks import is_done

STEPS_MAX = 2  # as many as the expert needs: there is no second try
BATCH = 64  # trials that the policy is asked about at a time

# An interleaved text, with <image> for each picture, and the pictures, (S, S, 3) uint8.
Instruction = tuple[str, Sequence[np.ndarray]]
# frames (N, window, px, px, 3) uint8, states (N, window, 7), N instructions -> (N, chunk, 7)
Act = Callable[[np.ndarray, np.ndarray, Sequence[Instruction]], np.ndarray]


@dataclass(frozen=True, eq=False)
class Rollout:
    """What a policy did in one trial."""

    is_success: bool
    course: tuple[Arrangement, ...]  # where everything was, before each step and at the end


def roll_out(
    act: Act,
    trials: Sequence[Trial],
    instructions: Sequence[Instruction],
    studio: Studio,
    *,
    frame_px: int,
    window: int = 1,
    steps_max: int = STEPS_MAX,
    first_frames: Sequence[np.ndarray | None] | None = None,
) -> list[Rollout]:
    """Runs a policy in all trials; a chunk of actions is carried out before it looks again.

    Args:
        frame_px: side of the frames that the policy sees.
        first_frames: pictures of how the trials begin, where they are known, at any size.
    """
    runs = [_Run(trial) for trial in trials]
    while True:
        active = [row for row, run in enumerate(runs) if not run.is_over(steps_max)]
        if not active:
            return [Rollout(run.is_success, tuple(run.course)) for run in runs]
        for start in range(0, len(active), BATCH):
            rows = active[start : start + BATCH]
            for row in rows:
                known = first_frames[row] if first_frames and not runs[row].frames else None
                runs[row].look(studio, frame_px, known)
            actions = act(
                np.stack([runs[row].last_frames(window) for row in rows]),
                np.stack([runs[row].last_states(window) for row in rows]),
                [instructions[row] for row in rows],
            )
            for row, chunk in zip(rows, actions, strict=True):
                runs[row].carry_out(chunk, steps_max)


class _Run:
    """One trial under way."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self.course = [begin_trial(trial)]
        self.frames: list[np.ndarray] = []
        self._states: list[np.ndarray] = []

    @property
    def is_success(self) -> bool:
        """True where the mover was let go where the task asks."""
        now = self.course[-1]
        return now.held == NOTHING and is_done(self._trial.scene, now.poses, self._trial.task)

    def is_over(self, steps_max: int) -> bool:
        return self.is_success or len(self.course) > steps_max

    def look(self, studio: Studio, frame_px: int, known: np.ndarray | None) -> None:
        rgb = studio.take(self._trial.scene, self.course[-1]).rgb if known is None else known
        self.frames.append(fit_square(rgb, frame_px))
        self._states.append(self.course[-1].state)

    def last_frames(self, window: int) -> np.ndarray:
        return np.stack([self.frames[max(0, len(self.frames) - n)] for n in range(window, 0, -1)])

    def last_states(self, window: int) -> np.ndarray:
        return np.stack([self._states[max(0, len(self.frames) - n)] for n in range(window, 0, -1)])

    def carry_out(self, chunk: np.ndarray, steps_max: int) -> None:
        for action in chunk:
            if self.is_over(steps_max):
                return
            now, scene = self.course[-1], self._trial.scene
            self.course.append(advance(scene, now, settle(scene, now, action)))
