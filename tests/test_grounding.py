import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from builders import (
    CAMERA,
    CARROT,
    CARROT_XYXY,
    PLATE,
    PLATE_XYXY,
    FakeDetector,
    FakeSegmenter,
    decode,
    load_scene,
    make_phrase,
    probed,
)

from ilv_dataset import searches
from ilv_dataset.errors import RecordError, StorageError
from ilv_dataset.fields import PICTURED_KINDS
from ilv_dataset.grounding import ground_spans
from ilv_dataset.masks import decode_rle
from ilv_dataset.models import loading
from ilv_dataset.searches import BATCH_FRAMES


def ground(spans, table, *, segmenter=None, load=load_scene, kinds=PICTURED_KINDS):
    detector = table if isinstance(table, FakeDetector) else FakeDetector(table)
    found = ground_spans(
        spans, load_frame=load, detector=detector, segmenter=segmenter, picture_kinds=kinds
    )
    return found, detector


def test_phrases_that_are_found_become_pictures():
    (found,), _ = ground(
        [(probed(0), [CARROT, PLATE])], {"carrot": (CARROT_XYXY, 0.5), "plate": (PLATE_XYXY, 0.75)}
    )
    assert found.fault is None
    assert found.reasons == {}
    carrot, plate = found.crops[0], found.crops[1]
    assert np.abs(decode(carrot.jpeg)[112, 112].astype(int) - (255, 120, 0)).max() < 12
    assert np.abs(decode(plate.jpeg)[112, 112].astype(int) - (240, 240, 240)).max() < 12
    place = carrot.grounded
    assert (place.phrase, place.start, place.end, place.query, place.kind) == (
        "carrot", 8, 14, "carrot", "object",
    )  # fmt: skip
    assert (place.camera, place.frame_index, place.source) == (CAMERA, 0, "episode")
    assert (place.box_xyxy, place.box_score) == ((8.0, 8.0, 24.0, 16.0), 0.5)
    assert (place.mask_rle, place.mask_score) == (None, None)
    assert (place.method, place.verdict, place.verifier) == ("detect", "unverified", "none")
    assert place.scale == pytest.approx(224 / 23)  # 16 px and 20 % on both sides: 22.4


def test_what_is_not_found_says_so():
    (found,), _ = ground([(probed(0, 5), [CARROT, PLATE])], {"plate": (PLATE_XYXY, 0.5)})
    assert list(found.crops) == [1]
    assert found.reasons == {0: "absent"}


@pytest.mark.parametrize(
    ("views", "chosen"),
    [
        ([(CARROT_XYXY, 0.5), ((8, 8, 40, 40), 1.0)], 0),  # good enough: no other is looked at
        ([(CARROT_XYXY, 0.25), (CARROT_XYXY, 0.375), (CARROT_XYXY, 0.25)], 5),  # the best score
        ([((8, 8, 24, 16), 0.25), ((8, 8, 16, 16), 0.25)], 0),  # 128 pixels, and 64 of them hidden
        ([((8, 8, 16, 16), 0.25), ((8, 8, 24, 16), 0.25)], 5),
        ([((0, 8, 16, 16), 0.9), (CARROT_XYXY, 0.5)], 5),  # cut off by the border
        ([((0, 8, 16, 16), 0.9), ((8, 8, 24, 16), 0.4)], 0),  # 0.9 / 2 is still more than 0.4
    ],
)
def test_the_clearest_view_is_the_picture(views, chosen):
    table = {("carrot", 5 * number): view for number, view in enumerate(views)}
    (found,), _ = ground([(probed(0, 5, 10), [CARROT])], table)
    assert found.crops[0].grounded.frame_index == chosen


def test_a_clearer_view_is_looked_for_twice_and_no_more():
    table = {"carrot": (CARROT_XYXY, 0.25)}
    (found,), detector = ground([(probed(0, 5, 10, 15, 20), [CARROT])], table)
    assert [step for batch in detector.calls for step, _ in batch] == [0, 5, 10]
    assert found.crops[0].grounded.frame_index == 0


def test_threads_take_turns_at_a_model(monkeypatch):
    busy, most = [], []

    class Busy(FakeDetector):
        def __call__(self, frames, queries):
            busy.append(1)
            most.append(len(busy))
            time.sleep(0.01)
            busy.pop()
            return []

    monkeypatch.setattr(loading, "load_detector", lambda _: Busy({}))
    loading.forget_models()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: loading.detector_of_process("busy")([], []), range(8)))
    loading.forget_models()
    assert most == [1] * 8


def test_later_frames_are_asked_for_what_is_still_missing_and_no_more():
    spans = [
        (probed(0, 5, 10), [CARROT, PLATE]),
        (probed(0, 5), [PLATE]),
        (probed(0), [CARROT]),
    ]
    found, detector = ground(spans, {("carrot", 5): (CARROT_XYXY, 0.5), "plate": (PLATE_XYXY, 0.5)})
    assert detector.calls == [
        [(0, ("carrot", "plate")), (0, ("plate",)), (0, ("carrot",))],
        [(5, ("carrot", "plate"))],
    ]
    assert [found[0].crops[i].grounded.frame_index for i in (0, 1)] == [5, 0]
    assert found[2].reasons == {0: "absent"}


def test_the_first_reason_that_says_more_than_absent_is_kept():
    table = {("carrot", 5): ((0, 0, 2, 2), 0.5), ("carrot", 10): ((0, 0, 64, 48), 0.5)}
    (found,), _ = ground(
        [(probed(0, 5, 10, 15), [CARROT])], table, segmenter=FakeSegmenter(is_blind=True)
    )
    assert found.crops == {}
    assert found.reasons == {0: "empty-mask"}


