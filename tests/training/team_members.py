"""What the members of test_teams do; a module of its own, for their processes import it."""

import os
import time
from pathlib import Path

from ilv_dataset.training.teams import Team


def average_twice(folder: Path, *, team: Team) -> None:
    """Two steps whose gradients are rank + 1 and 10 * (rank + 1)."""
    import torch

    model = torch.nn.Linear(2, 1)
    means = []
    for step, factor in enumerate((1.0, 10.0)):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, factor * (team.rank + 1))
        team.average_gradients(model, step)
        means += [float(value) for p in model.parameters() for value in p.grad.flatten()]
    (folder / str(team.rank)).write_text(str(means))


def fail_as_the_second(*, team: Team) -> None:
    """The first waits for the second, which fails."""
    if team.rank == 1:
        raise ValueError("lost")
    team.barrier.wait(60)


def wait_long(folder: Path, *, team: Team) -> None:
    """Says who it is, and waits."""
    (folder / f"{team.rank}.unfinished").write_text(str(os.getpid()))
    (folder / f"{team.rank}.unfinished").rename(folder / str(team.rank))
    time.sleep(60)
