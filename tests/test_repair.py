"""The second look: key points, what is cut out there, and that it is judged again."""

import json
import math

import numpy as np
import pytest
from builders import (
    CAMERA,
    CARROT,
    CARROT_XYXY,
    PLATE,
    FakeDetector,
    FakePointFinder,
    FakeSegmenter,
    FakeVerifier,
    load_scene,
    probed,
)

from ilv_dataset.errors import RecordError
from ilv_dataset.fields import PICTURED_KINDS
from ilv_dataset.grounding import ground_spans
from ilv_dataset.masks import decode_rle
from ilv_dataset.records import Masks

CORNER = {0: 40, 5: 65, 10: 90}  # what the background of the frame of a step is


def ground(spans, verifier, *, table=None, segmenter=None, load=load_scene):
    return ground_spans(
        spans, load_frame=load, detector=FakeDetector(table or {}), segmenter=segmenter,
        picture_kinds=PICTURED_KINDS, verifier=verifier,
    )  # fmt: skip


def tried(text):
    return [
        (one["method"], one["frame_index"], one["verdict"], one.get("point_xy"))
        for one in json.loads(text)
    ]


def test_what_is_missing_is_cut_out_at_its_key_point():
    verifier = FakePointFinder(points={("carrot", CORNER[5]): (16, 12)})
    segmenter = FakeSegmenter()
    (found,) = ground([(probed(0, 5, 10), [CARROT])], verifier, segmenter=segmenter)
    place = found.crops[0].grounded
    assert segmenter.points == [[[16, 12]]]
    assert (place.method, place.verdict, place.verifier) == ("repair", "match", "fake")
    assert (place.camera, place.frame_index) == (CAMERA, 5)
    assert (place.box_xyxy, place.box_score, place.mask_score) == ((11, 8, 21, 16), None, 0.5)
    assert int(decode_rle(place.mask_rle).sum()) == 80
    assert place.scale == pytest.approx(16)  # 10 px and 20 % on both sides are 14: 224 / 14
    assert tried(place.verdicts) == [("repair", 5, "match", [16, 12])]
    assert json.loads(place.frames_tried) == {
        "detect": {CAMERA: [0, 5, 10]},
        "repair": {CAMERA: [0, 5, 10]},
    }
    (candidate,) = verifier.candidates
    assert (candidate.sighting.box_score, candidate.sighting.mask_area_px) == (None, 80)


def test_a_repair_follows_a_mismatch_and_sees_what_was_rejected():
    verifier = FakePointFinder({("carrot", 0): "mismatch"}, {("carrot", CORNER[5]): (16, 12)})
    table = {("carrot", 0): (CARROT_XYXY, 0.5)}
    (found,) = ground([(probed(0, 5), [CARROT])], verifier, table=table, segmenter=FakeSegmenter())
    place = found.crops[0].grounded
    assert tried(place.verdicts) == [
        ("detect", 0, "mismatch", None),
        ("repair", 5, "match", [16, 12]),
    ]
    assert verifier.calls == [[("carrot", 0)], [("carrot", 5)]]
    assert [seen.frame_index for seen in verifier.candidates[1].earlier] == [0]


def test_a_repaired_crop_is_judged_again_and_may_be_rejected():
    verifier = FakePointFinder({"carrot": "mismatch"}, {"carrot": (16, 12)})
    (found,) = ground([(probed(0, 5), [CARROT])], verifier, segmenter=FakeSegmenter())
    assert found.crops == {}
    assert found.reasons == {0: "rejected-by-verifier"}
    assert tried(found.trails[0].verdicts) == [
        ("repair", 0, "mismatch", [16, 12]),
        ("repair", 5, "mismatch", [16, 12]),
    ]


def test_the_accepted_crop_of_the_best_mask_wins_then_the_first():
    verifier = FakePointFinder({("carrot", 0): "mismatch"}, {"carrot": (16, 12)})
    segmenter = FakeSegmenter()
    scores = {CORNER[0]: 0.875, CORNER[5]: 0.5, CORNER[10]: 0.75}
    segmenter.point_score = lambda image: scores[int(image[0, 0, 0])]
    (found,) = ground([(probed(0, 5, 10), [CARROT])], verifier, segmenter=segmenter)
    assert found.crops[0].grounded.frame_index == 10
    assert len(json.loads(found.crops[0].grounded.verdicts)) == 3
    (found,) = ground([(probed(0, 5, 10), [CARROT])], verifier, segmenter=FakeSegmenter())
    assert found.crops[0].grounded.frame_index == 5


