import json

import numpy as np
import pytest
from builders import (
    INSTRUCTION,
    dataset_info_json,
    features_json,
    make_episode,
    make_object,
    make_row,
    scene_jpeg,
    serialize,
)

from ilv_dataset.errors import ConfigError
from ilv_dataset.formats.example import BytesValues, encode_example, parse_example, stream_example
from ilv_dataset.formats.features import Feature, decode_features
from ilv_dataset.formats.rlds import (
    encode_interleaved,
    interleaved_features_json,
    interleaved_info_json,
    slice_example,
)

FEATURES = decode_features(features_json())


def as_lists(example):
    return {name: list(values) for name, values in example.items()}


def cut(record, start, end, *, features=FEATURES, num_steps):
    example = parse_example(serialize(record))
    part = slice_example(example, features, start, end, num_steps=num_steps)
    _, pieces = stream_example(part)
    return parse_example(b"".join(pieces))


def test_encode_interleaved():
    carrot = make_object(frames_tried='{"detect": {"observation/image": [0]}}')
    row = make_row(objects=(carrot, make_object("plate", grounded=False, box_xyxy=None)))
    found = as_lists(parse_example(encode_interleaved(row)))
    group = {name.removeprefix("interleaved_instruction/"): value for name, value in found.items()}
    assert group["language_instruction"] == [b"put <image> on the plate"]
    assert group["original_instruction"] == [INSTRUCTION.encode()]
    assert group["image_instruction"] == [scene_jpeg()]
    assert group["image_mask"] == [1]
    assert group["episode_id"] == [b"ilv_demo-train.tfrecord-00000-of-00001__0"]
    assert (group["span"], group["step_start"], group["step_end"]) == ([0], [0], [2])
    assert group["objects/phrase"] == [b"carrot", b"plate"]
    assert group["objects/grounded"] == [1, 0]
    assert group["objects/box_xyxy"] == [8, 8, 24, 16, 0, 0, 0, 0]
    assert group["objects/mask_score"] == [0, 0]
    assert group["objects/frames_tried"] == [b'{"detect": {"observation/image": [0]}}', b""]
    assert group["objects/verdicts"] == [b"", b""]


def test_encode_interleaved_of_a_span_without_a_picture():
    row = make_row(status="text_only", reason="no-crop", interleaved="", images=(), objects=())
    found = as_lists(parse_example(encode_interleaved(row)))
    assert found["interleaved_instruction/language_instruction"] == [INSTRUCTION.encode()]
    assert found["interleaved_instruction/image_instruction"] == []
    assert found["interleaved_instruction/image_mask"] == []
    assert found["interleaved_instruction/objects/start"] == []


def test_slice_example_is_an_episode_of_its_own():
    record = make_episode(5)
    part = as_lists(cut(record, 1, 4, num_steps=5))
    assert part["steps/is_first"] == [1, 0, 0]
    assert part["steps/is_last"] == [0, 0, 1]
    assert part["steps/is_terminal"] == [0, 0, 0]
    assert part["steps/observation/image"] == [scene_jpeg(n) for n in (1, 2, 3)]
    assert part["steps/observation/note"] == [b"note 1", b"note 2", b"note 3"]
    assert part["steps/observation/flags"] == [0, 1, 1, 1, 0, 1]
    assert part["steps/action"] == [0.125] * 7 + [0.25] * 7 + [0.375] * 7
    assert part["steps/action_parts/future/xyz"] == list(range(6, 24))
    # words: [[1, 300], []] at step 1, nothing at step 2, [[3, 300], []] at step 3
    assert part["steps/observation/words/ragged_row_lengths_0"] == [2, 0, 2]
    assert part["steps/observation/words/ragged_row_lengths_1"] == [2, 0, 2, 0]
    assert part["steps/observation/words/ragged_flat_values"] == [1, 300, 3, 300]
    assert part["steps/observation/objects/name/ragged_flat_values"] == [b"carrot", b"plate"] * 3
    assert len(part["steps/observation/objects/bbox/ragged_flat_values"]) == 3 * 2 * 4
    for name in parse_example(serialize(record)):
        if name.startswith("episode_metadata/"):
            assert part[name] == list(record[name]), name
    assert part.keys() == record.keys()


def test_all_steps_give_the_source_back():
    record = make_episode(3)
    whole = cut(record, 0, 3, num_steps=3)
    assert as_lists(whole) == as_lists(parse_example(serialize(record)))


