"""`python -m ilv_dataset.proof`: the whole experiment, its table and its plot."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import click

from ilv_dataset.errors import IlvError
from ilv_dataset.proof.experiment import QUICK, TIMES, Scale, run_experiment
from ilv_dataset.proof.tables import draw_bars, format_seeds, format_table, read_results


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="[default: out/proof, or out/proof-quick]",
)
@click.option("--quick", is_flag=True, help="Minutes; too small to show anything.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default=True
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
def main(out: Path | None, quick: bool, workers: int, device: str) -> None:
    """Shows that interleaved instructions carry over to unseen objects; run again, it resumes."""
    out = out or Path("out/proof-quick" if quick else "out/proof")
    scale = dataclasses.replace(QUICK if quick else Scale(), device=device)
    try:
        run_experiment(out, scale, workers=workers, say=_say)
        results = read_results(out / "rollouts")
    except IlvError as error:
        raise click.ClickException(" ".join(str(error).split())) from error
    table = f"{format_table(results)}\n{format_seeds(results)}"
    (out / "proof.md").write_text(table)
    draw_bars(results).save(out / "proof.png")
    minutes = {
        step: round(seconds / 60, 1)
        for step, seconds in json.loads((out / TIMES).read_text()).items()
    }
    click.echo(table)
    _say(f"minutes: {minutes}; {out / 'proof.md'}, {out / 'proof.png'}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
