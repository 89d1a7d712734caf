"""Tables of the registry for people: `ilv datasets`."""

from __future__ import annotations

from ilv_dataset.datasets import list_datasets, list_mixtures, plan_mixture
from ilv_dataset.dataset_specs import DatasetSpec


def dataset_lines() -> list[str]:
    """One line a dataset, under a heading."""
    heading = ("name", "TFDS folder", "version", "episodes", "GiB", "Hz", "robot", "licence")
    rows = [heading, *(_row(spec) for spec in list_datasets())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heading))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def mixture_lines() -> list[str]:
    """A paragraph a mixture: its parts, and how many episodes they add up to."""
    lines = []
    for mixture in list_mixtures():
        rows = plan_mixture(mixture)
        num_episodes = sum(row.num_episodes for row in rows)
        num_expected = sum(row.num_with_instruction for row in rows)
        lines.append(f"mixture {mixture.name}: {mixture.title}")
        lines += [f"  {row.dataset:<16}{row.num_episodes:>9,}" for row in rows]
        lines.append(
            f"  {'in all':<16}{num_episodes:>9,} source episodes, about {num_expected:,} of them "
            "with an instruction"
        )
    return lines


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
