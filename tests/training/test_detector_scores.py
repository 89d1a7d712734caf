"""Questions about stills, and what the answers are worth."""

import numpy as np
import pytest

from ilv_dataset.crop_scores import as_phrase
from ilv_dataset.lexicon import singular
from ilv_dataset.models.word_text import encode_words
from ilv_dataset.records import Detections, Masks
from ilv_dataset.training.detector_scores import (
    ABSENT_ALIKE,
    ABSENT_RANDOM,
    PRESENT,
    Question,
    Reply,
    answer_questions,
    ask_scene,
    plural,
    rates,
    reword_name,
    threshold_at,
    word_name,
)
from ilv_dataset.training.prompts import Vocabulary
from ilv_dataset.training.scenes import TrainingScene

WORDS = Vocabulary(
    ("ball", "cup", "mug", "pot"),
    ("blue", "red"),
    tuple((c, n) for c in ("blue", "red") for n in ("ball", "cup", "mug", "pot")),
    (frozenset({"cup", "mug"}),),
)


def make_scene(*things: tuple[str, tuple[float, float, float, float]]) -> TrainingScene:
    names = tuple(name for name, _ in things)
    boxes = np.array([box for _, box in things], np.float32)
    sides = boxes[:, 2:] - boxes[:, :2]
    return TrainingScene(
        seed=0,
        rgb=np.zeros((200, 200, 3), np.uint8),
        labels=np.zeros((200, 200), np.uint8),
        names=names,
        nouns=tuple(name.split()[1] for name in names),
        colours=tuple(name.split()[0] for name in names),
        boxes_xyxy=boxes,
        visible_px=sides.prod(axis=1).astype(int),
    )


def test_all_that_is_clearly_seen_is_asked_for():
    scene = make_scene(("red mug", (0, 0, 20, 20)), ("blue ball", (50, 50, 60, 60)))
    questions = ask_scene(scene, WORDS, np.random.default_rng(0))
    assert [(q.colour, q.noun, q.row) for q in questions if q.kind == PRESENT] == [
        ("red", "mug", 0)
    ]
    assert [q.kind for q in questions[1:]] == [ABSENT_ALIKE, ABSENT_RANDOM] * 2
    only = ask_scene(scene, WORDS, np.random.default_rng(0), only=frozenset({("red", "pot")}))
    assert PRESENT not in {q.kind for q in only}


@pytest.mark.parametrize("seed", range(20))
def test_absent_names_are_not_there_and_half_of_them_share_one_word(seed):
    scene = make_scene(("red mug", (0, 0, 20, 20)), ("blue ball", (50, 50, 60, 60)))
    for question in ask_scene(scene, WORDS, np.random.default_rng(seed))[1:]:
        name = (question.colour, question.noun)
        assert name not in {("red", "mug"), ("blue", "ball"), ("red", "cup")}
        if question.kind == ABSENT_ALIKE:
            assert ("red" in name) != ("mug" in name) or ("blue" in name) != ("ball" in name)


def test_three_names_in_ten_are_worded_otherwise_and_mean_the_same():
    rng = np.random.default_rng(0)
    texts = [word_name("red", "knife", rng) for _ in range(1000)]
    others = [text for text in texts if text != "red knife"]
    assert 250 <= len(others) <= 350
    assert {"the red knife", "RED KNIFE", "red knives", "a knife that is red"} <= set(others)
    plain, *features = encode_words(["red knife", *sorted(set(others))])
    assert all(np.array_equal(plain, feature) for feature in features)


def test_other_wordings_mean_something_else_to_the_text_encoder():
    rng = np.random.default_rng(0)
    texts = sorted({reword_name("red", "knife", rng) for _ in range(500)})
    assert len(texts) == 12
    assert {"two red knives", "red knife object", "robot's red knife"} <= set(texts)
    plain, *features = encode_words(["red knife", *(as_phrase(text).query for text in texts)])
    assert not any(np.array_equal(plain, feature) for feature in features)
    assert min(plain @ feature for feature in features) > 0.5  # and something near


def test_a_scene_may_be_asked_in_other_words():
    scene = make_scene(("red mug", (0, 0, 20, 20)))
    questions = ask_scene(
        scene, WORDS, np.random.default_rng(0), word=lambda colour, noun, _: f"{noun}, {colour}"
    )
    assert questions[0].text == "mug, red"
    assert all(question.text.count(", ") == 1 for question in questions)


@pytest.mark.parametrize("noun", ["mug", "box", "knife", "strawberry", "dish", "potato", "glass"])
def test_the_plural_of_a_noun_has_its_singular(noun):
    assert plural(noun) != noun
    assert singular(plural(noun)) == noun


class FakeDetector:
    """Gives each phrase the boxes of a table."""

    spec = fingerprint = "fake"
    has_masks = needs_source_objects = False

    def __init__(self, **boxes: tuple[tuple[float, ...], float]) -> None:
        self.boxes = {name.replace("_", " "): box for name, box in boxes.items()}

    def __call__(self, frames, queries):
        found = []
        for phrases in queries:
            rows = [
                (n, *self.boxes[p.query]) for n, p in enumerate(phrases) if p.query in self.boxes
            ]
            found.append(
                Detections(
                    np.array([box for _, box, _ in rows], np.float32).reshape(-1, 4),
                    np.array([score for *_, score in rows], np.float32),
                    np.array([n for n, *_ in rows], np.int64),
                )
            )
        return found