def test_an_empty_mask_is_a_miss():
    verifier = FakePointFinder(points={"carrot": (16, 12)})
    (found,) = ground([(probed(0), [CARROT])], verifier, segmenter=FakeSegmenter(is_blind=True))
    assert found.reasons == {0: "empty-mask"}
    assert verifier.calls == []
    assert (found.trails[0].verdict, found.trails[0].verdicts) == (None, None)


def test_a_mask_of_most_of_the_frame_is_no_object():
    class Greedy(FakeSegmenter):
        def segment_points(self, images, points_xy):
            return [Masks(np.ones((1, 48, 64), bool), np.ones(1, np.float32)) for _ in images]

    verifier = FakePointFinder(points={"carrot": (16, 12)})
    (found,) = ground([(probed(0), [CARROT])], verifier, segmenter=Greedy())
    assert found.reasons == {0: "box-too-large"}
    assert verifier.calls == []


@pytest.mark.parametrize("point", [None, (64, 12), (16, 48), (-1, 12), (math.nan, 12)])
def test_no_point_or_one_outside_the_frame_is_a_miss(point):
    verifier, segmenter = FakePointFinder(points={"carrot": point}), FakeSegmenter()
    (found,) = ground([(probed(0), [CARROT])], verifier, segmenter=segmenter)
    assert found.reasons == {0: "absent"}
    assert (verifier.calls, segmenter.points) == ([], [])
    assert json.loads(found.trails[0].frames_tried)["repair"] == {CAMERA: [0]}


def test_only_what_is_missing_is_asked_for_on_three_frames_spread_over_the_span():
    verifier = FakePointFinder()
    table = {"carrot": (CARROT_XYXY, 0.5)}
    steps = range(0, 50, 5)
    (found,) = ground([(probed(*steps), [CARROT, PLATE])], verifier, table=table)
    assert verifier.asked == [["plate"] * 3]
    assert json.loads(found.trails[1].frames_tried)["repair"] == {CAMERA: [0, 20, 45]}
    assert list(found.crops) == [0]


def test_spans_share_batches():
    verifier = FakePointFinder(points={"carrot": (16, 12), "plate": (44, 32)})
    spans = [(probed(0, record_index=n), [CARROT, PLATE]) for n in range(20)]
    segmenter = FakeSegmenter()
    found = ground(spans, verifier, segmenter=segmenter)
    assert [len(batch) for batch in verifier.asked] == [32, 8]  # of 16 and of 4 frames
    assert segmenter.points[0] == [[16, 12], [44, 32]]
    assert [len(batch) for batch in verifier.calls] == [40]
    assert all(list(one.crops) == [0, 1] for one in found)


def test_a_span_of_which_nothing_is_missing_is_not_looked_at_again():
    verifier = FakePointFinder()
    ground([(probed(0), [CARROT])], verifier, table={"carrot": (CARROT_XYXY, 0.5)})
    assert verifier.asked == []


def test_a_verifier_without_key_points_repairs_nothing():
    (found,) = ground([(probed(0), [CARROT])], FakeVerifier())
    assert json.loads(found.trails[0].frames_tried) == {"detect": {CAMERA: [0]}}


def test_a_detectors_own_masks_are_followed_by_grabcut():
    verifier = FakePointFinder(points={"carrot": (16, 12)})
    (found,) = ground([(probed(0), [CARROT])], verifier, segmenter=None)
    place = found.crops[0].grounded
    assert place.box_xyxy == CARROT_XYXY
    assert place.mask_score == 1


def test_a_frame_that_fails_only_now_ends_its_span_alone(monkeypatch):
    monkeypatch.setattr("ilv_dataset.searches.CANDIDATES_MAX", 1)

    def load(indexed, probe):
        if (indexed.record_index, probe.step) == (1, 5):
            raise RecordError("undecodable-image", "cut")
        return load_scene(indexed, probe)

    verifier = FakePointFinder({("carrot", 0): "mismatch"}, {("carrot", CORNER[5]): (16, 12)})
    spans = [(probed(0, 5, record_index=n), [CARROT]) for n in range(3)]
    found = ground(
        spans, verifier, table={"carrot": (CARROT_XYXY, 0.5)}, segmenter=FakeSegmenter(), load=load
    )
    assert [one.fault is None for one in found] == [True, False, True]
    assert [list(one.crops) for one in found] == [[0], [], [0]]
    assert [len(batch) for batch in verifier.calls] == [3, 2]
