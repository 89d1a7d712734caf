"""How good a detector is on simulated stills: right crops, recall and crops of absent names.

The detector is asked as the pipeline asks it, for all phrases of a still at once: for one whose
`is_independent` holds that is as if each were asked alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ilv_dataset.agreement import judge_candidate
from ilv_dataset.batches import batched
from ilv_dataset.boxes import AREA_MIN_PX, box_areas_px, box_ious
from ilv_dataset.crop_scores import RIGHT_IOU, Share, as_phrase
from ilv_dataset.hits import as_box
from ilv_dataset.lexicon import add_s, singular
from ilv_dataset.masks import mask_areas_px, mask_boxes_xyxy
from ilv_dataset.models import Detector, Segmenter
from ilv_dataset.records import Candidate, Detections, Frame, Sighting
from ilv_dataset.training.prompts import Vocabulary
from ilv_dataset.training.scenes import TrainingScene

# What is asked for can be seen. Source: FACTS.md, section 6: smaller things are right in 70 %.
CLEAR_SIDE_PX, CLEAR_AREA_PX = 18.0, 100
WORDED_SHARE = 0.3  # of the phrases have an article, a plural or another wording
_ABSENT_PER_SCENE = 4
_BATCH_SCENES = 16
PRESENT, ABSENT_RANDOM, ABSENT_ALIKE = "present", "absent-random", "absent-alike"
# Their text vector is the plain name's, see `word_text`.
_SAME_WORDINGS = (
    "the {name}",
    "a {name}",
    "{names}",
    "the {names}",
    "a {noun} that is {colour}",
    "the {noun} which is {colour}",
    "{NAME}",
    "The {Name}",
    "{colour} coloured {noun}",
    "one of the {names}",
)
# Their text vector is another than the plain name's. Source: ours, after what the instructions of
# Bridge and RT-1 have: "blue plastic bottle", "yellow egg shape", "green object", "metal pot".
_OTHER_WORDINGS = (
    "two {names}",
    "both {names}",
    "shiny {name}",
    "pretty little {name}",
    "empty {name}",
    "bright {name}",
    "{colour} plastic {noun}",
    "metal {name}",
    "{name} object",
    "{colour} toy {noun}",
    "robot's {name}",
    "{noun} which looks {colour}",
)


WordName = Callable[[str, str, np.random.Generator], str]  # (colour, noun, rng) -> phrase


@dataclass(frozen=True, slots=True)
class Question:
    """One phrase asked of one still; `row` is the thing it names, None where there is none."""

    text: str
    colour: str
    noun: str
    row: int | None
    kind: str  # PRESENT, ABSENT_RANDOM or ABSENT_ALIKE


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a question: its best box's score, whether it is right, what it shows."""

    question: Question
    score: float  # 0 without a box
    is_right: bool
    is_accepted: bool  # by the verifier `agreement`
    shown: str  # name of the thing that the box fits best; "" where it meets none
    # Whether the box of the mask, by which the crop is cut, is right; None without a mask.
    is_cut_right: bool | None = None


def ask_scene(
    scene: TrainingScene,
    vocabulary: Vocabulary,
    rng: np.random.Generator,
    *,
    only: frozenset[tuple[str, str]] | None = None,
    word: WordName | None = None,
) -> list[Question]:
    """Asks for every thing that is clearly seen, and for as many absent ones as ABSENT_PER_SCENE.

    Half of the absent names are drawn at random, half share the noun or the colour of a thing.

    Args:
        only: (colour, noun) of the things that are asked for; None for all.
        word: makes the phrases of names; None for `word_name`.
    """
    word = word or word_name
    there = list(zip(scene.colours, scene.nouns, strict=True))
    sides = np.sqrt(box_areas_px(scene.boxes_xyxy))
    clear = np.flatnonzero((sides >= CLEAR_SIDE_PX) & (scene.visible_px >= CLEAR_AREA_PX))
    questions = [
        Question(word(*there[row], rng), *there[row], int(row), PRESENT)
        for row in clear
        if only is None or there[row] in only
    ]
    banned = {(c, other) for c, noun in there for other in vocabulary.confused_with(noun)}
    free = [pair for pair in vocabulary.pairs if pair not in banned]
    alike = [pair for pair in free if any((pair[0] == c) != (pair[1] == noun) for c, noun in there)]
    for number in range(_ABSENT_PER_SCENE):
        kind = ABSENT_RANDOM if number % 2 else ABSENT_ALIKE
        pool = free if kind == ABSENT_RANDOM else alike
        pair = pool[int(rng.integers(len(pool)))]
        questions.append(Question(word(*pair, rng), *pair, None, kind))
    return questions


