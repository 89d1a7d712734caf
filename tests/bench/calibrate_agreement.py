"""Measures the verifier `agreement` against the simulation's truth: what its thresholds are from.

    .venv/bin/python tests/bench/calibrate_agreement.py FOLDER --weights YOLO.onnx

FOLDER keeps the simulated episodes (3 minutes for the 60 of a seed), so that a second run needs
a minute for each seed. A crop is right where its box has an IoU of at least 0.5 with an object of
that name.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ilv_dataset.agreement import (
    LIMITS,
    Figures,
    Limits,
    is_alike,
    judge_figures,
    measure_candidate,
)
from ilv_dataset.boxes import box_ious, clip_boxes, rival_score, round_boxes
from ilv_dataset.crop_scores import RIGHT_IOU
from ilv_dataset.crops import decode_image
from ilv_dataset.datasets import find_dataset
from ilv_dataset.episodes import IndexedSpan, Probe
from ilv_dataset.formats.example import parse_example
from ilv_dataset.formats.features import decode_features
from ilv_dataset.formats.tfrecord import RawRecord, read_records
from ilv_dataset.hits import cut_crop, make_candidate
from ilv_dataset.masks import FrameMasks
from ilv_dataset.matching import match_class, parse_name
from ilv_dataset.models import yolo
from ilv_dataset.models.grabcut import GrabCutSegmenter
from ilv_dataset.records import Candidate, Detections, Frame, Phrase, Span
from ilv_dataset.searches import Search
from ilv_dataset.simulation import simulate
from ilv_dataset.simulation.dataset import DATASET_NAME, DATASET_VERSION
from ilv_dataset.simulation.vocabulary import NOUNS
from ilv_dataset.source_objects import read_source_objects

VISIBLE_PX = 100  # of the objects whose boxes are moved; as in the simulation's instructions
STRIDE = 5  # frames, as `ground` probes them
SCORE_FLOOR = 0.1  # candidates below the detector's own threshold are looked at too
# By how much boxes are moved, in shares of their sides; up to 0.2 they stay right.
SHIFTS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
PER_SHIFT = 2


@dataclass(frozen=True)
class Case:
    """One candidate and the truth about it."""

    group: tuple[int, str]  # episode and query; its cases are in the order of their frames
    candidate: Candidate
    is_right: bool
    is_there: bool = True  # an object of that name is in the scene
    is_shipped: bool = True  # the detector as it is shipped would give it


def main() -> None:
    """Prints each figure's precision and recall by threshold, and those of the whole."""
    options = _parse_options()
    episodes: list[list[Frame]] = []
    for seed in options.seeds:
        root = Path(options.folder) / str(seed)
        if not root.exists():
            simulate(root, episodes=options.episodes, seed=seed)
        episodes += map(list, _read_episodes(root / DATASET_NAME / DATASET_VERSION))
    num_frames = sum(map(len, episodes))
    print(f"{len(episodes)} episodes of the seeds {options.seeds}, {num_frames} probed frames")
    detected = list(_detected_cases(episodes, Path(options.weights)))
    moved = list(_moved_cases(episodes))
    _print_detected(detected)
    _print_moved(moved)
    _print_margins(detected, np.random.default_rng(0))


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="where the simulated episodes are kept")
    parser.add_argument("--weights", required=True, help="a YOLO with COCO's classes")
    parser.add_argument("--episodes", type=int, default=60, help="of each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8])
    return parser.parse_args()


def _read_episodes(folder: Path) -> Iterator[Iterator[Frame]]:
    keys = find_dataset("demo").source_objects
    assert keys is not None
    features = decode_features((folder / "features.json").read_text())
    for path in sorted(folder.glob("*.tfrecord-*")):
        with path.open("rb") as file:
            for record in read_records(file, size=path.stat().st_size):
                assert isinstance(record, RawRecord)
                example = parse_example(record.payload)
                images = example["steps/observation/image"]
                yield (
                    Frame(
                        keys.camera,
                        step,
                        (image := decode_image(bytes(images[step]))),
                        read_source_objects(
                            example, features, keys, step=step, size_wh=image.shape[1::-1]
                        ),
                    )
                    for step in range(0, len(images), STRIDE)
                )


def _detected_cases(episodes: Sequence[Sequence[Frame]], weights: Path) -> Iterator[Case]:
    """What a real detector finds when it is asked for every noun of the simulation at once."""
    detector = yolo.YoloDetector(weights, spec="yolo")
    names = detector._network.names
    shipped = {
        noun: yolo._score_min(str(match_class(noun, names))) for noun in NOUNS
    }  # before they are lowered
    yolo.SCORE_MIN, yolo.SCORE_MIN_BY_CLASS = SCORE_FLOOR, {}
    asked = [_phrase(noun) for noun in NOUNS if match_class(noun, names)]
    for number, frames in enumerate(episodes):
        search = _search()
        for frame, found in zip(frames, detector(frames, [asked] * len(frames)), strict=True):
            for row, query in enumerate(found.query_indices.tolist()):
                case = _case(search, asked[query], frame, found, row, asked, number)
                if case is not None:
                    noun = asked[query].query
                    is_shipped = bool(found.scores[row] >= shipped[noun])
                    there = len(_true_boxes(frame, noun)) > 0
                    yield replace(case, is_there=there, is_shipped=is_shipped)
                    search.sightings.setdefault(noun, []).append(case.candidate.sighting)


def _moved_cases(episodes: Sequence[Sequence[Frame]]) -> Iterator[tuple[float, Case]]:
    """True boxes of first frames moved by a share of their sides, with masks by grabcut."""
    segmenter = GrabCutSegmenter()
    rng = np.random.default_rng(0)
    for number, frames in enumerate(episodes):
        frame = frames[0]
        truth = frame.source_objects
        assert truth is not None
        assert truth.masks is not None
        size_wh = frame.image.shape[1::-1]
        rows = np.flatnonzero(truth.masks.sum(axis=(1, 2)) >= VISIBLE_PX)
        for shift in SHIFTS:
            for row in np.repeat(rows, PER_SHIFT if shift else 1).tolist():
                box = clip_boxes(_move(truth.boxes_xyxy[row], shift, rng)[None], size_wh=size_wh)
                (cut,) = segmenter([frame.image], [round_boxes(box)])
                found = Detections(
                    round_boxes(box),
                    np.ones(1, np.float32),
                    np.zeros(1, int),
                    FrameMasks.of(np.asarray(cut.masks)),
                )
                asked = [_phrase(parse_name(truth.names[row]).head)]
                case = _case(
                    _search(), asked[0], frame, found, 0, asked, number, truth.boxes_xyxy[row]
                )
                if case is not None:
                    yield shift, case


def _move(box: np.ndarray, shift: float, rng: np.random.Generator) -> np.ndarray:
    """Shifts the box in a random direction and scales it a little."""
    angle = rng.uniform(0, 2 * np.pi)
    sides = np.array([box[2] - box[0], box[3] - box[1]])
    center = (box[:2] + box[2:]) / 2 + shift * sides * [np.cos(angle), np.sin(angle)]
    half = sides / 2 * rng.uniform(1 - shift / 4, 1 + shift / 4, 2)
    return np.concatenate([center - half, center + half]).astype(np.float32)


def _case(
    search: Search,
    phrase: Phrase,
    frame: Frame,
    found: Detections,
    row: int,
    asked: Sequence[Phrase],
    number: int,
    true_box: np.ndarray | None = None,
) -> Case | None:
    """The candidate as `ground` makes it, and whether its box is that of the thing."""
    mask = None if found.masks is None else found.masks[row]
    crop = cut_crop(
        search, phrase, frame, method="detect", box_xyxy=found.boxes_xyxy[row],
        box_score=float(found.scores[row]), mask=mask, mask_score=None,
    )  # fmt: skip
    if crop is None:
        return None
    rival = rival_score(found, row, asked)
    candidate = make_candidate(search, phrase, frame, crop, mask=mask, rival_score=rival)
    boxes = _true_boxes(frame, phrase.query) if true_box is None else true_box[None]
    iou = box_ious(found.boxes_xyxy[row], boxes).max(initial=0)
    return Case((number, phrase.query), candidate, bool(iou >= RIGHT_IOU))


def _true_boxes(frame: Frame, noun: str) -> np.ndarray:
    truth = frame.source_objects
    assert truth is not None
    rows = [row for row, name in enumerate(truth.names) if parse_name(name).head == noun]
    return truth.boxes_xyxy[rows]


def _search() -> Search:
    span = IndexedSpan(0, 0, 0, 1, Span(0, 0, 1, b""), probes=(Probe("", 0, 0, 0),))
    return Search(span, ())


def _phrase(noun: str) -> Phrase:
    return Phrase(noun, 0, len(noun), noun, "object")


def _print_detected(cases: Sequence[Case]) -> None:
    figures = [measure_candidate(case.candidate) for case in cases]
    rights = [case.is_right for case in cases]
    print(f"\ndetector, its threshold lowered to {SCORE_FLOOR}: each candidate by itself")
    for score in (0.1, 0.2, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7):
        _print_line(f"score >= {score}", [(f.score or 0) >= score for f in figures], rights)
    weak = [0.2 <= (f.score or 0) < LIMITS.score_sure for f in figures]
    for name, is_so in (
        ("weak, first seen", lambda f: f.num_agreeing + f.num_differing == 0),
        ("weak, all agree", lambda f: f.num_agreeing > 0 == f.num_differing),
        ("weak, most agree", lambda f: f.num_agreeing > f.num_differing),
        ("weak, not most agree", lambda f: 0 < f.num_differing >= f.num_agreeing),
    ):
        kept = [is_weak and is_so(f) for is_weak, f in zip(weak, figures, strict=True)]
        _print_line(name, kept, rights)
    _print_pairs(cases)
    print("detector: the first crop of each object that is accepted")
    for name, some in (
        ("shipped, any name", [c for c in cases if c.is_shipped]),
        ("shipped, names that are there", [c for c in cases if c.is_shipped and c.is_there]),
        ("lowered, any name", cases),
    ):
        print(f" {name}")
        _print_objects("no verifier", some, None)
        for sure in (0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8):
            _print_objects(f"agreement, sure {sure}", some, replace(LIMITS, score_sure=sure))
        _print_objects("agreement", some, LIMITS)


def _print_pairs(cases: Sequence[Case]) -> None:
    """How often two frames of a camera that show one thing, or two, are taken for alike."""
    alike: dict[bool, list[bool]] = {True: [], False: []}
    for one, other in itertools.combinations(cases, 2):
        if one.group == other.group and (one.is_right or other.is_right):
            seen = (one.candidate.sighting, other.candidate.sighting)
            alike[one.is_right and other.is_right].append(is_alike(*seen))
    for is_one, name in ((True, "one thing"), (False, "two things")):
        print(f"  frames that show {name}: {sum(alike[is_one])} of {len(alike[is_one])} alike")


def _print_moved(cases: Sequence[tuple[float, Case]]) -> None:
    rights = [case.is_right for _, case in cases]
    figures = [measure_candidate(case.candidate) for _, case in cases]
    print("\nmoved boxes with masks by grabcut, score 1")
    for limit in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        _print_line(f"mask iou >= {limit}", [(f.mask_iou or 0) >= limit for f in figures], rights)
    for limit in (0.1, 0.2, 0.3, 0.4, 0.5):
        _print_line(f"fill >= {limit}", [(f.fill or 0) >= limit for f in figures], rights)
    for limit in (2.5, 3, 4, 6):
        _print_line(f"aspect <= {limit}", [f.aspect <= limit for f in figures], rights)
    for limit in (0.1, 0.15, 0.2, 0.35):
        _print_line(f"share <= {limit}", [f.share <= limit for f in figures], rights)
    for mask_iou, fill in itertools.product((0.4, 0.5, 0.6, 0.65), (0.0, 0.1, 0.2, 0.3, 0.4)):
        limits = replace(LIMITS, mask_iou_min=mask_iou, fill_min=fill)
        accepted = [_is_match(f, limits) for f in figures]
        _print_line(f"mask iou >= {mask_iou}, fill >= {fill}", accepted, rights)
    accepted = [_is_match(f, LIMITS) for f in figures]
    _print_line("agreement", accepted, rights)
    for shift in SHIFTS:
        rows = [position for position, (moved, _) in enumerate(cases) if moved == shift]
        kept = [accepted[row] for row in rows]
        right = sum(rights[row] for row in rows)
        print(f"    moved by {shift:4}: {len(rows)}, right {right}, accepted {sum(kept)}")


def _print_margins(cases: Sequence[Case], rng: np.random.Generator) -> None:
    """Two queries want one object: right and wrong scores of the detector, paired at random."""
    scores = {
        is_right: [
            c.candidate.sighting.box_score or 0
            for c in cases
            if c.is_right == is_right and (c.candidate.sighting.box_score or 0) >= 0.2
        ]
        for is_right in (True, False)
    }
    pairs = np.stack([rng.choice(scores[True], 2000), rng.choice(scores[False], 2000)], axis=1)
    wins = pairs[:, 0] > pairs[:, 1]
    margins = np.abs(pairs[:, 0] - pairs[:, 1])
    print("\nswapped boxes: the right and a wrong name want one box, the better score has it")
    for limit in (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3):
        _print_line(f"margin >= {limit}", (margins >= limit).tolist(), wins.tolist())


def _is_match(figures: Figures, limits: Limits) -> bool:
    return judge_figures(replace(figures, score=1.0, margin=1.0), limits).value == "match"


def _print_line(name: str, accepted: Sequence[bool], rights: Sequence[bool]) -> None:
    hits = sum(a and r for a, r in zip(accepted, rights, strict=True))
    _print_score(name, hits, sum(accepted), sum(rights), len(rights))


def _print_objects(name: str, cases: Sequence[Case], limits: Limits | None) -> None:
    """Of each object the first accepted crop; recall is of those that had a right one at all."""
    groups: dict[tuple[int, str], list[Case]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    chosen = [next((c for c in g if _accepts(c, limits)), None) for g in groups.values()]
    hits = sum(c is not None and c.is_right for c in chosen)
    num_right = sum(any(c.is_right for c in group) for group in groups.values())
    _print_score(name, hits, sum(c is not None for c in chosen), num_right, len(groups))


def _accepts(case: Case, limits: Limits | None) -> bool:
    if limits is None:
        return True
    return judge_figures(measure_candidate(case.candidate), limits).value == "match"


def _print_score(name: str, hits: int, num_accepted: int, num_right: int, num: int) -> None:
    """F0.5 weighs precision twice: a wrong picture is worse than none."""
    precision, recall = hits / max(1, num_accepted), hits / max(1, num_right)
    f_half = 1.25 * precision * recall / max(1e-9, 0.25 * precision + recall)
    print(
        f"  {name:34} accepted {num_accepted:5} of {num:5}"
        f"  precision {precision:.3f}  recall {recall:.3f}  F0.5 {f_half:.3f}"
    )


if __name__ == "__main__":
    main()
