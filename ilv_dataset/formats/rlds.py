"""The RLDS output: the source's records with the interleaved instruction appended.

A record is the source's bytes followed by a serialized Example of the new features: protobuf
merges the two, so nothing is parsed or copied twice and every source feature stays bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ilv_dataset.errors import ConfigError
from ilv_dataset.formats.example import BytesValues, Example, Values, encode_example
from ilv_dataset.formats.feature_json import dict_json, jpeg_json, sequence_json, tensor_json
from ilv_dataset.formats.features import OPAQUE, Feature
from ilv_dataset.formats.ragged import cell_width, flat_path, lengths_path, slice_rows
from ilv_dataset.formats.tables import EpisodeRow, GroundedObject

GROUP = "interleaved_instruction"
_FLAGS_AT_ENDS = {"steps/is_first": 0, "steps/is_last": -1}

# name -> (TFDS dtype, shape, what stands for None)
_OBJECT_FIELDS: Mapping[str, tuple[str, tuple[int, ...], Any]] = {
    "phrase": ("string", (), ""),
    "start": ("int32", (), -1),
    "end": ("int32", (), -1),
    "query": ("string", (), ""),
    "kind": ("string", (), ""),
    "grounded": ("bool", (), False),
    "camera": ("string", (), ""),
    "frame_index": ("int32", (), -1),
    "box_xyxy": ("float32", (4,), (0.0, 0.0, 0.0, 0.0)),
    "box_score": ("float32", (), 0.0),
    "mask_rle": ("string", (), ""),
    "mask_score": ("float32", (), 0.0),
    "scale": ("float32", (), 0.0),
    "method": ("string", (), ""),
    "verdict": ("string", (), ""),
    "verifier": ("string", (), ""),
    "verdicts": ("string", (), ""),
    "frames_tried": ("string", (), ""),
    "reason": ("string", (), ""),
    "source": ("string", (), ""),
}


def encode_interleaved(row: EpisodeRow) -> bytes:
    """The new features of one span as a serialized Example, to be appended to its record."""
    values: dict[str, Sequence[bytes] | np.ndarray] = {
        "language_instruction": [(row.interleaved or row.instruction).encode()],
        "original_instruction": [row.instruction.encode()],
        "image_instruction": list(row.images),
        "image_mask": np.ones(len(row.images), np.bool_),
        "episode_id": [row.episode_id.encode()],
        "span": np.array([row.span]),
        "step_start": np.array([row.step_start]),
        "step_end": np.array([row.step_end]),
    }
    for name, (dtype, _, missing) in _OBJECT_FIELDS.items():
        values[f"objects/{name}"] = _encode_field(row.objects, name, dtype, missing)
    return encode_example({f"{GROUP}/{name}": value for name, value in values.items()})


def slice_example(
    example: Example, features: Sequence[Feature], start: int, end: int, *, num_steps: int
) -> dict[str, Values]:
    """Steps start..end of an episode as an episode of its own, for `stream_example`.

    is_first and is_last are set at its ends; features outside steps stay as they are, but for
    an interleaved instruction that the source already had, which gives way. Copies no frame.
    """
    sliced: dict[str, Values] = {}
    for feature in features:
        if not feature.in_steps:
            for path, values in example.items():
                if _belongs(path, feature.path) and not path.startswith(f"{GROUP}/"):
                    sliced[path] = values
        elif feature.kind == OPAQUE:  # how it is stored is not known, so it cannot be cut
            continue
        elif feature.ragged_rank:
            sliced.update(_slice_ragged(example, feature, start, end))
        elif feature.path in example:
            values = example[feature.path]
            width = cell_width(feature, len(values), num_steps)
            sliced[feature.path] = _take(values, start * width, end * width)
    for path, position in _FLAGS_AT_ENDS.items():
        flags = sliced.get(path)
        if isinstance(flags, np.ndarray) and len(flags):
            changed = flags.copy()
            changed[position] = 1
            sliced[path] = changed
    return sliced


def interleaved_features_json(source: str) -> str:
    """The source's features.json with the interleaved instruction beside `steps`.

    Raises: ConfigError where it is not a dictionary of features.
    """
    content = json.loads(source)
    try:
        content["featuresDict"]["features"][GROUP] = _group_json()
    except (KeyError, TypeError) as error:
        raise ConfigError(f"features.json has no features: {error}") from error
    return json.dumps(content, indent=4, sort_keys=True) + "\n"


def interleaved_info_json(
    source: str, *, name: str, splits: Mapping[str, Sequence[tuple[int, int]]]
) -> str:
    """dataset_info.json of the output.

    Args:
        source: the source's dataset_info.json; what it says of citation and licence is kept.
        splits: name -> (records, bytes) of every shard; a split without records is left out,
            for TFDS cannot open it.
    """
    content = json.loads(source)
    kept = ("citation", "description", "location", "redistributionInfo", "version")
    info = {key: content[key] for key in kept if key in content}
    info["name"] = name
    info["fileFormat"] = "tfrecord"
    info["splits"] = [
        {
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            "name": split,
            "numBytes": str(sum(num_bytes for _, num_bytes in shards)),
            "shardLengths": [str(records) for records, _ in shards],
        }
        for split, shards in sorted(splits.items())
        if sum(records for records, _ in shards)
    ]
    return json.dumps(info, indent=2, sort_keys=True) + "\n"


def _encode_field(
    objects: Sequence[GroundedObject], name: str, dtype: str, missing: Any
) -> Sequence[bytes] | np.ndarray:
    values = [missing if (v := getattr(found, name)) is None else v for found in objects]
    if dtype == "string":
        return [value.encode() for value in values]
    return np.array(values, dtype=dtype).ravel()


def _belongs(path: str, feature_path: str) -> bool:
    return path == feature_path or path.startswith(f"{feature_path}/ragged_")


def _take(values: Values, start: int, end: int) -> Values:
    if isinstance(values, BytesValues):
        return BytesValues(values.payload, values.ranges[start:end])
    return values[start:end]


def _slice_ragged(example: Example, feature: Feature, start: int, end: int) -> dict[str, Values]:
    path = flat_path(feature)
    if path not in example:  # an optional one
        return {}
    rows = slice_rows(example, feature, start, end)
    width = cell_width(feature, len(example[path]), rows.num_cells)
    return {
        **{lengths_path(feature, level): found for level, found in enumerate(rows.lengths)},
        path: _take(example[path], rows.start * width, rows.end * width),
    }


def _group_json() -> dict[str, object]:
    objects = {
        name: tensor_json(dtype, shape) for name, (dtype, shape, _) in _OBJECT_FIELDS.items()
    }
    return dict_json(
        {
            "language_instruction": tensor_json("string"),
            "original_instruction": tensor_json("string"),
            "image_instruction": sequence_json(jpeg_json(224, 224)),
            "image_mask": sequence_json(tensor_json("bool")),
            "episode_id": tensor_json("string"),
            "span": tensor_json("int32"),
            "step_start": tensor_json("int32"),
            "step_end": tensor_json("int32"),
            "objects": sequence_json(dict_json(objects)),
        }
    )