def word_name(colour: str, noun: str, rng: np.random.Generator) -> str:
    """The name as it is, or in WORDED_SHARE of cases in words that mean the same to `word_text`."""
    if rng.random() >= WORDED_SHARE:
        return f"{colour} {noun}"
    return _fill_wording(_SAME_WORDINGS, colour, noun, rng)


def reword_name(colour: str, noun: str, rng: np.random.Generator) -> str:
    """The name in words of which `word_text` makes something else."""
    return _fill_wording(_OTHER_WORDINGS, colour, noun, rng)


def _fill_wording(wordings: Sequence[str], colour: str, noun: str, rng: np.random.Generator) -> str:
    name = f"{colour} {noun}"
    return wordings[int(rng.integers(len(wordings)))].format(
        name=name,
        names=f"{colour} {plural(noun)}",
        noun=noun,
        colour=colour,
        NAME=name.upper(),
        Name=name.title(),
    )


def plural(noun: str) -> str:
    """The plural of a noun by rule; the noun where `lexicon.singular` would not find it again.

    >>> plural("mug"), plural("toy knife"), plural("broccoli")
    ('mugs', 'toy knives', 'broccoli')
    """
    form = noun.rstrip("fe") + "ves" if noun.endswith(("fe", "f")) else add_s(noun)
    return form if singular(form.split()[-1]) == noun.split()[-1] else noun


