"""The verifier in the search for objects: what it is shown, and what its verdicts lead to."""

import dataclasses
import json

import pytest
from builders import (
    CAMERA,
    CARROT,
    CARROT_XYXY,
    PLATE,
    PLATE_XYXY,
    FakeDetector,
    FakeSegmenter,
    FakeVerifier,
    load_scene,
    make_phrase,
    probed,
)

from ilv_dataset import searches
from ilv_dataset.errors import RecordError
from ilv_dataset.fields import PICTURED_KINDS
from ilv_dataset.grounding import ground_spans
from ilv_dataset.records import Verdict

SEEN = {"carrot": (CARROT_XYXY, 0.5), "plate": (PLATE_XYXY, 0.75)}


def ground(spans, verifier, *, table=SEEN, segmenter=None, load=load_scene):
    detector = FakeDetector(table)
    found = ground_spans(
        spans, load_frame=load, detector=detector, segmenter=segmenter,
        picture_kinds=PICTURED_KINDS, verifier=verifier,
    )  # fmt: skip
    return found, detector


def test_a_crop_that_matches_is_the_picture():
    (found,), _ = ground([(probed(0), [CARROT])], FakeVerifier())
    place = found.crops[0].grounded
    assert (place.method, place.verdict, place.verifier) == ("detect", "match", "fake")
    assert json.loads(place.verdicts) == [
        {"method": "detect", "camera": CAMERA, "frame_index": 0, "verdict": "match",
         "reason": "looks like a match"},
    ]  # fmt: skip
    assert place.frames_tried == '{"detect": {"observation/image": [0]}}'


def test_after_a_mismatch_later_frames_are_tried():
    verifier = FakeVerifier({("carrot", 0): "mismatch"})
    (found,), detector = ground([(probed(0, 5, 10), [CARROT, PLATE])], verifier)
    assert [step for batch in detector.calls for step, _ in batch] == [0, 5]
    assert verifier.calls == [[("carrot", 0), ("plate", 0)], [("carrot", 5)]]
    assert [found.crops[i].grounded.frame_index for i in (0, 1)] == [5, 0]
    carrot, plate = (found.crops[i].grounded for i in (0, 1))
    assert [tried["verdict"] for tried in json.loads(carrot.verdicts)] == ["mismatch", "match"]
    assert carrot.verdict == "match"
    assert carrot.frames_tried == '{"detect": {"observation/image": [0, 5]}}'
    assert plate.frames_tried == '{"detect": {"observation/image": [0]}}'


def test_an_object_whose_crops_are_all_rejected_stays_text():
    (found,), _ = ground([(probed(0, 5), [CARROT])], FakeVerifier({"carrot": "mismatch"}))
    assert found.crops == {}
    assert found.reasons == {0: "rejected-by-verifier"}
    trail = found.trails[0]
    assert (trail.verdict, trail.verifier) == ("mismatch", "fake")
    assert [tried["frame_index"] for tried in json.loads(trail.verdicts)] == [0, 5]


def test_unsure_is_not_a_yes():
    verifier = FakeVerifier({("carrot", 0): "unsure", ("carrot", 5): "mismatch"})
    (found,), _ = ground([(probed(0, 5), [CARROT])], verifier)
    assert found.reasons == {0: "unsure"}
    assert found.trails[0].verdict == "unsure"
    (found,), _ = ground([(probed(0, 5), [CARROT])], FakeVerifier({("carrot", 0): "unsure"}))
    assert found.crops[0].grounded.frame_index == 5


def test_what_a_verdict_says_goes_before_what_the_detector_misses():
    table = {("carrot", 0): ((0, 0, 2, 2), 0.5), ("carrot", 5): (CARROT_XYXY, 0.5)}
    verifier = FakeVerifier({"carrot": "mismatch"})
    (found,), _ = ground(
        [(probed(0, 5), [CARROT])], verifier, table=table, segmenter=FakeSegmenter()
    )
    assert found.reasons == {0: "rejected-by-verifier"}
    assert verifier.calls == [[("carrot", 5)]]


def test_candidates_of_a_turn_are_judged_together_across_spans():
    verifier = FakeVerifier()
    spans = [(probed(n, record_index=n), [CARROT, PLATE]) for n in range(19)]
    found, detector = ground(spans, verifier)
    assert [len(batch) for batch in detector.calls] == [16, 3]
    assert [len(batch) for batch in verifier.calls] == [38]
    assert verifier.calls[0][:3] == [("carrot", 0), ("plate", 0), ("carrot", 1)]
    assert all(list(one.crops) == [0, 1] for one in found)


def test_a_verifier_is_not_asked_about_nothing():
    verifier = FakeVerifier()
    (found,), _ = ground([(probed(0, 5), [CARROT])], verifier, table={})
    assert verifier.calls == []
    assert found.reasons == {0: "absent"}
    assert dataclasses.astuple(found.trails[0]) == (
        None, None, None, '{"detect": {"observation/image": [0, 5]}}',
    )  # fmt: skip