def test_a_mask_of_too_few_pixels_is_too_small():
    (found,), _ = ground(
        [(probed(0), [CARROT])], {"carrot": ((8, 8, 14, 14), 0.5)}, segmenter=FakeSegmenter()
    )
    assert found.reasons == {0: "box-too-small"}  # 6 - 2 * (6 // 4) = 4 on each side


def test_the_crop_is_the_masks_bounding_box():
    segmenter = FakeSegmenter()
    (found,), _ = ground(
        [(probed(0), [PLATE])], {"plate": ((30, 20, 62, 44), 0.5)}, segmenter=segmenter
    )
    place = found.crops[0].grounded
    assert segmenter.boxes == [[[30, 20, 62, 44]]]
    assert place.box_xyxy == (30, 20, 62, 44)
    assert place.mask_score == 0.75
    mask = decode_rle(place.mask_rle)
    assert np.argwhere(mask).min(axis=0).tolist() == [26, 38]
    assert np.argwhere(mask).max(axis=0).tolist() == [37, 53]
    assert place.scale == pytest.approx(224 / 23)  # 16 px wide


def test_only_boxes_that_are_wanted_are_segmented():
    segmenter = FakeSegmenter()
    spans = [(probed(0, 5), [CARROT, PLATE]), (probed(0), [PLATE])]
    ground(spans, {"carrot": None, "plate": (PLATE_XYXY, 0.5)} | {("carrot", 5): (CARROT_XYXY, 1)},
           segmenter=segmenter)  # fmt: skip
    assert segmenter.boxes == [[list(PLATE_XYXY)], [list(PLATE_XYXY)], [list(CARROT_XYXY)]]


def test_phrases_with_one_query_share_a_crop():
    text = "stack the cup on the other cup"
    cups = [make_phrase(text, "cup"), make_phrase(text, "other cup", query="cup")]
    (found,), detector = ground([(probed(0), cups)], {"cup": (CARROT_XYXY, 0.5)})
    assert detector.calls == [[(0, ("cup",))]]
    assert found.crops[0].jpeg == found.crops[1].jpeg


def test_kinds_that_are_not_pictured_stay_text():
    table = make_phrase("on the table", "table", kind="surface")
    (found,), detector = ground([(probed(0), [table])], {"table": (PLATE_XYXY, 0.5)})
    assert found.reasons == {0: "kind-not-pictured"}
    assert detector.calls == []
    (found,), _ = ground([(probed(0), [table])], {"table": (PLATE_XYXY, 0.5)}, kinds=("surface",))
    assert list(found.crops) == [0]


def test_batches_are_formed_across_spans_in_their_order():
    spans = [(probed(n), [CARROT]) for n in range(BATCH_FRAMES + 3)]
    found, detector = ground(spans, {"carrot": (CARROT_XYXY, 0.5)})
    assert [len(batch) for batch in detector.calls] == [BATCH_FRAMES, 3]
    assert [step for batch in detector.calls for step, _ in batch] == list(range(BATCH_FRAMES + 3))
    assert all(list(one.crops) == [0] for one in found)


def test_a_result_does_not_depend_on_the_batch_it_was_in(monkeypatch):
    spans = [(probed(n, n + 5), [CARROT, PLATE]) for n in range(7)]
    table = {("carrot", 3): (CARROT_XYXY, 0.5), "plate": (PLATE_XYXY, 0.5)}
    whole, _ = ground(spans, table)
    monkeypatch.setattr(searches, "BATCH_FRAMES", 2)
    assert ground(spans, table)[0] == whole


def test_a_frame_that_fails_ends_its_span_alone():
    def load(indexed, probe):
        if indexed.record_index == 1:
            raise RecordError("undecodable-image", "cut")
        return load_scene(indexed, probe)

    spans = [(probed(0, record_index=n), [CARROT]) for n in range(3)]
    found, detector = ground(spans, {"carrot": (CARROT_XYXY, 0.5)}, load=load)
    assert [str(one.fault) if one.fault else "" for one in found] == ["", "cut", ""]
    assert [list(one.crops) for one in found] == [[0], [], [0]]
    assert [len(batch) for batch in detector.calls] == [2]


def test_a_batch_of_which_every_frame_fails_is_not_shown_to_the_detector():
    def load(*_):
        raise RecordError("undecodable-image", "cut")

    (found,), detector = ground([(probed(0, 5), [CARROT])], {}, load=load)
    assert found.fault is not None
    assert detector.calls == []


def test_a_later_frame_that_fails_ends_the_span_too():
    def load(indexed, probe):
        if probe.step == 5:
            raise RecordError("undecodable-image", "cut")
        return load_scene(indexed, probe)

    (found,), _ = ground([(probed(0, 5), [CARROT, PLATE])], {"plate": (PLATE_XYXY, 0.5)}, load=load)
    assert found.fault.reason == "undecodable-image"


def test_a_storage_that_fails_stops_the_run():
    def load(*_):
        raise StorageError("gone")

    with pytest.raises(StorageError, match="gone"):
        ground([(probed(0), [CARROT])] * 40, {}, load=load)


def test_spans_without_phrases_or_probes():
    found, detector = ground([(probed(0), []), (probed(), [CARROT])], {})
    assert [dataclasses.astuple(one)[:3] for one in found] == [
        ({}, {}, None),
        ({}, {0: "absent"}, None),
    ]
    assert detector.calls == []
    assert ground([], {})[0] == []