def test_an_answer_is_right_where_no_other_thing_fits_its_box_better():
    scene = make_scene(("red mug", (0, 0, 40, 40)), ("blue ball", (0, 0, 40, 30)))
    questions = [
        Question("red mug", "red", "mug", 0, PRESENT),
        Question("blue ball", "blue", "ball", 1, PRESENT),
        Question("red pot", "red", "pot", None, ABSENT_ALIKE),
        Question("blue pot", "blue", "pot", None, ABSENT_RANDOM),
    ]
    detector = FakeDetector(
        red_mug=((0, 0, 40, 38), 0.9), blue_ball=((0, 0, 40, 38), 0.8), red_pot=((0, 0, 9, 9), 0.25)
    )
    replies = answer_questions(detector, [(scene, questions)])
    assert [reply.is_right for reply in replies] == [True, False, False, False]
    assert [reply.shown for reply in replies] == ["red mug", "red mug", "blue ball", ""]
    assert [round(reply.score, 2) for reply in replies] == [0.9, 0.8, 0.25, 0]
    assert [reply.is_accepted for reply in replies] == [True, True, False, False]


class FakeSegmenter:
    """Cuts so many columns out of the left of each box."""

    spec = fingerprint = "fake"

    def __init__(self, columns: int) -> None:
        self.columns = columns

    def __call__(self, images, boxes_xyxy):
        masks = np.zeros((len(boxes_xyxy[0]), *images[0].shape[:2]), bool)
        for mask, (x0, y0, _, y1) in zip(masks, boxes_xyxy[0].astype(int), strict=True):
            mask[y0:y1, x0 : x0 + self.columns] = True
        return [Masks(masks, np.ones(len(masks), np.float32))]


@pytest.mark.parametrize(
    ("columns", "is_cut_right", "is_accepted"),
    [
        (40, True, True),
        (24, True, True),  # 0.6 of the thing, and of the box
        (22, True, False),  # 0.55: the verifier wants 0.6
        (18, False, False),
        (0, False, False),  # nothing to cut out
    ],
)
def test_with_a_segmenter_the_verdict_is_on_what_is_cut_out(columns, is_cut_right, is_accepted):
    scene = make_scene(("red mug", (0, 0, 40, 40)))
    asked = [(scene, [Question("red mug", "red", "mug", 0, PRESENT)])]
    detector = FakeDetector(red_mug=((0, 0, 40, 40), 0.9))
    (reply,) = answer_questions(detector, asked, segmenter=FakeSegmenter(columns))
    assert (reply.is_right, reply.is_cut_right) == (True, is_cut_right)
    assert reply.is_accepted == is_accepted
    assert rates([reply]).right == 1
    assert rates([reply]).recall == (is_cut_right and is_accepted)
    assert rates([reply], score_min=0.5).recall == 1
    (nothing,) = answer_questions(FakeDetector(), asked, segmenter=FakeSegmenter(columns))
    assert (nothing.score, nothing.is_accepted) == (0, False)


def make_reply(kind: str, score: float, *, right: bool = False) -> Reply:
    row = 0 if kind == PRESENT else None
    return Reply(Question("", "red", "mug", row, kind), score, right, score >= 0.3, "")


def test_rates_have_their_intervals():
    replies = [make_reply(PRESENT, 0.9, right=number < 81) for number in range(263)]
    found = rates(replies)
    # Newcombe 1998, table I: 81 of 263, method 3.
    assert found.intervals_95["right"] == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert set(found.intervals_95) == {"right", "recall"}  # no absent name was asked


def test_rates_count_each_kind_by_itself():
    replies = [
        make_reply(PRESENT, 0.9, right=True),
        make_reply(PRESENT, 0.2, right=True),
        make_reply(PRESENT, 0.8),
        make_reply(PRESENT, 0.0),
        make_reply(ABSENT_ALIKE, 0.4),
        make_reply(ABSENT_RANDOM, 0.25),
    ]
    verified = rates(replies)
    assert (verified.right, verified.recall) == (0.5, 0.25)
    assert (verified.absent_alike, verified.absent_random, verified.absent) == (1, 0, 0.5)
    low = rates(replies, score_min=0.2)
    assert (low.recall, low.absent) == (0.5, 1)
    assert rates([]).recall == 0


def test_the_threshold_lets_so_many_absent_names_pass():
    replies = [make_reply(ABSENT_RANDOM, score / 100) for score in range(100)]
    assert threshold_at(replies, absent_max=0.05) == pytest.approx(0.94, abs=1e-6)
    assert rates(replies, score_min=threshold_at(replies, absent_max=0.05)).absent == 0.05
    assert threshold_at([], absent_max=0.05) == 0
