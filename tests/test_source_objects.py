import numpy as np
import pytest
from builders import (
    CARROT_XYXY,
    HEIGHT,
    PLATE_XYXY,
    WIDTH,
    encode,
    features_json,
    make_episode,
    ragged,
    serialize,
)

from ilv_dataset.datasets import find_dataset
from ilv_dataset.errors import RecordError
from ilv_dataset.formats.example import parse_example
from ilv_dataset.formats.features import decode_features
from ilv_dataset.source_objects import read_source_objects

FEATURES = decode_features(features_json())
KEYS = find_dataset("demo").source_objects
NAME, BOX = "steps/observation/objects/name", "steps/observation/objects/bbox"


def read(record, *, step=1, size_wh=(WIDTH, HEIGHT)):
    example = parse_example(serialize(record))
    return read_source_objects(example, FEATURES, KEYS, step=step, size_wh=size_wh)


def labels(value):
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[3, 5] = value
    return encode(pixels, "PNG")


def test_read_source_objects():
    found = read(make_episode(2))
    assert found.names == ("carrot", "plate")
    assert found.boxes_xyxy.tolist() == [list(CARROT_XYXY), list(PLATE_XYXY)]
    assert found.masks.shape == (2, HEIGHT, WIDTH)
    assert found.masks.sum(axis=(1, 2)).tolist() == [16 * 8, 24 * 16]
    assert found.masks[0, 8, 8]
    assert not found.masks[0, 16, 24]


def test_each_step_has_a_number_of_objects_of_its_own():
    boxes = [[], [[0.5, 0.0, 1.0, 0.25]], []]
    record = make_episode(3, steps__observation__segmentation=[labels(1)] * 3)
    record |= {**ragged(NAME, [[], [b"cup"], []]), **ragged(BOX, boxes, np.float32)}
    assert read(record, step=0).names == read(record, step=2).names == ()
    assert read(record, step=0).boxes_xyxy.shape == (0, 4)
    assert read(record, step=0).masks.shape == (0, HEIGHT, WIDTH)
    found = read(record, step=1)
    assert (found.names, found.boxes_xyxy.tolist()) == (("cup",), [[0, 24, 16, 48]])
    assert np.argwhere(found.masks).tolist() == [[0, 3, 5]]


def test_no_step_marks_any_object():
    """Empty lists have no type in a record."""
    record = make_episode(2) | ragged(NAME, [[], []]) | ragged(BOX, [[], []])
    assert read(record).names == ()


def test_the_255th_object_is_the_last_that_a_label_can_name():
    names, boxes = [[b"cup"] * 255] * 2, [[[0, 0, 1, 1]] * 255] * 2
    record = make_episode(2, steps__observation__segmentation=[labels(255)] * 2)
    record |= {**ragged(NAME, names), **ragged(BOX, boxes, np.float32)}
    assert np.argwhere(read(record).masks).tolist() == [[254, 3, 5]]
    names, boxes = [[b"cup"] * 256] * 2, [[[0, 0, 1, 1]] * 256] * 2
    record |= {**ragged(NAME, names), **ragged(BOX, boxes, np.float32)}
    with pytest.raises(RecordError, match="step 1 has 256 object names and 256 boxes"):
        read(record)


def test_a_name_that_is_not_utf8_is_shown_as_far_as_it_goes():
    record = make_episode(2) | ragged(NAME, [[b"c\xff", b"plate"]] * 2)
    assert read(record).names == ("c\ufffd", "plate")


@pytest.mark.parametrize(
    ("changes", "reason", "message"),
    [
        (ragged(NAME, [[b"cup"]] * 2), "features-mismatch", "1 object names and 2 boxes"),
        (
            ragged(BOX, [[[0, 0, np.nan, 1]] * 2] * 2, np.float32),
            "features-mismatch",
            "a box that is not finite",
        ),
        (
            {"steps/observation/segmentation": [b"\xff\xd8\xffno\xff\xd9"] * 2},
            "undecodable-image",
            "does not decode",
        ),
    ],
)
def test_objects_that_make_no_sense(changes, reason, message):
    with pytest.raises(RecordError, match=message) as caught:
        read(make_episode(2) | changes)
    assert caught.value.reason == reason


def test_a_label_image_of_another_size_than_the_frame():
    with pytest.raises(RecordError, match=r"the label image is \(64, 48\), the frame \(32, 24\)"):
        read(make_episode(2), size_wh=(32, 24))
