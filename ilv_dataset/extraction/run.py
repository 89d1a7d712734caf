"""Asks a language model about the instructions of one dataset, and writes their table."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from ilv_dataset.extraction.extractor import LlmExtractor
from ilv_dataset.formats import atomic, files
from ilv_dataset.jobs import Job
from ilv_dataset.llm_options import LlmOptions, model_of
from ilv_dataset.models.chat import Usage
from ilv_dataset.progress import showing_count
from ilv_dataset.shards.instructions import (
    forget_groundings,
    read_distinct,
    read_instructions,
    replace_instructions,
)

_SAVE_EVERY = 50  # requests; what a killed process forgets of its account


def extract_instructions(job: Job, llm: LlmOptions) -> None:
    """Asks about the distinct instructions of the scan, and writes the instructions table.

    Shards are grounded again whose instructions fell back on the grammar before, and do not now.

    Raises: EndpointError, ConfigError, StorageError; what was answered until then is kept.
    """
    extractor = LlmExtractor(
        model_of(job.extractor) or "",
        llm,
        out=job.layout.out,
        say=lambda line: print(line, file=sys.stderr),  # noqa: T201
    )
    extractor.remember(read_instructions(job))
    before = {row.instruction: row for row in read_instructions(job) if row.fallback}
    instructions = read_distinct(job)
    ledger = _Ledger(job, extractor, llm)
    try:
        with showing_count(
            ledger.count_settled,
            len(instructions),
            "extract",
            unit="instructions",
            detail=ledger.describe,
        ):
            extractor.ask(instructions)
    finally:
        ledger.save()
    after = extractor.parse_all([text for text in instructions if text in before])
    changed = frozenset(row.instruction for row in after if row != before[row.instruction])
    # Before the table: a run that is killed between the two must not keep what old rows led to.
    forget_groundings(changed, job=job)
    replace_instructions(extractor.parse_all(instructions), job=job)


def read_usage(job: Job) -> dict[str, float]:
    """What language models were asked for this dataset, over all its runs; empty where nothing."""
    path = job.layout.usage
    return json.loads(files.read_bytes(path)) if files.exists(path) else {}


class _Ledger:
    """The account of this run, added to that of the runs before it."""

    def __init__(self, job: Job, extractor: LlmExtractor, llm: LlmOptions) -> None:
        self._job = job
        self._extractor = extractor
        self._llm = llm
        self._before = read_usage(job)
        self._num_saved = 0

    def count_settled(self) -> int:
        """Texts that are answered, and now and then a copy of the account on the disk."""
        if self._extractor.usage.requests >= self._num_saved + _SAVE_EVERY:
            self.save()
        return self._extractor.num_settled

    def describe(self) -> str:
        """What has been spent so far, for the progress line."""
        usage, cost = self._extractor.usage, self._llm.cost(self._extractor.usage)
        return (
            f"{usage.requests:,} requests, {usage.tokens_in:,} tokens in, "
            f"{usage.tokens_out:,} out, "
            + ("" if cost is None else f"{cost:.2f} spent, ")
            + f"{self._extractor.num_cached:,} cached"
        )

    def save(self) -> None:
        """Writes the account, where anything was asked."""
        extractor = self._extractor
        usage: Usage = extractor.usage
        if not (usage.requests or usage.tokens):  # a batch may be handed in by an earlier run
            return
        self._num_saved = usage.requests
        cost = self._llm.cost(usage)
        spent: dict[str, float] = {**asdict(usage), "cache_hits": extractor.num_cached}
        if cost is not None:
            spent["cost"] = round(cost, 6)
        total = {name: self._before.get(name, 0) + value for name, value in spent.items()}
        atomic.write_json(self._job.layout.usage, total, out=self._job.layout.out)
