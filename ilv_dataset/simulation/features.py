"""What a simulated episode looks like as a TFDS dataset: features.json, and the Example of one.

Source: the forms that tensorflow_datasets 4.9 gives its features in features.json; a test opens
what is written here with it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from ilv_dataset.simulation.episodes import Episode
from ilv_dataset.simulation.render import FRAME_PX
from ilv_dataset.simulation.shading import label_boxes

JPEG_QUALITY = 86
_PACKAGE = "tensorflow_datasets.core.features"

Feature = dict[str, object]


def features_json() -> str:
    """The text of features.json."""
    return json.dumps(_features(), indent=1, sort_keys=True) + "\n"


def encode_features(episode: Episode) -> dict[str, Sequence[bytes] | np.ndarray]:
    """The features of one episode's Example, by the keys that TFDS stores them under."""
    plan, pictures = episode.plan, episode.pictures
    last = len(pictures) - 1
    at_end = np.arange(len(pictures)) == last
    truth = [label_boxes(picture.labels, len(episode.names)) for picture in pictures]
    names = [name.encode() for name in episode.names]
    steps: dict[str, Sequence[bytes] | np.ndarray] = {
        "observation/image": [_jpeg(picture.rgb) for picture in pictures],
        "observation/segmentation": [_png(picture.labels) for picture in pictures],
        "observation/state": np.stack([now.state for now in plan.arrangements]),
        "language_instruction": [text.encode() for text in plan.instructions],
        "action": plan.actions,
        "reward": at_end.astype(np.float32),
        "discount": np.ones(len(pictures), np.float32),
        "is_first": np.arange(len(pictures)) == 0,
        "is_last": at_end,
        "is_terminal": at_end,
    }
    columns: dict[str, Sequence[bytes] | np.ndarray] = {
        "name": names * len(pictures),
        "bbox": np.concatenate([boxes for boxes, _ in truth]),
        "visible_px": np.concatenate([counts for _, counts in truth]),
    }
    for name, column in columns.items():
        # A sequence in a sequence is ragged: all values in a row, and how many each step has.
        steps[f"observation/objects/{name}/ragged_flat_values"] = column
        steps[f"observation/objects/{name}/ragged_row_lengths_0"] = np.full(
            len(pictures), len(names), np.int64
        )
    metadata: dict[str, Sequence[bytes] | np.ndarray] = {
        "episode_id": np.array([episode.index]),
        "seed": np.array([episode.seed]),
        "case": [plan.case.encode()],
    }
    return {
        **{f"steps/{key}": values for key, values in steps.items()},
        **{f"episode_metadata/{key}": values for key, values in metadata.items()},
    }


def _features() -> Feature:
    frame = [FRAME_PX, FRAME_PX]
    objects = _dict(
        name=_text("What the object is called: size where needed, colour, noun."),
        bbox=_box("ymin, xmin, ymax, xmax of its visible pixels in 0..1; zeros where hidden."),
        visible_px=_tensor("int32", [], "Number of its visible pixels."),
    )
    observation = _dict(
        image=_image([*frame, 3], "jpeg", "Camera across the table, RGB."),
        segmentation=_image([*frame, 1], "png", "i + 1 where object i is seen, else 0."),
        state=_tensor(
            "float32",
            [7],
            "Finger tips: x y z in m from the arm's base, roll pitch yaw in rad from pointing"
            " straight down, gripper 1 open or 0 closed.",
        ),
        objects=_sequence(objects, "Sequence", "sequence_feature", "The same at every step."),
    )
    steps = _dict(
        observation=observation,
        language_instruction=_text("May be empty, and may change within the episode."),
        action=_tensor(
            "float32",
            [7],
            "Change of the state's pose until the next step, then the gripper: 1 open, 0 closed.",
        ),
        reward=_tensor("float32", [], "1 on the last step."),
        discount=_tensor("float32", [], "Always 1."),
        is_first=_tensor("bool", []),
        is_last=_tensor("bool", []),
        is_terminal=_tensor("bool", []),
    )
    metadata = _dict(
        episode_id=_tensor("int32", [], "Number of the episode in its simulation."),
        seed=_tensor("int64", [], "Seed of its simulation."),
        case=_text("What is special about it, e.g. same-noun or hidden."),
    )
    return _dict(steps=_sequence(steps, "Dataset", "dataset_feature"), episode_metadata=metadata)


def _feature(module: str, name: str, content: Mapping[str, object], description: str) -> Feature:
    feature: Feature = {"pythonClassName": f"{_PACKAGE}.{module}.{name}", **content}
    return {**feature, "description": description} if description else feature


def _dict(**features: Feature) -> Feature:
    content = {"featuresDict": {"features": features}}
    return _feature("features_dict", "FeaturesDict", content, "")


def _sequence(feature: Feature, name: str, module: str, description: str = "") -> Feature:
    content = {"sequence": {"feature": feature, "length": "-1"}}
    return _feature(module, name, content, description)


def _text(description: str) -> Feature:
    return _feature("text_feature", "Text", {"text": {}}, description)


def _tensor(dtype: str, shape: Sequence[int], description: str = "") -> Feature:
    content = {"tensor": {"shape": _shape(shape), "dtype": dtype, "encoding": "none"}}
    module, name = ("tensor_feature", "Tensor") if shape else ("scalar", "Scalar")
    return _feature(module, name, content, description)


def _image(shape: Sequence[int], encoding: str, description: str) -> Feature:
    content = {"image": {"shape": _shape(shape), "dtype": "uint8", "encodingFormat": encoding}}
    return _feature("image_feature", "Image", content, description)


def _box(description: str) -> Feature:
    content = {"boundingBox": {"shape": _shape([4]), "dtype": "float32", "bboxFormat": "REL_YXYX"}}
    return _feature("bounding_boxes", "BBoxFeature", content, description)


def _shape(shape: Sequence[int]) -> Feature:
    return {"dimensions": [str(size) for size in shape]} if shape else {}


def _jpeg(rgb: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return file.getvalue()


def _png(labels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(labels).save(file, "PNG", optimize=True)
    return file.getvalue()
