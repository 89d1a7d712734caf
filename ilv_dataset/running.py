"""Runs the steps of a conversion over a dataset or a mixture, and says what came of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ilv_dataset.datasets import find_mixture, is_mixture
from ilv_dataset.errors import ConfigError, IlvError
from ilv_dataset.fingerprints import fingerprint_job
from ilv_dataset.formats import atomic, files
from ilv_dataset.jobs import Job
from ilv_dataset.llm_options import model_of
from ilv_dataset.messages import command_line, count_noun, damaged_lines
from ilv_dataset.models.endpoints import KEY_VARIABLE, api_key
from ilv_dataset.planning import ConvertOptions, describe_plan, plan_job
from ilv_dataset.reports import Account, describe_account
from ilv_dataset.resuming import check_output, open_output


@dataclass(frozen=True)
class Plan:
    """One dataset to convert: the options as given, and what they resolve to."""

    options: ConvertOptions
    beam_args: tuple[str, ...]
    job: Job


def plan_datasets(values: Mapping[str, Any], beam_args: tuple[str, ...]) -> list[Plan]:
    """The plan of a dataset, or of each dataset of a mixture under its cap.

    Raises: ConfigError where any of them cannot be converted, before the first is begun.
    """
    options = ConvertOptions(**values)
    if not is_mixture(options.dataset):
        return [Plan(options, beam_args, plan_job(options))]
    plans = []
    for part in find_mixture(options.dataset).parts:
        cap = min(part.max_episodes, options.max_episodes or part.max_episodes)
        own = replace(options, dataset=part.dataset, max_episodes=cap, is_part=True)
        plans.append(Plan(own, beam_args, plan_job(own)))
    return plans


def describe_plans(plans: Sequence[Plan]) -> list[str]:
    """Lines that say what will be done; a mixture's end with the sum."""
    lines = []
    for plan in plans:
        lines += [*describe_plan(plan.job, plan.options.llm), *_about_key(plan), ""]
    if len(plans) > 1:
        num_episodes = sum(shard.num_selected for plan in plans for shard in plan.job.shards)
        num_expected = sum(plan.job.num_expected for plan in plans)
        lines.append(
            f"total      {num_episodes:,} source episodes in {len(plans)} datasets, "
            f"about {num_expected:,} expected to be interleaved"
        )
    return lines


def prepare_plan(plan: Plan, steps: Sequence[str]) -> dict[str, object]:
    """Checks flags, paths and models of one dataset, and returns the fingerprint of the run.

    Only `ground` needs the models.

    Raises: ConfigError.
    """
    from ilv_dataset.pipelines.runs import LOCAL_RUNNERS, check_flags, runner_name

    check_flags(plan.beam_args)
    runner = runner_name(plan.beam_args)
    if runner == "DataflowRunner":
        _check_remote(plan.job)
    if plan.options.overwrite and "parse" not in steps:
        raise ConfigError("--overwrite starts afresh: use it with `ilv convert` or `ilv parse`")
    model = model_of(plan.job.extractor)
    if model is not None and "parse" in steps:
        api_key(plan.options.llm.chat(model).base_url)
    loads_models = "ground" in steps and runner in LOCAL_RUNNERS
    return fingerprint_job(
        plan.job,
        splits=plan.options.splits,
        max_episodes=plan.options.max_episodes,
        load_models=loads_models,
    )


def foresee_faults(plans: Sequence[Plan], steps: Sequence[str]) -> list[str]:
    """Lines that say what the run would stop with before it begins; empty where nothing would."""
    faults = []
    for plan in plans:
        try:
            fingerprint = prepare_plan(plan, steps)
            check_output(plan.job, fingerprint, overwrite=plan.options.overwrite)
        except IlvError as error:
            faults.append(f"note: the run would stop: {error}")
    return list(dict.fromkeys(faults))


def run_plan(plan: Plan, steps: Sequence[str], fingerprint: Mapping[str, object]) -> str | None:
    """Runs the named steps of one dataset: parse, ground, write; prints the account to stderr.

    Args:
        fingerprint: what `prepare_plan` returned.

    Returns: what makes the command fail after all is written, or None.
    Raises: IlvError.
    """
    from ilv_dataset.pipelines.convert import Run

    job, options = plan.job, plan.options
    run = Run(job, options.written_formats, plan.beam_args, options.llm)
    with atomic.locked_output(options.out):
        known = open_output(job, fingerprint, overwrite=options.overwrite)
        methods = {"parse": run.parse, "ground": run.ground, "write": run.write}
        for step in steps:
            methods[step]()
        if "write" not in steps:
            return None
        account, num_undecodable = run.account(), run.count_undecodable()
        run.finish(known)
    _say(
        [
            *describe_account(account),
            *damaged_lines(run.list_damaged_shards()),
            *_about_splits(run.list_empty_splits()),
            *_about_undecodable(num_undecodable),
            *_how_to_look(job),
        ]
    )
    return _too_many_failed(account, num_undecodable, options)


def _too_many_failed(account: Account, num_undecodable: int, options: ConvertOptions) -> str | None:
    """Spans that RLDS lacks for a frame count as failed too, though they have their row."""
    num_failed = account.by_status["failed"] + num_undecodable
    share = account.failed_share + (num_undecodable / account.num_in if num_undecodable else 0)
    if share <= options.max_failed:
        return None
    return (
        f"{options.dataset}: {num_failed:,} of {count_noun(account.num_in, 'span')} failed, "
        f"more than --max-failed {options.max_failed:g} allows; all else is written"
    )


def _about_undecodable(number: int) -> list[str]:
    if not number:
        return []
    return [
        f"{count_noun(number, 'span')} with a frame that does not decode: not in the RLDS output; "
        "the marker of each shard counts them"
    ]


def _about_splits(empty: Sequence[str]) -> list[str]:
    return [f"split {split}: no span to write, so the RLDS output leaves it out" for split in empty]


def _how_to_look(job: Job) -> list[str]:
    root = job.layout.root
    commands = ("inspect", "stats", "validate")
    return [
        "",
        f"the result is in {root}; look at it with",
        *(f"  {command_line(command, root)}" for command in commands),
    ]


def _about_key(plan: Plan) -> list[str]:
    """Where the workers are elsewhere and ask a model themselves, they need the key."""
    from ilv_dataset.pipelines.runs import LOCAL_RUNNERS, runner_name

    if plan.job.chat is None or runner_name(plan.beam_args) in LOCAL_RUNNERS:
        return []
    return [f"key        {KEY_VARIABLE} must be in the workers' environment: it is not sent there"]


def _check_remote(job: Job) -> None:
    for name, path in (("--data-dir", job.data_dir), ("--out", job.layout.out)):
        if not files.is_remote(path):
            raise ConfigError(f"Dataflow's workers do not see {name} {path}; give a gs:// path")


def _say(lines: Sequence[str]) -> None:
    print("\n".join(lines), file=sys.stderr)  # noqa: T201
