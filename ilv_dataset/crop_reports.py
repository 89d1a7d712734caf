"""What `ilv eval crops` prints of an evaluation: lines for people, or one JSON object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ilv_dataset.canvases import clean
from ilv_dataset.crop_evaluation import CropEvaluation
from ilv_dataset.crop_scores import (
    SHARES_NOTHING,
    SHARES_WORD,
    CropScore,
    Share,
    Tally,
    tally_bins,
    tally_groups,
    tally_scores,
)
from ilv_dataset.messages import count_noun

_PHRASES = 40  # shown to people; --json has them all
_NAME_MAX = 28  # characters
_OF_PHRASES = ("there", "right", "wrong", "missed", "absent", "cropped", "of crops right", "mask")
_OF_CROPS = ("crops", "right", "wrong", "absent", "mask")
_ABSENCES = {
    SHARES_WORD: "shares a word with what is there",
    SHARES_NOTHING: "shares nothing",
}


def describe_scores(found: CropEvaluation) -> list[str]:
    """Lines for people: the figures overall, then by phrase, dataset, method and confidence."""
    scores = found.scores
    lines = [found.title, *_overall_lines(found)]
    by_phrase = tally_groups(scores, _phrase)
    left = len(by_phrase) - _PHRASES
    if left > 0:
        by_phrase = by_phrase[:_PHRASES]
    lines += _section("by phrase, most faults first", _OF_PHRASES, by_phrase)
    lines += [f"  and {left:,} more: --json has them"] if left > 0 else []
    lines += _section("by dataset", _OF_PHRASES, tally_groups(scores, _dataset))
    lines += _section("by method", _OF_CROPS, tally_groups(_crops(scores), _method))
    bins = tally_bins(scores)
    if bins:
        rows = [(low.name, *_crop_cells(low), *_crop_cells(above)[:2]) for low, above in bins]
        heads = ("", *_OF_CROPS, "this or more", "right")
        lines += ["", "by confidence", *_columns([heads, *rows])]
    if reasons := _reasons(scores):
        lines += ["", "why objects that are there have no crop"]
        lines += [f"  {count:>5,}  {reason}" for reason, count in reasons.items()]
    return lines


def scores_json(found: CropEvaluation) -> dict[str, Any]:
    """The same as one object, with every phrase and the worst answers."""
    scores = found.scores
    return {
        "title": found.title,
        "frames": found.num_frames,
        "unjudged": found.num_unjudged,
        "overall": _tally_json(tally_scores("all", scores)),
        "by_phrase": list(map(_tally_json, tally_groups(scores, _phrase))),
        "by_dataset": list(map(_tally_json, tally_groups(scores, _dataset))),
        "by_method": list(map(_tally_json, tally_groups(_crops(scores), _method))),
        "by_absence": list(map(_tally_json, tally_groups(scores, _absence))),
        "by_confidence": [
            {**_tally_json(low), "this_or_more": _tally_json(above)}
            for low, above in tally_bins(scores)
        ],
        "missed_reasons": _reasons(scores),
        "worst": [asdict(case.found) for case in found.worst],
    }


def _overall_lines(found: CropEvaluation) -> list[str]:
    tally = tally_scores("all", found.scores)
    absences = {row.name: row.absent_cropped for row in tally_groups(found.scores, _absence)}
    rows = [
        ("right", tally.right, "of the phrases whose object is there"),
        ("wrong", tally.wrong, "likewise: a crop of something else"),
        ("missed", tally.missed, "likewise: no crop"),
        ("absent, cropped", tally.absent_cropped, "of the phrases whose object is not there"),
        *(
            (f"  {_ABSENCES[name]}", absences[name], "")
            for name in (SHARES_WORD, SHARES_NOTHING)
            if name in absences
        ),
        ("crops right", tally.crops_right, "of all crops"),
    ]
    shares = [(name, *_share_cells(share), said) for name, share, said in rows]
    lines = [
        f"{count_noun(len(found.scores), 'answer')} on {count_noun(found.num_frames, 'frame')}"
    ]
    lines += _columns([("", "share", "95 %", "count", ""), *shares], numbers=(1, 2, 3))
    mean = "-" if tally.mask_iou is None else f"{tally.mask_iou:.3f}"
    lines.append(f"mean mask IoU {mean} ({count_noun(tally.num_masks, 'right crop')} with a mask)")
    if found.num_unjudged:
        lines.append(f"not judged: {found.num_unjudged:,}, of frames without marked objects")
    return lines


def _section(title: str, heads: Sequence[str], tallies: Sequence[Tally]) -> list[str]:
    if not tallies:
        return []
    cells = _phrase_cells if heads is _OF_PHRASES else _crop_cells
    rows = [(_shorten(tally.name), *cells(tally)) for tally in tallies]
    return ["", title, *_columns([("", *heads), *rows])]


def _phrase_cells(tally: Tally) -> tuple[str, ...]:
    shares = (tally.right, tally.wrong, tally.missed)
    return (
        f"{tally.right.total:,}",
        *map(_percent, shares),
        f"{tally.absent_cropped.total:,}",
        _percent(tally.absent_cropped),
        _percent(tally.crops_right),
        _mean(tally),
    )


def _crop_cells(tally: Tally) -> tuple[str, ...]:
    total = tally.crops_right.total
    counts = (tally.crops_right.count, tally.wrong.count, tally.absent_cropped.count)
    return (f"{total:,}", *(_percent(Share(count, total)) for count in counts), _mean(tally))


def _share_cells(share: Share) -> tuple[str, str, str]:
    if share.value is None or share.interval is None:
        return "-", "", "0 of 0"
    low, high = share.interval
    return f"{share.value:.3f}", f"{low:.3f} to {high:.3f}", f"{share.count:,} of {share.total:,}"


def _percent(share: Share) -> str:
    """Per cent with the interval, e.g. `82.5 (68-91)`."""
    if share.value is None or share.interval is None:
        return "-"
    low, high = share.interval
    return f"{100 * share.value:.1f} ({100 * low:.0f}-{100 * high:.0f})"


def _mean(tally: Tally) -> str:
    return "-" if tally.mask_iou is None else f"{tally.mask_iou:.3f}"


def _columns(rows: Sequence[Sequence[str]], *, numbers: Sequence[int] | None = None) -> list[str]:
    """Rows as lines, their cells below each other; all but the first to the right, or `numbers`."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    right = range(1, len(widths)) if numbers is None else numbers
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _tally_json(tally: Tally) -> dict[str, Any]:
    shares = ("right", "wrong", "missed", "absent_cropped", "crops_right")
    return {
        "name": tally.name,
        **{name: _share_json(getattr(tally, name)) for name in shares},
        "mask_iou": tally.mask_iou,
        "num_masks": tally.num_masks,
    }


def _share_json(share: Share) -> Mapping[str, Any]:
    return {**asdict(share), "share": share.value, "interval95": share.interval}


def _reasons(scores: Sequence[CropScore]) -> dict[str, int]:
    counts = Counter(found.reason for found in scores if found.outcome == "missed")
    return dict(counts.most_common())


def _crops(scores: Sequence[CropScore]) -> list[CropScore]:
    return [found for found in scores if found.has_crop]


def _phrase(found: CropScore) -> str:
    return found.phrase.lower()


def _dataset(found: CropScore) -> str:
    return found.dataset


def _method(found: CropScore) -> str:
    return found.method or ""


def _absence(found: CropScore) -> str:
    return found.absence


def _shorten(text: str) -> str:
    text = clean(text)
    return text if len(text) <= _NAME_MAX else f"{text[: _NAME_MAX - 1]}…"
