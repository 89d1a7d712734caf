"""The verifier `agreement`: judges by the figures at hand; needs no model and no network."""

from __future__ import annotations

from collections.abc import Sequence

from ilv_dataset.agreement import judge_candidate
from ilv_dataset.records import Candidate, Verdict

_VERSION = "agreement-v1"


class AgreementVerifier:
    """Applies the rules of `ilv_dataset.agreement`; it cannot find key points."""

    spec = "agreement"
    fingerprint = _VERSION

    def __call__(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """Judges each candidate by itself and by what earlier frames showed."""
        return [judge_candidate(candidate) for candidate in candidates]
