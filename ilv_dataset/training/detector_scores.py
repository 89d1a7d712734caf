"""How good a detector is on simulated stills: right crops, recall and crops of absent names.

The detector is asked as the pipeline asks it; one phrase's boxes never depend on another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ilv_dataset.agreement import judge_candidate
from ilv_dataset.batches import batched
from ilv_dataset.boxes import box_areas_px, box_ious
from ilv_dataset.lexicon import singular
from ilv_dataset.models import Detector
from ilv_dataset.phrases import make_query
from ilv_dataset.records import Candidate, Detections, Frame, Phrase, Sighting
from ilv_dataset.training.prompts import Vocabulary
from ilv_dataset.training.scenes import TrainingScene

RIGHT_IOU = 0.5  # Source: issue 4, as COCO's AP50
# What is asked for can be seen. Source: FACTS.md, section 6: smaller things are right in 70 %.
CLEAR_SIDE_PX, CLEAR_AREA_PX = 18.0, 100
WORDED_SHARE = 0.3  # of the phrases have an article, a plural or another wording
_ABSENT_PER_SCENE = 4
_BATCH_SCENES = 16
PRESENT, ABSENT_RANDOM, ABSENT_ALIKE = "present", "absent-random", "absent-alike"
_WORDINGS = (
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


def ask_scene(
    scene: TrainingScene,
    vocabulary: Vocabulary,
    rng: np.random.Generator,
    *,
    only: frozenset[tuple[str, str]] | None = None,
) -> list[Question]:
    """Asks for every thing that is clearly seen, and for as many absent ones as ABSENT_PER_SCENE.

    Half of the absent names are drawn at random, half share the noun or the colour of a thing.

    Args:
        only: (colour, noun) of the things that are asked for; None for all.
    """
    there = list(zip(scene.colours, scene.nouns, strict=True))
    sides = np.sqrt(box_areas_px(scene.boxes_xyxy))
    clear = np.flatnonzero((sides >= CLEAR_SIDE_PX) & (scene.visible_px >= CLEAR_AREA_PX))
    questions = [
        Question(word_name(*there[row], rng), *there[row], int(row), PRESENT)
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
        questions.append(Question(word_name(*pair, rng), *pair, None, kind))
    return questions


def word_name(colour: str, noun: str, rng: np.random.Generator) -> str:
    """The name as it is, or in WORDED_SHARE of cases in other words."""
    name = f"{colour} {noun}"
    if rng.random() >= WORDED_SHARE:
        return name
    wording = _WORDINGS[int(rng.integers(len(_WORDINGS)))]
    return wording.format(
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
    if noun.endswith(("fe", "f")):
        form = noun.rstrip("fe") + "ves"
    elif noun.endswith("y") and noun[-2:-1] not in "aeiou":
        form = noun[:-1] + "ies"
    else:
        form = noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s")
    return form if singular(form.split()[-1]) == noun.split()[-1] else noun


def answer_questions(
    detector: Detector, asked: Sequence[tuple[TrainingScene, Sequence[Question]]]
) -> list[Reply]:
    """Asks the detector for every phrase; the best box of each is its answer."""
    replies: list[Reply] = []
    for batch in batched(asked, _BATCH_SCENES):
        frames = [Frame("image", 0, scene.rgb) for scene, _ in batch]
        phrases = [[_as_phrase(one.text) for one in questions] for _, questions in batch]
        for (scene, questions), found in zip(batch, detector(frames, phrases), strict=True):
            replies += [
                _judge(scene, question, number, found) for number, question in enumerate(questions)
            ]
    return replies


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of the questions; of none, 0."""

    num_present: int
    num_absent: int
    right: float  # of the present: the best box is right, whatever its score
    recall: float  # of the present: right, and accepted
    absent_random: float  # of the absent names at random: accepted
    absent_alike: float  # of those that share a word
    absent: float  # of both


def rates(replies: Sequence[Reply], *, score_min: float | None = None) -> Rates:
    """The shares at a threshold; None: what the verifier accepts."""
    kinds: dict[str, list[Reply]] = {PRESENT: [], ABSENT_RANDOM: [], ABSENT_ALIKE: []}
    for reply in replies:
        kinds[reply.question.kind].append(reply)
    taken = {
        kind: [r.is_accepted if score_min is None else r.score >= score_min for r in rows]
        for kind, rows in kinds.items()
    }
    present = kinds[PRESENT]
    absent = taken[ABSENT_RANDOM] + taken[ABSENT_ALIKE]
    return Rates(
        num_present=len(present),
        num_absent=len(absent),
        right=_share([reply.is_right for reply in present]),
        recall=_share([r.is_right and ok for r, ok in zip(present, taken[PRESENT], strict=True)]),
        absent_random=_share(taken[ABSENT_RANDOM]),
        absent_alike=_share(taken[ABSENT_ALIKE]),
        absent=_share(absent),
    )


def threshold_at(replies: Sequence[Reply], *, absent_max: float) -> float:
    """The lowest score that at most `absent_max` of the absent names reach."""
    scores = sorted(r.score for r in replies if r.question.kind != PRESENT)
    allowed = int(absent_max * len(scores))
    return float(np.nextafter(scores[-1 - allowed], 2)) if scores else 0.0


def _share(rows: Sequence[bool]) -> float:
    return round(sum(rows) / len(rows), 4) if rows else 0.0


def _as_phrase(text: str) -> Phrase:
    return Phrase(text, 0, len(text), make_query(text), "object")


def _judge(scene: TrainingScene, question: Question, number: int, found: Detections) -> Reply:
    rows = np.flatnonzero(found.query_indices == number)
    if not len(rows):
        return Reply(question, 0.0, False, False, "")
    best = rows[found.scores[rows].argmax()]
    box = found.boxes_xyxy[best]
    ious = box_ious(box, scene.boxes_xyxy)
    shown = int(ious.argmax())
    is_right = question.row == shown and bool(ious[shown] >= RIGHT_IOU)
    score = float(found.scores[best])
    return Reply(
        question, score, is_right, _is_accepted(scene, box, score, question.text),
        scene.names[shown] if ious[shown] > 0 else "",
    )  # fmt: skip


def _is_accepted(scene: TrainingScene, box: np.ndarray, score: float, text: str) -> bool:
    """Whether the verifier takes the box, seen in one frame and without a mask."""
    x0, y0, x1, y1 = (float(edge) for edge in box)
    height, width = scene.rgb.shape[:2]
    sighting = Sighting(
        camera="image",
        frame_index=0,
        size_wh=(width, height),
        box_xyxy=(x0, y0, x1, y1),
        box_score=score,
        rival_score=0.0,
        mask_box_xyxy=None,
        mask_area_px=None,
        mask_score=None,
        color_rgb=(0.0, 0.0, 0.0),
    )
    return judge_candidate(Candidate(b"", text, sighting, ())).value == "match"
