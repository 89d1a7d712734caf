"""The table that `make bench` prints: one row a measurement, with its peer and its target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HEADINGS = ("what", "measured", "beside", "ratio", "must be", "")


@dataclass(frozen=True)
class Row:
    """One measurement; `value` is what is held against the target, a ratio unless said."""

    what: str
    measured: str
    peer: str = ""
    value: float | None = None
    unit: str = "x"
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the target is met; a row without one is for reading only."""
        if self.value is None:
            return True
        over = self.at_most is not None and self.value > self.at_most
        under = self.at_least is not None and self.value < self.at_least
        return not (over or under)

    @property
    def target(self) -> str:
        """The target in words."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}{_suffix(self.unit)}"
        if self.at_most is not None:
            return f"at most {self.at_most:g}{_suffix(self.unit)}"
        return ""

    def cells(self) -> tuple[str, ...]:
        """The row as it is printed, in the order of HEADINGS."""
        value = "" if self.value is None else f"{self.value:.3g}{_suffix(self.unit)}"
        verdict = ("ok" if self.is_met else "MISSED") if self.target else ""
        return self.what, self.measured, self.peer, value, self.target, verdict


def format_rows(rows: Sequence[Row]) -> str:
    """The table, columns as wide as they need to be."""
    lines = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _suffix(unit: str) -> str:
    return unit if unit in ("x", "%") else f" {unit}".rstrip()
