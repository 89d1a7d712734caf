"""What processes that multiprocessing starts have in common: none outlives the one it works for."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import os
import threading


def open_pool(workers: int) -> multiprocessing.pool.Pool:
    """Processes that end with this one; spawned, not forked: it may hold threads or a GPU."""
    return multiprocessing.get_context("spawn").Pool(workers, end_with_parent)


def end_with_parent() -> None:
    """Has this process end as soon as the one that started it is gone, even killed.

    Else it would go on with its task, and write beside the run that resumes.
    """
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a child's process
    parent.join()
    os._exit(1)
