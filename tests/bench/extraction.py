"""The grammar extractor on labelled instructions: how right it is, and how fast."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import timing
from rows import Row

from ilv_dataset.grammar import parse_instruction
from ilv_dataset.phrases import score_phrases

F1_MIN = 0.95
NUM_AT_LEAST = 2000  # instructions a round, the labelled ones over and over


def measure_extraction(gold: Path, *, num_rounds: int) -> Iterator[Row]:
    """A row of F1 for each labelled file in a folder, and one of the rate over all of them."""
    labelled = {path.name: _read_gold(path) for path in sorted(gold.glob("*_instructions.*.jsonl"))}
    if not labelled:
        yield Row("grammar: F1 of phrases", "left out: no labelled instructions; see --shared")
        return
    for name, rows in labelled.items():
        instructions = [str(row["instruction"]) for row in rows]
        score = score_phrases(
            {text: {o.phrase for o in parse_instruction(text).objects} for text in instructions},
            {str(row["instruction"]): set(row["objects"]) for row in rows},
            neutral={str(row["instruction"]): set(row.get("surfaces", ())) for row in rows},
        )
        yield Row(
            f"grammar: F1 of phrases, {name.partition('_')[0]}",
            f"precision {score.precision:.3f}, recall {score.recall:.3f}",
            f"{len(rows)} instructions",
            score.f1,
            "",
            at_least=F1_MIN,
        )
    texts = [str(row["instruction"]) for rows in labelled.values() for row in rows]
    texts *= -(-NUM_AT_LEAST // len(texts))
    action = timing.Action(lambda: [parse_instruction(text) for text in texts])
    seconds = timing.time_in_turn({"grammar": action}, num_rounds=num_rounds)
    rate = len(texts) / timing.median(seconds["grammar"])
    yield Row("grammar: rate", f"{rate:,.0f} instructions/s")


def _read_gold(path: Path) -> list[dict[str, list[str] | str]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]
