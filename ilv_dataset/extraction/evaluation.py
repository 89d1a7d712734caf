"""How right an extractor is on labelled instructions, and what an answer costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ilv_dataset.errors import ConfigError
from ilv_dataset.extraction.extractor import LlmExtractor
from ilv_dataset.grammar import parse_instruction
from ilv_dataset.llm_options import LlmOptions, model_of
from ilv_dataset.models.budgets import Usage
from ilv_dataset.phrases import PhraseScore, score_phrases
from ilv_dataset.records import ParsedInstruction


@dataclass(frozen=True)
class Evaluation:
    """What came of one extractor on one file of labelled instructions."""

    extractor: str
    num_instructions: int
    score: PhraseScore
    fallbacks: dict[str, int] = field(default_factory=dict)  # by their reason
    usage: Usage = field(default_factory=Usage)  # of this run; what was cached costs nothing


def evaluate_phrases(gold: Path, extractor: str, llm: LlmOptions, *, out: str) -> Evaluation:
    """Scores an extractor on a file of labelled instructions.

    Args:
        gold: JSON lines of {"instruction", "objects", "surfaces"?}; phrases of surfaces are
            neither right nor wrong.
        extractor: resolved: `grammar` or `llm:MODEL`.
        out: the folder that the cache of replies lies in where none is named.

    Raises: ConfigError where the file is not such a file; EndpointError; StorageError.
    """
    labels = _read_gold(gold)
    parsed, usage = extract(sorted(labels), extractor, llm, out=out)
    fallbacks: dict[str, int] = {}
    for row in parsed:
        if row.fallback:
            fallbacks[row.fallback] = fallbacks.get(row.fallback, 0) + 1
    score = score_phrases(
        {row.instruction: {found.phrase for found in row.objects} for row in parsed},
        {text: objects for text, (objects, _) in labels.items()},
        neutral={text: surfaces for text, (_, surfaces) in labels.items()},
    )
    return Evaluation(extractor, len(labels), score, fallbacks, usage)


def describe_evaluation(found: Evaluation, *, as_json: bool) -> list[str]:
    """Lines for people: the score, what an answer took, and the table of the misses; or JSON."""
    if as_json:
        return [json.dumps(asdict(found), ensure_ascii=False)]
    score, usage = found.score, found.usage
    lines = [
        f"{found.extractor} on {found.num_instructions:,} instructions",
        f"precision  {score.precision:.3f}  ({score.num_right:,} of {score.num_predicted:,} found)",
        f"recall     {score.recall:.3f}  ({score.num_right:,} of {score.num_gold:,} labelled)",
        f"F1         {score.f1:.3f}",
    ]
    if usage.requests:
        lines.append(
            f"asked      {usage.requests:,} requests, {usage.tokens_in:,} tokens in, "
            f"{usage.tokens_out:,} out: {usage.tokens / max(1, score.num_right):,.1f} tokens "
            "a right phrase"
        )
    for reason, count in sorted(found.fallbacks.items()):
        lines.append(f"fell back  {count:,} on the grammar: {reason}")
    if score.misses:
        lines += ["", f"{len(score.misses):,} instructions are not as labelled:"]
    for miss in score.misses:
        lines.append(f"  {miss.instruction}")
        lines += [f"    missing  {name!r}" for name in miss.missing]
        lines += [f"    extra    {name!r}" for name in miss.extra]
    return lines


def extract(
    instructions: Sequence[str], extractor: str, llm: LlmOptions, *, out: str
) -> tuple[list[ParsedInstruction], Usage]:
    """Rows of the instructions, in their order, and what was asked for them.

    Raises: EndpointError, ConfigError, StorageError.
    """
    model = model_of(extractor)
    if model is None:
        return [parse_instruction(text) for text in instructions], Usage()
    asker = LlmExtractor(model, llm, out=out)
    asker.ask(list(dict.fromkeys(instructions)))
    return list(asker.parse_all(instructions)), asker.usage


def _read_gold(path: Path) -> dict[str, tuple[set[str], set[str]]]:
    """Instruction -> (phrases of objects, of surfaces)."""
    labels = {}
    try:
        for line in filter(str.strip, path.read_text("utf-8").splitlines()):
            row = json.loads(line)
            objects, surfaces = _names(row["objects"]), _names(row.get("surfaces", []))
            labels[str(row["instruction"])] = (objects, surfaces)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: not a file of labelled instructions: {error}") from error
    if not labels:
        raise ConfigError(f"{path}: no labelled instructions in it")
    return labels


def _names(found: object) -> set[str]:
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"expected a list of phrases, got {str(found)[:80]}")
    return set(found)
