"""Runs one graph with Beam's own flags, and brings our own errors back as they were."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from ilv_dataset import errors

LOCAL_RUNNERS = ("FnApiRunner", "DirectRunner", "BundleBasedDirectRunner", "PrismRunner")
# A worker in another process hands its errors over as the text of a traceback.
_OWN_ERROR = re.compile(r"ilv_dataset\.errors\.(\w+): (.*?)(?: \[while running [^\n]*)?$", re.M)
_WHILE_RUNNING = re.compile(r" \[while running '[^']*'\]")


def runner_name(beam_args: Sequence[str]) -> str:
    """The runner that the flags name; the in-process one where they name none."""
    names = [arg.partition("=")[2] for arg in beam_args if arg.startswith("--runner=")]
    names += [b for a, b in zip(beam_args, beam_args[1:], strict=False) if a == "--runner"]
    return names[-1] if names else LOCAL_RUNNERS[0]


def run_graph(build: Callable[[beam.Pipeline], object], beam_args: Sequence[str]) -> None:
    """Builds and runs one graph, and waits until it is through.

    Raises: IlvError as a worker raised it; anything else is a bug and traces.
    """
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    try:
        with beam.Pipeline(options=PipelineOptions(complete_flags(beam_args))) as root:
            build(root)
    except errors.IlvError as error:
        raise type(error)(_WHILE_RUNNING.sub("", str(error))) from error
    except RuntimeError as error:
        found = _OWN_ERROR.findall(str(error))
        if not found:
            raise
        name, message = found[-1]
        raise getattr(errors, name)(message) from error


def complete_flags(beam_args: Sequence[str]) -> list[str]:
    """Beam's flags with our defaults: the in-process runner, workers as processes, quiet.

    DirectRunner is not the default, for it first tries to download another runner.
    """
    flags = list(beam_args)

    def has(name: str) -> bool:
        return any(flag == name or flag.startswith(f"{name}=") for flag in flags)

    if not has("--runner"):
        flags.append(f"--runner={LOCAL_RUNNERS[0]}")
    if has("--direct_num_workers") and not has("--direct_running_mode"):
        flags.append("--direct_running_mode=multi_processing")
    if not has("--default_sdk_harness_log_level"):
        flags.append("--default_sdk_harness_log_level=CRITICAL")
    return flags
