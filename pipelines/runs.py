"""Runs one graph with Beam's own flags, and brings our own errors back as they were."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import itertools
import logging
import os
import queue
import re
import shlex
import sys
import threading
from collections.abc import Callable, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners import create_runner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from ilv_dataset import errors
from ilv_dataset.pipelines import worker

DEFAULT_RUNNER = "FnApiRunner"
OWN_RUNNERS = (DEFAULT_RUNNER, "DirectRunner")  # run by FnApiRunner, in this process
LOCAL_RUNNERS = (*OWN_RUNNERS, "BundleBasedDirectRunner", "PrismRunner")
# A worker in another process hands its errors over as the text of a traceback.
_OWN_ERROR = re.compile(r"ilv_dataset\.errors\.(\w+): (.*?)(?: \[while running [^\n]*)?$", re.M)
_WORKER_THREAD = "run_worker"  # Source: apache_beam, fn_api_runner/worker_handlers.py
_IF_LOST = "memory may have run out: try fewer --direct_num_workers; the same command goes on"
_LOOK_UP_S = 0.1  # Source: ours; at once for who pressed Ctrl-C, nothing for the processor
_left_behind: list[int] = []  # the exit status, once a thread of Beam's is left to itself
_WHILE_RUNNING = re.compile(r" \[while running '[^']*'\]")


def runner_name(beam_args: Sequence[str]) -> str:
    """The runner that the flags name; the in-process one where they name none."""
    names = [arg.partition("=")[2] for arg in beam_args if arg.startswith("--runner=")]
    names += [b for a, b in itertools.pairwise(beam_args) if a == "--runner"]
    return names[-1] if names else DEFAULT_RUNNER


def run_graph(build: Callable[[beam.Pipeline], object], beam_args: Sequence[str]) -> None:
    """Builds and runs one graph, and waits until it is through.

    Raises: IlvError as a worker raised it, or where one is gone; KeyboardInterrupt; anything else
        is a bug and traces. After Ctrl-C or a lost worker this process can run no other graph.
    """
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    runner, flags = _choose_runner(beam_args)

    def run() -> None:
        with beam.Pipeline(runner=runner, options=PipelineOptions(flags)) as root:
            build(root)

    try:
        if runner is None:
            run()
        else:
            _run_apart(run)
    except errors.IlvError as error:
        raise type(error)(_WHILE_RUNNING.sub("", str(error))) from error
    except RuntimeError as error:
        # What was raised in the end: an error of ours that led to a bug must not hide it.
        found = _OWN_ERROR.search(str(error).rpartition("Traceback (most recent call last)")[2])
        if not found:
            raise
        raise getattr(errors, found[1])(found[2]) from error


def _run_apart(run: Callable[[], None]) -> None:
    """Runs something of Beam in a thread of its own, and waits for no more than can come.

    Broken off by Ctrl-C where it starts a worker or holds a lock, Beam waits for that worker for
    ever; nor does it see that a worker is gone. Then it is left behind, as by a kill: what is
    written is safe, and the workers end with this process. Python does not wait for it, for the
    threads that a daemon starts are daemons too.

    Raises: what it raises; KeyboardInterrupt; IlvError where a worker is gone, or where one of
        these two was raised before.
    """
    if _left_behind:
        raise errors.IlvError("a run that was broken off is at work in this process; start another")
    ends: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            run()
            ends.put(None)
        except BaseException as error:  # noqa: BLE001, it is raised below
            ends.put(error)

    def note_lost(args: threading.ExceptHookArgs) -> None:
        if args.thread is not None and args.thread.name == _WORKER_THREAD:
            ends.put(_LostWorkerError(f"{args.exc_value}; {_IF_LOST}"))
        elif not (_left_behind or args.exc_type.__module__.startswith("grpc")):  # a lost worker's
            usual(args)

    usual, threading.excepthook = threading.excepthook, note_lost
    try:
        threading.Thread(target=work, daemon=True).start()
        error = _first_of(ends)
    except KeyboardInterrupt:
        _left_behind.append(errors.INTERRUPTED)
        raise
    if isinstance(error, _LostWorkerError):
        _left_behind.append(1)
    else:
        threading.excepthook = usual
    if error is not None:
        raise error


def _first_of(ends: queue.SimpleQueue[BaseException | None]) -> BaseException | None:
    """What comes first; it looks up, for Ctrl-C that the kernel told another thread of."""
    while True:
        with contextlib.suppress(queue.Empty):
            return ends.get(timeout=_LOOK_UP_S)


@atexit.register
def _end_beside_threads() -> None:
    """Ends a process that leaves Beam behind: finalizing beside its threads may crash."""
    if _left_behind:
        os._exit(_left_behind[0])


class _LostWorkerError(errors.IlvError):
    """A worker process is gone before its time."""


def check_flags(beam_args: Sequence[str]) -> None:
    """Checks that Beam knows the flags; it would drop an unknown one with a mere warning.

    Raises: ConfigError.
    """
    if beam_args and not beam_args[0].startswith("-"):
        raise errors.ConfigError(f"{beam_args[0]!r} is one argument too many")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)  # Beam has no public way to ask
    try:
        unknown = [flag for flag in parser.parse_known_args(list(beam_args))[1] if flag[:1] == "-"]
        create_runner(runner_name(beam_args))
    except (argparse.ArgumentError, ValueError, ImportError) as error:
        raise errors.ConfigError(f"Beam's flags: {error}") from error
    if unknown:
        raise errors.ConfigError(f"Beam has no flag {unknown[0]}")


def _choose_runner(beam_args: Sequence[str]) -> tuple[FnApiRunner | None, list[str]]:
    """The in-process runner, with worker processes where several are asked for; else Beam's.

    DirectRunner is not the default, for it first tries to download another runner.
    """
    chosen = PipelineOptions(beam_args).view_as(DirectOptions)
    several = chosen.direct_num_workers != 1 and chosen.direct_running_mode == "in_memory"
    if runner_name(beam_args) not in OWN_RUNNERS:
        return None, list(beam_args)
    if not several and chosen.direct_running_mode != "multi_processing":
        return FnApiRunner(), list(beam_args)
    os.environ[worker.LAUNCHER] = str(os.getpid())
    # Ctrl-C is for the launcher: a worker would print where it was, and ends with it anyway.
    command = f"trap '' INT; exec {shlex.quote(sys.executable)} -m {worker.__name__}"
    environment = SubprocessSDKEnvironment.from_command_string(command)
    return FnApiRunner(default_environment=environment), [
        *beam_args,
        "--direct_running_mode=in_memory",  # so that it keeps this environment
    ]