def answer_questions(
    detector: Detector,
    asked: Sequence[tuple[TrainingScene, Sequence[Question]]],
    *,
    segmenter: Segmenter | None = None,
) -> list[Reply]:
    """Asks the detector for every phrase; the best box of each is its answer.

    Args:
        segmenter: cuts out what is in the boxes, as the pipeline does before its verifier sees it;
            None for the verdict on boxes alone.
    """
    replies: list[Reply] = []
    for batch in batched(asked, _BATCH_SCENES):
        frames = [Frame("image", 0, scene.rgb) for scene, _ in batch]
        phrases = [[as_phrase(one.text) for one in questions] for _, questions in batch]
        for (scene, questions), found in zip(batch, detector(frames, phrases), strict=True):
            replies += _judge_scene(scene, questions, found, segmenter)
    return replies


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of the questions, rounded; of none, 0."""

    num_present: int
    num_absent: int
    right: float  # of the present: the best box is right, whatever its score
    recall: float  # of the present: right, and accepted
    absent_random: float  # of the absent names at random: accepted
    absent_alike: float  # of those that share a word
    absent: float  # of both
    intervals_95: Mapping[str, tuple[float, float]]  # of the shares, by their names; none of none


def rates(replies: Sequence[Reply], *, score_min: float | None = None) -> Rates:
    """The shares at a threshold; None: what the verifier accepts, cut as it would be."""
    kinds: dict[str, list[Reply]] = {PRESENT: [], ABSENT_RANDOM: [], ABSENT_ALIKE: []}
    for reply in replies:
        kinds[reply.question.kind].append(reply)
    taken = {
        kind: [r.is_accepted if score_min is None else r.score >= score_min for r in rows]
        for kind, rows in kinds.items()
    }
    present = kinds[PRESENT]
    is_right = [r.is_right for r in present]
    if score_min is None:
        is_right = [r.is_right if r.is_cut_right is None else r.is_cut_right for r in present]
    shares = {
        "right": _share([reply.is_right for reply in present]),
        "recall": _share(
            [right and ok for right, ok in zip(is_right, taken[PRESENT], strict=True)]
        ),
        "absent_random": _share(taken[ABSENT_RANDOM]),
        "absent_alike": _share(taken[ABSENT_ALIKE]),
        "absent": _share(taken[ABSENT_RANDOM] + taken[ABSENT_ALIKE]),
    }
    return Rates(
        num_present=len(present),
        num_absent=shares["absent"].total,
        **{name: round(share.value or 0.0, 4) for name, share in shares.items()},
        intervals_95={
            name: (round(share.interval[0], 4), round(share.interval[1], 4))
            for name, share in shares.items()
            if share.interval
        },
    )


def threshold_at(replies: Sequence[Reply], *, absent_max: float) -> float:
    """The lowest score that at most `absent_max` of the absent names reach."""
    scores = sorted(r.score for r in replies if r.question.kind != PRESENT)
    allowed = int(absent_max * len(scores))
    return float(np.nextafter(scores[-1 - allowed], 2)) if scores else 0.0


def _share(rows: Sequence[bool]) -> Share:
    return Share(sum(rows), len(rows))


def _judge_scene(
    scene: TrainingScene,
    questions: Sequence[Question],
    found: Detections,
    segmenter: Segmenter | None,
) -> list[Reply]:
    rows = {number: _best_row(found, number) for number in range(len(questions))}
    seen = [row for row in rows.values() if row is not None]
    masks: dict[int, np.ndarray] = {}
    if segmenter is not None and seen:
        (cut,) = segmenter([scene.rgb], [found.boxes_xyxy[seen]])
        masks = dict(zip(seen, cut.masks, strict=True))
    return [
        Reply(question, 0.0, False, False, "")
        if (row := rows[number]) is None
        else _judge(
            scene, question, found.boxes_xyxy[row], float(found.scores[row]), masks.get(row)
        )
        for number, question in enumerate(questions)
    ]


def _best_row(found: Detections, number: int) -> int | None:
    rows = np.flatnonzero(found.query_indices == number)
    return int(rows[found.scores[rows].argmax()]) if len(rows) else None


def _judge(
    scene: TrainingScene, question: Question, box: np.ndarray, score: float, mask: np.ndarray | None
) -> Reply:
    ious = box_ious(box, scene.boxes_xyxy)
    shown = int(ious.argmax())
    cut_box = None if mask is None else mask_boxes_xyxy(mask[None])[0]
    return Reply(
        question,
        score,
        _is_right(scene, question, box),
        _is_accepted(scene, question, box, score, mask),
        scene.names[shown] if ious[shown] > 0 else "",
        None if cut_box is None else _is_right(scene, question, cut_box),
    )


def _is_right(scene: TrainingScene, question: Question, box: np.ndarray) -> bool:
    ious = box_ious(box, scene.boxes_xyxy)
    return question.row == int(ious.argmax()) and bool(ious.max() >= RIGHT_IOU)


def _is_accepted(
    scene: TrainingScene, question: Question, box: np.ndarray, score: float, mask: np.ndarray | None
) -> bool:
    """Whether the verifier takes what was cut out, seen in one frame and asked for alone."""
    height, width = scene.rgb.shape[:2]
    area_px = None if mask is None else int(mask_areas_px(mask[None])[0])
    if area_px is not None and area_px < AREA_MIN_PX:
        return False
    sighting = Sighting(
        camera="image",
        frame_index=0,
        size_wh=(width, height),
        box_xyxy=as_box(box),
        box_score=score,
        rival_score=0.0,
        mask_box_xyxy=None if mask is None else as_box(mask_boxes_xyxy(mask[None])[0]),
        mask_area_px=area_px,
        mask_score=None,
        color_rgb=(0.0, 0.0, 0.0),
    )
    return judge_candidate(Candidate(b"", question.text, sighting, ())).value == "match"
