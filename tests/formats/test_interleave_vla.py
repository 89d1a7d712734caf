import json

import numpy as np
import pytest
from builders import CARROT, INSTRUCTION, PLATE, decode, make_object, make_row, scene_jpeg

from ilv_dataset.formats.example import encode_example, parse_example
from ilv_dataset.formats.features import decode_features
from ilv_dataset.formats.interleave_vla import (
    MappedSteps,
    Provenance,
    black_image,
    encode_record,
    features_json,
    picture_instruction,
)

CARROT_JPEG, PLATE_JPEG = scene_jpeg(1), scene_jpeg(2)


def grounded(phrase, **changes):
    place = {"start": phrase.start, "end": phrase.end, "kind": phrase.kind}
    return make_object(phrase.phrase, query=phrase.query, **place, **changes)


def two_pictures(**changes):
    return make_row(
        interleaved="put <image> on <image>",
        images=(CARROT_JPEG, PLATE_JPEG),
        objects=(grounded(CARROT), grounded(PLATE)),
        **changes,
    )


def pictured(row, max_images=1):
    found = picture_instruction(row, INSTRUCTION, max_images=max_images)
    return found.language, found.images, found.mask


def make_steps(num=2, **changes):
    values = {
        "steps": range(num),
        "frames": tuple(scene_jpeg(step) for step in range(num)),
        "actions": np.zeros((num, 7), np.float32),
        "states": np.zeros((num, 7), np.float32),
        "is_terminal": np.zeros(num, bool),
        "rewards": np.zeros(num, np.float32),
        "discounts": np.ones(num, np.float32),
    }
    return MappedSteps(**(values | changes))


def test_one_picture_of_two_is_chosen_by_the_spans_id_and_the_other_noun_stays_text():
    found = {span: pictured(two_pictures(span=span)) for span in range(20)}
    assert set(found.values()) == {
        ("put <image> on the plate", (CARROT_JPEG,), (True,)),
        ("put the carrot on <image>", (PLATE_JPEG,), (True,)),
    }
    again = {span: pictured(two_pictures(span=span)) for span in range(20)}
    assert found == again


def test_with_room_for_all_the_instruction_is_that_of_the_table():
    found = pictured(two_pictures(), max_images=2)
    assert found == ("put <image> on <image>", (CARROT_JPEG, PLATE_JPEG), (True, True))


def test_one_more_picture_leaves_those_that_there_are():
    for span in range(20):
        (one,) = pictured(two_pictures(span=span))[1]
        assert one in pictured(two_pictures(span=span), max_images=2)[1]


def test_what_is_missing_is_black_and_masked():
    language, images, mask = pictured(two_pictures(), max_images=3)
    assert language == "put <image> on <image>"
    assert images == (CARROT_JPEG, PLATE_JPEG, black_image())
    assert mask == (True, True, False)
    black = decode(black_image())
    assert (black.shape, black.dtype, black.max()) == ((224, 224, 3), np.uint8, 0)


def test_an_object_without_a_picture_stays_text():
    plate = make_object("plate", start=PLATE.start, end=PLATE.end, grounded=False, reason="absent")
    row = make_row(objects=(grounded(CARROT), plate), images=(CARROT_JPEG,))
    assert pictured(row) == ("put <image> on the plate", (CARROT_JPEG,), (True,))


def test_a_span_without_a_picture_keeps_its_instruction():
    row = make_row(objects=(), images=(), interleaved="", status="text_only", reason="no-crop")
    assert pictured(row) == (INSTRUCTION, (black_image(),), (False,))


def test_phrases_of_another_text_are_an_error():
    with pytest.raises(ValueError, match="does not index 'lift the banana'"):
        picture_instruction(two_pictures(), "lift the banana", max_images=1)


def test_encode_record_has_the_instruction_on_every_step_and_flags_at_the_ends():
    row = two_pictures(step_start=2, step_end=5)
    steps = make_steps(3, steps=range(2, 5), rewards=np.array([0, 0, 1]))
    instruction = picture_instruction(row, INSTRUCTION, max_images=2)
    provenance = Provenance("in.npy", "observation/image", "joints", "roll-pitch-yaw")
    record = encode_record(row, instruction, steps, provenance)
    example = parse_example(encode_example(record))
    group = "steps/interleaved_instruction"
    assert list(example[f"{group}/language_instruction"]) == [b"put <image> on <image>"] * 3
    assert list(example[f"{group}/original_instruction"]) == [INSTRUCTION.encode()] * 3
    images = example[f"{group}/image_instruction/ragged_flat_values"]
    assert list(images) == [CARROT_JPEG, PLATE_JPEG] * 3
    assert list(example[f"{group}/image_instruction/ragged_row_lengths_0"]) == [2, 2, 2]
    assert list(example[f"{group}/image_mask/ragged_flat_values"]) == [1] * 6
    flags = {name: list(example[f"steps/{name}"]) for name in ("is_first", "is_last", "reward")}
    assert flags == {"is_first": [1, 0, 0], "is_last": [0, 0, 1], "reward": [0, 0, 1]}
    metadata = {
        path.removeprefix("episode_metadata/"): values[0]
        for path, values in example.items()
        if path.startswith("episode_metadata/")
    }
    objects = json.loads(metadata.pop("objects"))
    assert [found["phrase"] for found in objects] == ["carrot", "plate"]
    assert objects[0]["box_xyxy"] == [8.0, 8.0, 24.0, 16.0]
    assert metadata == {
        "camera": b"observation/image",
        "dataset": b"ilv_demo",
        "episode_id": b"ilv_demo-train.tfrecord-00000-of-00001__0",
        "file_path": b"in.npy",
        "rotation": b"roll-pitch-yaw",
        "span": 0,
        "state_kind": b"joints",
        "step_end": 5,
        "step_start": 2,
    }


def test_without_states_the_metadata_say_so():
    provenance = Provenance("", "observation/image", "", "roll-pitch-yaw")
    instruction = picture_instruction(make_row(), INSTRUCTION, max_images=1)
    record = encode_record(make_row(), instruction, make_steps(), provenance)
    assert record["episode_metadata/state_kind"] == [b"none"]


def test_features_json_has_exactly_what_the_trainers_read():
    features = {feature.path: feature for feature in decode_features(features_json())}
    group = "steps/interleaved_instruction/"
    assert sorted(path for path in features if path.startswith("steps/")) == [
        "steps/action",
        "steps/discount",
        f"{group}image_instruction",
        f"{group}image_mask",
        f"{group}language_instruction",
        f"{group}original_instruction",
        "steps/is_first",
        "steps/is_last",
        "steps/is_terminal",
        "steps/observation/image",
        "steps/observation/state",
        "steps/reward",
    ]
    images = features[f"{group}image_instruction"]
    assert (images.kind, images.shape, images.sequence_rank) == ("image", (224, 224, 3), 1)
    assert images.encoding_format == "jpeg"
    for path in ("steps/action", "steps/observation/state"):
        assert (features[path].dtype, features[path].shape) == ("float32", (7,))
    metadata = [feature for path, feature in features.items() if path.startswith("episode_")]
    assert all(found.shape == () and found.sequence_rank == 0 for found in metadata)


def test_mapped_steps_of_another_length_are_a_bug():
    with pytest.raises(ValueError, match=r"expected \(2, 7\) numbers, got \(2, 8\)"):
        make_steps(states=np.zeros((2, 8), np.float32))
    with pytest.raises(ValueError, match="expected 2 steps, got 1"):
        make_steps(frames=(scene_jpeg(),))
