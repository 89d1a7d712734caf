"""A local worker process: Beam's own, but quiet, and gone when its launcher is.

Run by Beam as `python -m ilv_dataset.pipelines.worker`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time

LAUNCHER = "ILV_LAUNCHER_PID"
_LOOK_EVERY_S = 1.0


def main() -> None:
    """Serves the launcher until it is done or dead.

    A launcher that is killed takes no worker with it; one that went on would write beside the
    run that resumes.
    """
    threading.Thread(target=_die_with, args=(int(os.environ[LAUNCHER]),), daemon=True).start()
    logging.disable(logging.ERROR)  # a worker logs every step it takes; errors go to the launcher
    from apache_beam.runners.worker import sdk_worker_main

    try:
        # An error of a shard reaches the launcher; Beam prints its traceback here as well.
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # noqa: PTH123
            sdk_worker_main.main(sys.argv)
    except Exception:
        time.sleep(2 * _LOOK_EVERY_S)  # where it is the launcher that is gone, this ends here
        raise


def _die_with(launcher: int) -> None:
    # Another takes its place as the parent at once; its number may stay, as that of a zombie.
    while os.getppid() == launcher:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)


if __name__ == "__main__":
    main()
