"""Asks a language model about the instructions of one dataset, and writes their table."""

from __future__ import annotations

import sys

from ilv_dataset.extraction.extractor import LlmExtractor
from ilv_dataset.jobs import Job
from ilv_dataset.ledgers import Ledger, describe_spent
from ilv_dataset.llm_options import LlmOptions, model_of
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
    known = list(read_instructions(job))
    extractor.remember(known)
    before = {row.instruction: row for row in known if row.fallback}
    instructions = read_distinct(job)
    ledger = _Ledger(job, extractor)
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


class _Ledger:
    """Counts what is settled, and keeps the account of this run up to date on the disk."""

    def __init__(self, job: Job, extractor: LlmExtractor) -> None:
        self._extractor = extractor
        self._ledger = Ledger(job.layout, "extractor")
        self._num_saved = 0

    def count_settled(self) -> int:
        """Texts that are answered, and now and then a copy of the account on the disk."""
        if self._extractor.usage.requests >= self._num_saved + _SAVE_EVERY:
            self.save()
        return self._extractor.num_settled

    def describe(self) -> str:
        """What has been spent so far, for the progress line."""
        return describe_spent(self._extractor.spent)

    def save(self) -> None:
        """Writes the account, where anything was asked."""
        self._num_saved = self._extractor.usage.requests
        self._ledger.save(self._extractor.spent)
