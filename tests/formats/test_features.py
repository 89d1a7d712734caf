import json
from pathlib import Path

import numpy as np
import pytest

from ilv_dataset.errors import ConfigError
from ilv_dataset.formats.features import Feature, decode_features, find_feature

RLDS = Path(__file__).resolve().parents[3] / "shared" / "data" / "rlds"

TEXT = {"pythonClassName": "x.Text", "text": {}}
SCALAR = {"tensor": {"shape": {}, "dtype": "float32", "encoding": "none"}}


def fields(**features):
    return {"featuresDict": {"features": features}}


def tensor(*dimensions, dtype="float32", **rest):
    return {"tensor": {"shape": {"dimensions": list(dimensions)}, "dtype": dtype, **rest}}


def image(*dimensions, **rest):
    return {"image": {"shape": {"dimensions": list(dimensions)}, "dtype": "uint8", **rest}}


def sequence(feature, **rest):
    return {"sequence": {"feature": feature, **rest}}


def features_json(step, **episode):
    return json.dumps(fields(steps=sequence(step), **episode))


def decode_step(**step):
    return decode_features(features_json(fields(**step)))


def test_decode_features_of_a_small_dataset():
    text = features_json(
        fields(
            observation=fields(image=image("64", "48", "3", encodingFormat="jpeg")),
            language_instruction=TEXT,
            action=tensor("7"),
            is_first={"tensor": {"shape": {}, "dtype": "bool"}},
        ),
        episode_metadata=fields(file_path=TEXT),
    )
    assert decode_features(text) == (
        Feature("episode_metadata/file_path", "text", "string", (), 0, False, None),
        Feature("steps/action", "tensor", "float32", (7,), 0, True, None),
        Feature("steps/is_first", "tensor", "bool", (), 0, True, None),
        Feature("steps/language_instruction", "text", "string", (), 0, True, None),
        Feature("steps/observation/image", "image", "uint8", (64, 48, 3), 0, True, "jpeg"),
    )


def test_a_key_with_a_slash_is_joined_as_it_is():
    (feature,) = decode_step(action=fields(**{"future/xyz_residual": tensor("30")}))
    assert feature.path == "steps/action/future/xyz_residual"
    assert feature.key == "action/future/xyz_residual"


def test_the_key_of_a_feature_outside_steps_is_its_path():
    found = find_feature(decode_features(features_json(fields(), id=TEXT)), "id")
    assert found is not None
    assert found.key == "id"


def test_find_feature_when_there_is_none():
    assert find_feature(decode_step(action=SCALAR), "steps/state") is None


@pytest.mark.parametrize(
    ("dimensions", "shape", "num_values"),
    [(("2", "3"), (2, 3), 6), ((4, -1), (4, None), None), ((), (), 1), (("0",), (0,), 0)],
)
def test_shape_and_number_of_values(dimensions, shape, num_values):
    (feature,) = decode_step(x=tensor(*dimensions))
    assert (feature.shape, feature.num_values) == (shape, num_values)


def test_sequences_are_counted_inside_steps_without_the_steps():
    boxes = sequence({"boundingBox": {"bboxFormat": "yxyx"}}, length="-1")
    names, pairs = sequence(fields(name=TEXT)), sequence(sequence(tensor("2"), length="3"))
    found = decode_features(
        features_json(fields(boxes=boxes, objects=names, pairs=pairs), tags=sequence(TEXT))
    )
    assert [(f.path, f.kind, f.dtype, f.shape, f.sequence_rank) for f in found] == [
        ("steps/boxes", "tensor", "float32", (4,), 1),
        ("steps/objects/name", "text", "string", (), 1),
        ("steps/pairs", "tensor", "float32", (2,), 2),
        ("tags", "text", "string", (), 1),
    ]


def test_the_other_forms():
    found = decode_step(
        audio={"audio": {"shape": {"dimensions": ["-1"]}, "dtype": "int64", "encoding": "NONE"}},
        label={"classLabel": {"numClasses": "10"}},
        lazy={"audio": {"shape": {}, "dtype": "int64", "lazyDecode": True}},
        packed=tensor("480", "640", encoding="zlib"),
        translation={"translation": {"languages": ["de", "en"]}},
        video={"video": {"shape": {"dimensions": ["9", "8", "7", "3"]}, "encodingFormat": "png"}},
        words=tensor("3", dtype="string"),
    )
    assert [(f.key, f.kind, f.dtype, f.shape, f.sequence_rank) for f in found] == [
        ("audio", "tensor", "int64", (None,), 0),
        ("label", "tensor", "int64", (), 0),
        ("lazy", "bytes", "int64", (), 0),
        ("packed", "bytes", "float32", (480, 640), 0),
        ("translation/de", "text", "string", (), 0),
        ("translation/en", "text", "string", (), 0),
        ("video", "image", "uint8", (8, 7, 3), 1),
        ("words", "tensor", "string", (3,), 0),
    ]


def test_a_tensor_of_several_unknown_sizes_is_stored_beside_its_shape():
    found = decode_step(x=tensor("-1", "-1", "3"))
    assert [(f.key, f.dtype, f.shape) for f in found] == [
        ("x/shape", "int32", (3,)),
        ("x/value", "float32", (None, None, 3)),
    ]


