"""The account of a run: what went in, what became of it, and whether that adds up."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from ilv_dataset.errors import IlvError
from ilv_dataset.fields import STATUSES
from ilv_dataset.formats.atomic import FileSummary
from ilv_dataset.formats.markers import Marker, sum_counts
from ilv_dataset.messages import count_noun

_LIBRARIES = ("apache-beam", "numpy", "opencv-python-headless", "pillow", "pyarrow")


@dataclass(frozen=True)
class Account:
    """Spans that went in and what became of them."""

    num_in: int
    num_episodes: int
    by_status: Mapping[str, int]  # every one of fields.STATUSES
    by_reason: Mapping[str, int]  # "<status>:<reason>"

    @property
    def failed_share(self) -> float:
        """Failed spans of all spans, 0..1."""
        return self.by_status["failed"] / self.num_in if self.num_in else 0.0


def make_account(scanned: Sequence[Marker], grounded: Sequence[Marker]) -> Account:
    """Adds up what the scan saw and what the grounding wrote.

    Raises: IlvError where in = interleaved + text_only + rejected + failed does not hold.
    """
    seen, found = sum_counts(scanned), sum_counts(grounded)
    by_status = {status: found.get(status, 0) for status in STATUSES}
    account = Account(
        num_in=seen.get("spans", 0),
        num_episodes=seen.get("episodes", 0),
        by_status=by_status,
        by_reason={name: count for name, count in found.items() if ":" in name},
    )
    if account.num_in != sum(by_status.values()):
        raise IlvError(
            f"the account does not balance: {account.num_in} spans went in, "
            f"{sum(by_status.values())} came out ({by_status}); please report this"
        )
    return account


def describe_account(account: Account) -> list[str]:
    """Lines for people: the balance, and why spans were not interleaved."""
    parts = " + ".join(f"{count:,} {status}" for status, count in account.by_status.items())
    spans, episodes = (
        count_noun(number, noun)
        for number, noun in ((account.num_in, "span"), (account.num_episodes, "episode"))
    )
    lines = [f"{spans} of {episodes} = {parts}"]
    for name, count in sorted(account.by_reason.items(), key=lambda item: (-item[1], item[0])):
        status, reason = name.split(":")
        lines.append(f"  {count:>9,} {status}: {reason}")
    return lines


def run_summary(
    fingerprint: Mapping[str, object],
    account: Account,
    markers: Mapping[str, Sequence[Marker]],
    small_files: Sequence[FileSummary] = (),
    *,
    formats: Sequence[str],
) -> dict[str, object]:
    """What run.json says; holds no clock, so the same run writes the same bytes."""
    return {
        "config": dict(fingerprint),
        "formats": sorted(formats),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
        "account": asdict(account),
        "counts": {stage: sum_counts(found) for stage, found in markers.items()},
        "files": [
            asdict(file)
            for file in (
                *(file for found in markers.values() for marker in found for file in marker.files),
                *small_files,
            )
        ],
    }
