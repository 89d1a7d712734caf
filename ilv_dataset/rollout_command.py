"""The command `ilv rollout`: runs a policy in the simulation and says how often it succeeds."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ilv_dataset.fields import PROOF_PROMPTS, PROOF_TESTS

# Imports below a command are made there: `ilv --help` is quick.


@click.command()
@click.argument("checkpoint", metavar="CHECKPOINT", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="out/rollouts",
    show_default=True,
    help="Gets the scenes, the pictures and the result.",
)
@click.option("--test", type=click.Choice(PROOF_TESTS), default="known", show_default=True)
@click.option(
    "--told", type=click.Choice(PROOF_PROMPTS), help="By what.  [default: what it learned from]"
)
@click.option("--trials", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
def rollout(
    checkpoint: Path, out: Path, test: str, told: str | None, trials: int, seed: int, device: str
) -> None:
    """Runs the policy at CHECKPOINT in closed loop in the table-top simulation.

    Prints its success with the 95 % interval, and draws one rollout as a strip and as a GIF. The
    instruction images are cut out by `ilv convert`. The policy has to be one that `make proof`
    trained.

    \b
    Example:
        ilv rollout policy --test nouns
        ilv rollout policy --test pairs --told bank --trials 200
    """
    from ilv_dataset.proof.trying import try_policy

    result = try_policy(
        checkpoint, out, test=test, prompt=told, num_trials=trials, seed=seed, device=device
    )
    click.echo(json.dumps(result, indent=1))
