"""Keeps a run from ending: Python imports it by itself where `killing.held` names this folder.

Another sitecustomize of the machine is not imported then.
"""

import os
import sys
import threading
from pathlib import Path
from typing import Any

_STAGE, _NUM_MAX = os.environ["HELD"].split()


def _hold(event: str, args: tuple[Any, ...]) -> None:
    """Lets so many shards of a stage be committed; who commits the next one waits for ever."""
    if event == "os.rename":
        path = Path(args[1])
        is_marker = path.match(f".state/{_STAGE}/*.json")
        if is_marker and len(list(path.parent.glob("*.json"))) >= int(_NUM_MAX):
            threading.Event().wait()


sys.addaudithook(_hold)