def test_a_candidate_carries_what_was_measured():
    verifier = FakeVerifier({("carrot", 0): "mismatch"})
    # 16 x 6 pixels of the carrot's 16 x 8: an IoU of 0.75, so not the same box but a rival.
    table = {"carrot": (CARROT_XYXY, 0.5), "plate": ((8, 8, 24, 14), 0.375)}
    ground([(probed(0, 5), [CARROT, PLATE])], verifier, table=table, segmenter=FakeSegmenter())
    first, plate, second, _ = verifier.candidates  # the plate is looked at again: 0.375 is low
    assert first.jpeg[:3] == b"\xff\xd8\xff"
    assert (first.phrase, first.is_given, first.earlier) == ("carrot", False, ())
    seen = first.sighting
    assert (seen.camera, seen.frame_index, seen.size_wh) == (CAMERA, 0, (64, 48))
    assert (seen.box_xyxy, seen.box_score, seen.rival_score) == ((8, 8, 24, 16), 0.5, 0.375)
    # The middle half: 4 pixels less on the left and right, 2 less above and below.
    assert (seen.mask_box_xyxy, seen.mask_area_px, seen.mask_score) == ((12, 10, 20, 14), 32, 0.75)
    assert seen.color_rgb == (255, 120, 0)
    assert (plate.phrase, plate.sighting.rival_score) == ("plate", 0.5)
    assert second.earlier == (seen,)


def test_a_candidate_without_a_mask_is_measured_by_its_box():
    verifier = FakeVerifier()
    table = {"carrot": ((8, 4, 24, 12), 0.5)}  # its upper half is the background of 40
    ground([(probed(0), [CARROT])], verifier, table=table)
    seen = verifier.candidates[0].sighting
    assert (seen.mask_box_xyxy, seen.mask_area_px, seen.mask_score) == (None, None, None)
    assert seen.color_rgb == (147.5, 80, 20)


def test_a_detector_that_was_wrong_too_often_is_not_asked_again(monkeypatch):
    monkeypatch.setattr(searches, "CANDIDATES_MAX", 2)
    verifier = FakeVerifier({"carrot": "mismatch"})
    (found,), detector = ground([(probed(0, 5, 10, 15), [CARROT])], verifier)
    assert [step for batch in detector.calls for step, _ in batch] == [0, 5]
    assert found.reasons == {0: "rejected-by-verifier"}


def test_phrases_with_one_query_share_the_verdict():
    text = "stack the cup on the other cup"
    cups = [make_phrase(text, "cup"), make_phrase(text, "other cup", query="cup")]
    verifier = FakeVerifier({"other cup": "mismatch"})
    (found,), _ = ground([(probed(0), cups)], verifier, table={"cup": (CARROT_XYXY, 0.5)})
    assert verifier.calls == [[("other cup", 0)]]
    assert found.reasons == {0: "rejected-by-verifier", 1: "rejected-by-verifier"}
    assert found.trails[0] == found.trails[1]


def test_without_a_verifier_pictures_are_unverified():
    (found,), _ = ground([(probed(0, 5), [CARROT, PLATE])], None, table={"plate": SEEN["plate"]})
    plate = found.crops[1].grounded
    assert (plate.verdict, plate.verifier, plate.verdicts) == ("unverified", "none", None)
    assert plate.frames_tried == '{"detect": {"observation/image": [0]}}'
    assert (found.trails[0].verdict, found.trails[0].verifier) == (None, None)


def test_a_result_does_not_depend_on_batches(monkeypatch):
    spans = [(probed(n, n + 5), [CARROT, PLATE]) for n in range(7)]
    table = {("carrot", 3): "mismatch", ("plate", 4): "unsure", ("plate", 9): "mismatch"}
    whole, _ = ground(spans, FakeVerifier(table))
    monkeypatch.setattr(searches, "BATCH_FRAMES", 2)
    assert ground(spans, FakeVerifier(table))[0] == whole
    assert [one for span in spans for one in ground([span], FakeVerifier(table))[0]] == whole


def test_a_later_frame_that_fails_ends_the_span():
    def load(indexed, probe):
        if probe.step == 5:
            raise RecordError("undecodable-image", "cut")
        return load_scene(indexed, probe)

    verifier = FakeVerifier({"carrot": "mismatch"})
    (found,), _ = ground([(probed(0, 5), [CARROT])], verifier, load=load)
    assert found.fault is not None
    assert found.fault.reason == "undecodable-image"


def test_a_verdict_is_one_of_three():
    with pytest.raises(ValueError, match="one of match, mismatch, unsure, got 'yes'"):
        Verdict("yes", "")
