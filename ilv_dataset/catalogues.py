"""Tables of the registry for people: `ilv datasets`."""

from __future__ import annotations

from ilv_dataset.dataset_specs import DatasetSpec
from ilv_dataset.datasets import find_mixture, list_datasets, plan_mixture


def dataset_lines() -> list[str]:
    """One line a dataset, under a heading."""
    heading = ("name", "TFDS folder", "version", "episodes", "GiB", "Hz", "robot", "licence")
    rows = [heading, *(_row(spec) for spec in list_datasets())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heading))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def mixture_lines(name: str) -> list[str]:
    """The parts of a mixture, and how many episodes they add up to."""
    mixture = find_mixture(name)
    rows = plan_mixture(mixture)
    num_episodes = sum(row.num_episodes for row in rows)
    num_expected = sum(row.num_with_instruction for row in rows)
    return [
        f"mixture {mixture.name}: {mixture.title}",
        *(f"  {row.dataset:<16}{row.num_episodes:>9,}" for row in rows),
        f"  {'in all':<16}{num_episodes:>9,} source episodes, "
        f"about {num_expected:,} expected to be interleaved",
    ]


def _row(spec: DatasetSpec) -> tuple[str, ...]:
    return (
        spec.key,
        spec.tfds_name,
        spec.version,
        f"{spec.num_episodes:,}" if spec.num_episodes else "",
        f"{spec.size_gib:,.1f}" if spec.size_gib else "",
        f"{spec.hz:g}" if spec.hz else "",
        spec.robot,
        spec.license,
    )
