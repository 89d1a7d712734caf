"""A fault as one line, and the report that says each of them at once and goes on."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ilv_dataset.errors import IlvError

_LENGTH_MAX = 600  # characters; what a damaged file says of itself has no end


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong."""

    path: str
    place: str  # "row 3", "record 0", or "" for the whole file
    message: str

    def __str__(self) -> str:
        message = self.message.removeprefix(f"{self.path}: ")
        line = ": ".join(part for part in (self.path, self.place, message) if part)
        return "".join(c if c.isprintable() else " " for c in line)[:_LENGTH_MAX]


class Report:
    """Passes each fault on as it is found, and counts faults and what was checked."""

    def __init__(self, say: Callable[[Fault], None]) -> None:
        self._say = say
        self.num_faults = 0
        self.checked: Counter[str] = Counter()

    def fault(self, path: str, message: str, *, place: str = "") -> None:
        """Notes one fault."""
        self.num_faults += 1
        self._say(Fault(path, place, message))

    @contextlib.contextmanager
    def reading(self, path: str, *, place: str = "") -> Iterator[None]:
        """Turns one of our own errors, such as an unreadable file, into a fault of `path`."""
        try:
            yield
        except IlvError as error:
            self.fault(path, str(error), place=place)