def test_slices_copy_no_frame():
    example = parse_example(serialize(make_episode(3)))
    part = slice_example(example, FEATURES, 1, 2, num_steps=3)
    frames = part["steps/observation/image"]
    assert isinstance(frames, BytesValues)
    assert frames.payload is example["steps/observation/image"].payload


def test_slice_example_leaves_the_source_as_it_was():
    example = parse_example(serialize(make_episode(3)))
    before = as_lists(example)
    slice_example(example, FEATURES, 1, 2, num_steps=3)
    assert as_lists(example) == before


def test_an_interleaved_instruction_of_the_source_gives_way():
    features = (
        *FEATURES,
        Feature("interleaved_instruction/span", "tensor", "int32", (), 0, False, None),
    )
    record = {**make_episode(2), "interleaved_instruction/span": np.array([7])}
    assert "interleaved_instruction/span" not in cut(record, 0, 2, features=features, num_steps=2)


def test_features_that_a_record_lacks_or_that_have_an_unknown_size():
    flags = Feature("steps/is_first", "tensor", "bool", (), 0, True, None)
    loose = Feature("steps/loose", "tensor", "int64", (None,), 0, True, None)
    gone = Feature("steps/gone", "tensor", "int64", (), 0, True, None, optional=True)
    rows = Feature("steps/rows", "tensor", "int64", (), 1, True, None, optional=True)
    record = {"steps/is_first": np.array([1, 0, 0]), "steps/loose": np.arange(6)}
    example = parse_example(encode_example(record))
    part = slice_example(example, (flags, loose, gone, rows), 1, 3, num_steps=3)
    assert as_lists(part) == {"steps/is_first": [1, 0], "steps/loose": [2, 3, 4, 5]}


def test_ragged_rows_that_are_all_empty():
    rows = Feature("steps/rows", "text", "string", (), 1, True, None)
    example = {
        "steps/rows/ragged_row_lengths_0": np.array([0, 0, 0]),
        "steps/rows/ragged_flat_values": BytesValues(b"", ()),
    }
    part = slice_example(example, (rows,), 1, 3, num_steps=3)
    assert as_lists(part) == {
        "steps/rows/ragged_row_lengths_0": [0, 0],
        "steps/rows/ragged_flat_values": [],
    }


def test_interleaved_features_json_adds_the_group_beside_the_steps():
    source = json.loads(features_json())
    found = json.loads(interleaved_features_json(features_json()))
    added = found["featuresDict"]["features"].pop("interleaved_instruction")
    assert found == source
    paths = {
        feature.path: (feature.kind, feature.dtype, feature.shape, feature.sequence_rank)
        for feature in decode_features(interleaved_features_json(features_json()))
        if feature.path.startswith("interleaved_instruction/")
    }
    assert paths["interleaved_instruction/language_instruction"] == ("text", "string", (), 0)
    assert paths["interleaved_instruction/image_instruction"] == (
        "image", "uint8", (224, 224, 3), 1,
    )  # fmt: skip
    assert paths["interleaved_instruction/image_mask"] == ("tensor", "bool", (), 1)
    assert paths["interleaved_instruction/objects/box_xyxy"] == ("tensor", "float32", (4,), 1)
    assert added["pythonClassName"].endswith("features_dict.FeaturesDict")


def test_every_feature_that_is_promised_is_written():
    promised = decode_features(interleaved_features_json(features_json()))
    written = parse_example(encode_interleaved(make_row()))
    assert sorted(written) == [
        feature.path for feature in promised if feature.path.startswith("interleaved_instruction/")
    ]


@pytest.mark.parametrize("text", ["{}", '{"featuresDict": []}', "[]"])
def test_features_json_without_features(text):
    with pytest.raises(ConfigError, match=r"^features\.json has no features: "):
        interleaved_features_json(text)


def test_interleaved_info_json():
    source = dataset_info_json({"train": [9, 9], "val": [9], "test": [9]})
    splits = {"val": [(0, 0)], "train": [(0, 0), (2, 100)]}
    found = json.loads(interleaved_info_json(source, name="toy_interleave", splits=splits))
    assert found == {
        "name": "toy_interleave",
        "version": "1.0.0",
        "fileFormat": "tfrecord",
        "citation": "@misc{toy}",
        "splits": [
            {
                "name": "train",
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "numBytes": "100",
                "shardLengths": ["0", "2"],
            }
        ],
    }
