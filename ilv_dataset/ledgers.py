"""What models were asked for one dataset: each process keeps its account in a file of its own."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from ilv_dataset.errors import StorageError
from ilv_dataset.formats import atomic, files
from ilv_dataset.formats.files import join_path
from ilv_dataset.layout import Layout
from ilv_dataset.models.budgets import Prices, Usage

Spent = Mapping[str, float]  # requests, tokens_in, tokens_out, cache_hits, and cost where known


class Ledger:
    """The account of one model in one process; `role` is extractor or verifier."""

    def __init__(self, layout: Layout, role: str) -> None:
        self._out = layout.out
        self._path = join_path(layout.spent, f"{role}-{uuid.uuid4().hex}.json")

    def save(self, spent: Spent) -> None:
        """Writes what this process has spent so far, where it has asked anything.

        Raises: StorageError.
        """
        # A batch may have been handed in by an earlier process: tokens, but no request.
        if spent["requests"] or spent["tokens_in"]:
            atomic.write_json(self._path, spent, out=self._out)


def is_account(path: str) -> bool:
    """Whether a file has the name of an account."""
    return re.search(r"/(extractor|verifier)-[0-9a-f]{32}\.json$", path) is not None


def spent_on(usage: Usage, *, num_cached: int, prices: Prices | None) -> dict[str, float]:
    """The account of one process."""
    cost = usage.cost(prices)
    known = {} if cost is None else {"cost": round(cost, 6)}
    return {**asdict(usage), "cache_hits": num_cached, **known}


def read_spent(layout: Layout) -> dict[str, dict[str, float]]:
    """What was spent on a dataset by all processes of all its runs, by role.

    There is a cost where all of them knew the prices.

    Raises: StorageError.
    """
    accounts: dict[str, list[Spent]] = {}
    paths = [join_path(layout.spent, name) for name in files.list_names(layout.spent)]
    for path in filter(is_account, paths):
        try:
            spent = json.loads(files.read_bytes(path))
        except ValueError as error:
            raise StorageError(f"{path} is damaged ({error}); remove it") from error
        accounts.setdefault(path.rpartition("/")[2].partition("-")[0], []).append(spent)
    return {role: _add_up(found) for role, found in sorted(accounts.items())}


def _add_up(accounts: Sequence[Spent]) -> dict[str, float]:
    known = set.intersection(*(set(spent) for spent in accounts))
    return {name: sum(spent[name] for spent in accounts) for name in accounts[0] if name in known}


def describe_spent(spent: Spent) -> str:
    """An account on one line, for progress."""
    cost = f"{spent['cost']:.2f} spent, " if "cost" in spent else ""
    return (
        f"{spent['requests']:,} requests, {spent['tokens_in']:,} tokens in, "
        f"{spent['tokens_out']:,} out, {cost}{spent['cache_hits']:,} cached"
    )
