"""Runs one graph with Beam's own flags, and brings our own errors back as they were."""

from __future__ import annotations

import argparse
import atexit
import itertools
import logging
import os
import re
import shlex
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

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
_WHILE_RUNNING = re.compile(r" \[while running '[^']*'\]")


def runner_name(beam_args: Sequence[str]) -> str:
    """The runner that the flags name; the in-process one where they name none."""
    names = [arg.partition("=")[2] for arg in beam_args if arg.startswith("--runner=")]
    names += [b for a, b in itertools.pairwise(beam_args) if a == "--runner"]
    return names[-1] if names else DEFAULT_RUNNER


def run_graph(build: Callable[[beam.Pipeline], object], beam_args: Sequence[str]) -> None:
    """Builds and runs one graph, and waits until it is through.

    Raises: IlvError as a worker raised it; KeyboardInterrupt, after which this process should end;
        anything else is a bug and traces.
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
    """Runs something of Beam in a thread of its own, where Ctrl-C does not break into it.

    Broken off where it starts a worker or holds a lock, Beam waits for that worker for ever, and
    so does Python when it exits. What is written is safe: a run that is killed resumes as well.

    Raises: what it raises; KeyboardInterrupt at once, and the exit of this process waits for
        nothing then. Its workers end with it.
    """
    done: Future[None] = Future()

    def work() -> None:
        try:
            run()
            done.set_result(None)
        except BaseException as error:  # noqa: BLE001, it is raised where it is waited for
            done.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        done.result()
    except KeyboardInterrupt:
        atexit.register(os._exit, errors.INTERRUPTED)
        raise


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
