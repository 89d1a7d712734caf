"""Features as TFDS writes them into features.json: the other direction of `features.py`.

Source: tensorflow_datasets 4.9.10, core/features/*.py (`to_json_content`).
"""

from __future__ import annotations

from collections.abc import Mapping

_FEATURES = "tensorflow_datasets.core.features"


def dict_json(features: Mapping[str, object]) -> dict[str, object]:
    """A dictionary of features."""
    return {
        "pythonClassName": f"{_FEATURES}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }


def sequence_json(feature: Mapping[str, object]) -> dict[str, object]:
    """Any number of a feature."""
    return {
        "pythonClassName": f"{_FEATURES}.sequence_feature.Sequence",
        "sequence": {"feature": feature, "length": "-1"},
    }


def dataset_json(feature: Mapping[str, object]) -> dict[str, object]:
    """The steps of an episode, which TFDS gives as a dataset of their own."""
    return {**sequence_json(feature), "pythonClassName": f"{_FEATURES}.dataset_feature.Dataset"}


def tensor_json(dtype: str, shape: tuple[int, ...] = ()) -> dict[str, object]:
    """Numbers, flags, or with the dtype "string" one text."""
    if dtype == "string":
        return {"pythonClassName": f"{_FEATURES}.text_feature.Text", "text": {}}
    dimensions = {"dimensions": [str(size) for size in shape]} if shape else {}
    return {
        "pythonClassName": f"{_FEATURES}.tensor_feature.Tensor",
        "tensor": {"dtype": dtype, "encoding": "none", "shape": dimensions},
    }


def jpeg_json(height: int, width: int) -> dict[str, object]:
    """A picture, (height, width, 3) uint8 RGB."""
    return {
        "pythonClassName": f"{_FEATURES}.image_feature.Image",
        "image": {
            "dtype": "uint8",
            "encodingFormat": "jpeg",
            "shape": {"dimensions": [str(height), str(width), "3"]},
        },
    }
