"""The command `python -m ilv_dataset.training`: one of COMMANDS, each with a --help of its own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from ilv_dataset.errors import IlvError

COMMANDS = ("scenes", "truth", "detector", "export", "segmenter")


def main(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit status."""
    name, *others = arguments or [""]
    if name not in COMMANDS:
        sys.stderr.write(f"usage: python -m ilv_dataset.training {{{','.join(COMMANDS)}}} ...\n")
        return 0 if name in ("-h", "--help") else 2
    module = importlib.import_module(f"ilv_dataset.training.{name}")
    try:
        module.main(others)
    except IlvError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
