"""Measures what DESIGN.md, section 8, sets budgets for, and prints it beside its peers.

    make bench [ARGS='--quick --only throughput']

Exits with 1 where a budget is missed. A row whose peer, weights or labels are not there is left
out, and says so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from commands import measure_commands
from detecting import measure_overhead
from extraction import ASK_FEW, ASK_MANY, measure_asking, measure_extraction
from grounding import measure_grounding
from memory import measure_memory
from reading import measure_reading
from rows import Row, format_rows
from throughput import FULL, QUICK, measure_throughput

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"  # beside the checkout
WEIGHTS = "weights/yolov8n-seg_int8.onnx"


def main() -> int:
    """Runs the chosen groups in a folder of their own each, and prints the table."""
    options = _parse_options()
    rows: list[Row] = []
    begun = time.monotonic()
    for name, measure in _groups(options).items():
        if options.only and name not in options.only:
            continue
        with tempfile.TemporaryDirectory(prefix="ilv-bench-", dir=options.folder) as folder:
            for row in measure(Path(folder)):
                rows.append(row)
                print(f"{time.monotonic() - begun:5.0f} s  {row.what}", file=sys.stderr, flush=True)
    num_missed = sum(not row.is_met for row in rows)
    print(format_rows(rows))
    seconds = time.monotonic() - begun
    print(f"\n{len(rows)} rows in {seconds:.0f} s; budgets missed: {num_missed or 'none'}")
    return 1 if num_missed else 0


def _groups(options: argparse.Namespace) -> dict[str, Callable[[Path], Iterator[Row]]]:
    """What each group measures in the folder that it is given, by its name."""
    quick, shared = options.quick, options.shared
    rounds = 3 if quick else 5
    return {
        "throughput": lambda folder: measure_throughput(folder, QUICK if quick else FULL),
        "memory": lambda folder: measure_memory(folder, num_many=6 if quick else 20),
        "reading": lambda folder: measure_reading(
            folder, num_episodes=6 if quick else 25, num_rounds=1 if quick else 3
        ),
        "detecting": lambda folder: measure_overhead(
            folder, shared / WEIGHTS, num_spans=16 if quick else 48, num_rounds=3
        ),
        "grounding": lambda folder: measure_grounding(
            folder, num_episodes=6 if quick else 24, num_rounds=rounds, has_sam=not quick
        ),
        "commands": lambda folder: measure_commands(
            folder, num_shards=50 if quick else 1000, num_rounds=rounds
        ),
        "extraction": lambda _: measure_extraction(shared / "gold", num_rounds=rounds),
        "asking": lambda _: measure_asking(ASK_FEW if quick else ASK_MANY),
    }


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller cases, for a look")
    parser.add_argument(
        "--only",
        action="append",
        metavar="GROUP",
        help="which rows; may be repeated: throughput, memory, reading, detecting, grounding, "
        "commands, extraction, asking",
    )
    parser.add_argument("--folder", type=Path, help="where temporary data goes; 3 GB")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder of gold/ and weights/")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
