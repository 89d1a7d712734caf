"""The extractors: how right the grammar is, and how fast; how well `llm` fills its endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import timing
from rows import Row

from ilv_dataset.grammar import parse_instruction
from ilv_dataset.llm_options import ITEMS_PER_REQUEST
from ilv_dataset.phrases import score_phrases

F1_MIN = 0.97
CONCURRENCY, LATENCY_S = 16, 0.5
MEMORY_MAX_MB = 30.0  # some 200 bytes an instruction at 150,000
NUM_AT_LEAST = 2000  # instructions a round, the labelled ones over and over


@dataclass(frozen=True)
class AskingCase:
    """How many instructions a fake endpoint is asked about."""

    num: int
    num_for_memory: int | None


ASK_MANY = AskingCase(10_000, 150_000)
ASK_FEW = AskingCase(5_000, None)


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


def measure_asking(case: AskingCase) -> Iterator[Row]:
    """A row of the share of the ideal rate, and one of the memory that many instructions take."""
    own = timing.run_script("own_asking.py", case.num, CONCURRENCY, LATENCY_S)
    ideal = CONCURRENCY * ITEMS_PER_REQUEST / LATENCY_S
    rate = case.num / own["seconds"]
    yield Row(
        f"llm: {case.num:,} instructions, {LATENCY_S * 1000:g} ms a request",
        f"{rate:,.0f} items/s, {own['requests']:,} requests",
        f"ideal {ideal:,.0f} items/s, {CONCURRENCY} at a time",
        rate / ideal,
        at_least=0.9,
    )
    if case.num_for_memory:
        many = timing.run_script("own_asking.py", case.num_for_memory, CONCURRENCY, 0)
        yield Row(
            f"llm: memory for {case.num_for_memory:,} instructions",
            f"{many['memory_mb']:.0f} MB, {many['memory_before_mb']:.0f} before",
            f"for {case.num:,} {own['memory_mb']:.0f} MB, {own['memory_before_mb']:.0f} before",
            many["memory_mb"] - many["memory_before_mb"],
            "MB",
            at_most=MEMORY_MAX_MB,
        )


def _read_gold(path: Path) -> list[dict[str, list[str] | str]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]
