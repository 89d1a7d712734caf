"""Whether an output goes on with a plan: what differs from what is there, and what gives way.

plan.json holds the fingerprint of everything that changes results, see `fingerprints.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ilv_dataset.errors import ConfigError
from ilv_dataset.fields import ILV_LAYOUT
from ilv_dataset.formats import atomic, files
from ilv_dataset.jobs import Job
from ilv_dataset.layout import STAGES, Layout

_DIGESTS_OF_WEIGHTS = {  # and the options that say which weights they are
    "detector weights": ("--detector",),
    "segmenter weights": ("--segmenter", "--detector"),
    "verifier version": ("--verifier",),
}
# The first stage whose results an option changes; all others change the scan.
_FIRST_STAGE_OF = {
    "--extractor": "instructions",
    "--detector": "ground",
    "class names": "ground",
    "--segmenter": "ground",
    "--verifier": "ground",
    **dict.fromkeys(_DIGESTS_OF_WEIGHTS, "ground"),
    "--picture-kinds": "ground",
    "--include": "steps",
    # The tables are the same for every layout, so one may be chosen until records are written.
    **dict.fromkeys(("--layout", "--max-images", "7-D mapping"), "rlds"),
}
_UNNAMED = {"--layout": ILV_LAYOUT}  # what a plan means that does not name the option


def open_output(
    job: Job, fingerprint: Mapping[str, object], *, overwrite: bool
) -> dict[str, object]:
    """Writes plan.json, or checks that the one that is there is of the same run.

    The same plan resumes, with or without `overwrite`; that makes way for another.

    Returns: the fingerprint, with the digests of weights that an earlier step knew.
    Raises: ConfigError naming what differs.
    """
    before = check_output(job, fingerprint, overwrite=overwrite)
    if before is None and files.list_names(job.layout.root):
        _remove_output(job.layout)
    known = before or {}
    merged = {
        key: known.get(key) if value is None and _same_model(key, known, fingerprint) else value
        for key, value in fingerprint.items()
    }
    if merged != before:
        atomic.write_json(job.layout.plan, merged, out=job.layout.out)
    return merged


def check_output(
    job: Job, fingerprint: Mapping[str, object], *, overwrite: bool
) -> dict[str, object] | None:
    """The plan that is there, with which this run goes on; None where it starts afresh.

    Raises: ConfigError where it may do neither.
    """
    there = files.list_names(job.layout.root)
    if not there:
        return None
    before = _read_plan(job.layout) if "plan.json" in there else None
    if before is None:
        _check_ours(job.layout, there)
        fault = "is missing or damaged, so nobody knows which run the files beside it are of"
        ways = "use another --out"
    elif differing := _differing(job.layout, before, fingerprint):
        key = differing[0]
        said = _said(before, key)
        fault = f"is of another run: {key} was {said!r} and is {fingerprint[key]!r}"
        ways = "use another --out"
        if _FIRST_STAGE_OF.get(key) == "rlds":
            ways += ", delete rlds and .state/rlds beside it to keep what is grounded"
    else:
        return before
    if not overwrite:
        raise ConfigError(f"{job.layout.plan} {fault}; {ways}, or --overwrite to start afresh")
    return None


def _read_plan(layout: Layout) -> dict[str, object] | None:
    """What plan.json says; None where it is empty or cut."""
    try:
        plan = json.loads(files.read_bytes(layout.plan))
    except (ValueError, RecursionError):
        return None
    if not isinstance(plan, dict) or "ilv_dataset" not in plan:
        raise ConfigError(f"{layout.plan}: not a plan of ours; use another --out")
    return plan


def _check_ours(layout: Layout, there: Sequence[str]) -> None:
    """Checks that a folder without a plan is an output of ours: by its commits, and all names."""
    ours = [path.rpartition("/")[2] for path in (*layout.folders, layout.plan, layout.run)]
    foreign = [name for name in there if name not in ours or ".state" not in there]
    if foreign:
        raise ConfigError(
            f"{layout.root} holds {foreign[0]} but no plan.json of ours: not an output of ours; "
            "use another --out"
        )


def _differing(
    layout: Layout, before: Mapping[str, object], now: Mapping[str, object]
) -> list[str]:
    """What two plans differ in, of all that something was made from already.

    A digest that one of them does not know agrees with any.
    """
    unknown = [key for key in _DIGESTS_OF_WEIGHTS if None in (before.get(key), now.get(key))]
    return [
        key
        for key in now
        if key not in unknown and _said(before, key) != now[key] and _is_used(layout, key)
    ]


def _said(plan: Mapping[str, object], key: str) -> object:
    return plan.get(key, _UNNAMED.get(key))


def _same_model(key: str, before: Mapping[str, object], now: Mapping[str, object]) -> bool:
    """Whether a digest of an earlier plan is of the weights that this one names."""
    options = _DIGESTS_OF_WEIGHTS.get(key, ())
    return bool(options) and all(before.get(option) == now[option] for option in options)


def _is_used(layout: Layout, key: str) -> bool:
    """Whether a stage has committed something that an option decides."""
    stages = STAGES[STAGES.index(_FIRST_STAGE_OF.get(key, "parse")) :]
    names = (name for stage in stages for name in files.list_names(layout.markers(stage)))
    return any(name.endswith(".json") for name in names)


def _remove_output(layout: Layout) -> None:
    """Deletes what we write and nothing else; plan.json last, for it says that this is ours."""
    for path in (layout.run, *layout.folders, layout.plan):
        files.remove_tree(path)