def test_an_image_without_a_format_says_none():
    (feature,) = decode_step(image=image("4", "4", "3"))
    assert (feature.encoding_format, feature.optional) == (None, False)


def test_an_optional_tensor():
    (feature,) = decode_step(x=tensor("2", optional=True))
    assert feature.optional


def test_a_feature_of_unknown_form_is_opaque():
    mesh, pose = {"pythonClassName": "my.Mesh"}, {"jsonFeature": {"json": "{}"}}
    found = decode_features(
        features_json(fields(action=SCALAR, mesh=mesh, poses=sequence(pose)), calibration=pose)
    )
    assert found == (
        Feature("calibration", "opaque", "", (), 0, False, None),
        Feature("steps/action", "tensor", "float32", (), 0, True, None),
        Feature("steps/mesh", "opaque", "", (), 0, True, None),
        Feature("steps/poses", "opaque", "", (), 1, True, None),
    )
    assert [feature.num_stored for feature in found] == [None, 1, None, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "features.json is not JSON"),
        ("[" * 100_000, "features.json is not JSON"),
        ("[]", "not a JSON object but list"),
        ('{"type": "x.FeaturesDict", "content": {}}', "form of TFDS before"),
        (json.dumps(fields(image=SCALAR, label=SCALAR)), "no 'steps'.*features: image, label"),
        (json.dumps(fields(steps=SCALAR)), "'steps' is not a Dataset or Sequence"),
        (features_json(SCALAR), "'steps' does not hold a dictionary"),
        (json.dumps(fields(steps={"jsonFeature": {}})), "'steps' is not a Dataset or Sequence"),
        (features_json({"jsonFeature": {}}), "'steps' does not hold a dictionary"),
        (features_json(fields(x=7)), "'steps/x' is not an object but int"),
        (features_json(fields(x={"tensor": 7})), "'steps/x' has no object 'tensor'"),
        (features_json(fields(x=tensor("two"))), "'steps/x' has a dimension of 'two'"),
        (features_json(fields(x=tensor("-7"))), "'steps/x' has a dimension of '-7'"),
        (features_json(fields(x=tensor("9" * 30))), "'steps/x' has a dimension of '9{30}'"),
        (features_json(fields(x=tensor(dtype="float7"))), "unknown dtype 'float7'"),
        (features_json(fields(x=tensor(encoding="gzip"))), "unknown encoding 'gzip'"),
        (features_json(fields(x=image("4", "4"))), r"shape \(4, 4\), expected \(H, W, C\)"),
        (features_json(fields(x=image("4", "4", "3", encodingFormat="webp"))), "format 'webp'"),
        (features_json(fields(**{"a/b": SCALAR, "a": fields(b=SCALAR)})), "two features.*s/a/b"),
    ],
)
def test_what_cannot_be_read_says_why(text, message):
    with pytest.raises(ConfigError, match=message):
        decode_features(text)


def test_decode_features_agrees_with_tfds():
    tfds = pytest.importorskip("tensorflow_datasets")
    json_format = pytest.importorskip("google.protobuf.json_format")
    f = tfds.features
    step = {
        "action": f.Tensor(shape=(7,), dtype=np.float32),
        "objects": f.Sequence({"bbox": f.BBoxFeature(), "name": f.Text()}),
        "image": f.Image(shape=(None, None, 3), encoding_format="png"),
        "depth": f.Tensor(shape=(4, 4), dtype=np.uint16, encoding="zlib"),
        "cloud": f.Tensor(shape=(None, None), dtype=np.float64),
    }
    top = f.FeaturesDict({"steps": f.Dataset(step), "label": f.ClassLabel(num_classes=3)})
    found = decode_features(json_format.MessageToJson(top.to_proto()))
    assert [(x.path, x.kind, x.dtype, x.shape, x.sequence_rank) for x in found] == [
        ("label", "tensor", "int64", (), 0),
        ("steps/action", "tensor", "float32", (7,), 0),
        ("steps/cloud/shape", "tensor", "int32", (2,), 0),
        ("steps/cloud/value", "tensor", "float64", (None, None), 0),
        ("steps/depth", "bytes", "uint16", (4, 4), 0),
        ("steps/image", "image", "uint8", (None, None, 3), 0),
        ("steps/objects/bbox", "tensor", "float32", (4,), 1),
        ("steps/objects/name", "text", "string", (), 1),
    ]


@pytest.mark.skipif(not RLDS.is_dir(), reason="the development data is not beside the repository")
@pytest.mark.parametrize(
    ("folder", "num_features", "path"),
    [
        ("bridge_dataset/1.0.0", 20, "steps/observation/image_3"),
        ("bridge/0.1.0", 12, "steps/observation/natural_language_instruction"),
        ("fractal20220817_data/0.1.0", 41, "attributes/collection_mode_name"),
    ],
)
def test_decode_features_of_real_datasets(folder, num_features, path):
    found = decode_features((RLDS / folder / "features.json").read_text())
    assert len(found) == num_features
    assert find_feature(found, path) is not None
