"""features.json of a TFDS dataset, as a flat list of what a record holds under which key.

Knows TFDS's JSON form of `feature.proto` and how each form is stored in a tf.train.Example;
reading the records themselves is left to `rlds.py`.

Source: tensorflow_datasets 4.9.10, core/features/*.py (`to_json_content`, `get_serialized_info`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ilv_dataset.errors import ConfigError

STEPS = "steps"
OPAQUE = "opaque"  # the kind of a feature of unknown form: how it is stored is not known
_STEPS_PREFIX = f"{STEPS}/"
_INTEGER_DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_FLOAT_DTYPES = ("bfloat16", "float16", "float32", "float64")
_NUMBER_DTYPES = frozenset(("bool", *_INTEGER_DTYPES, *_FLOAT_DTYPES))
_STRING_DTYPES = frozenset(("string", "str", "bytes", "object"))
_FORMS = (
    "featuresDict", "sequence", "tensor", "text", "image", "video", "audio", "classLabel",
    "boundingBox", "translation", "jsonFeature",
)  # fmt: skip
_DIMENSION_MAX = 2**31 - 1  # ours: no real tensor comes near, and products stay printable


@dataclass(frozen=True, slots=True)
class Feature:
    """One value of an episode (or of each of its steps), and where a record keeps it.

    A value with `sequence_rank` >= 2, or >= 1 inside steps, is stored ragged: under
    `<path>/ragged_flat_values` and `<path>/ragged_row_lengths_0`, ....
    """

    path: str  # key in the tf.train.Example, e.g. "steps/observation/image"
    kind: str  # "image" | "text" | "tensor" | "bytes" (one encoded value) | OPAQUE
    dtype: str  # numpy name; "string" for text and string tensors; "" where opaque
    shape: tuple[int | None, ...]  # of one value, without sequence dimensions
    sequence_rank: int  # nested sequences; inside steps without steps itself
    in_steps: bool
    encoding_format: str | None  # "jpeg" | "png" | None where features.json does not say
    optional: bool = False  # the record may lack it

    @property
    def key(self) -> str:
        """The path without `steps/`, as dataset specs name it."""
        return self.path.removeprefix(_STEPS_PREFIX) if self.in_steps else self.path

    @property
    def ragged_rank(self) -> int:
        """How many levels of row lengths the record has; 0 where the values are not ragged."""
        return max(0, self.sequence_rank + self.in_steps - 1)

    @property
    def num_values(self) -> int | None:
        """How many numbers (or bytes values) one value takes; None where unknown."""
        sizes = [size for size in self.shape if size is not None]
        return math.prod(sizes) if len(sizes) == len(self.shape) else None

    @property
    def num_stored(self) -> int | None:
        """How many entries of the record one value takes: an encoded one, such as a frame, 1."""
        if self.kind == OPAQUE:
            return None
        return self.num_values if self.kind == "tensor" else 1


def decode_features(text: str) -> tuple[Feature, ...]:
    """Decodes features.json into its features, sorted by path.

    Raises:
        ConfigError: it is not JSON, not RLDS (no `steps`), or a feature contradicts its form.
            One of unknown form, outside or inside the steps, is opaque and never decoded.
    """
    top = _child(_load_json(text), "featuresDict", path="features.json")
    fields = _child(top, "features", path="features.json")
    if STEPS not in fields:
        names = ", ".join(sorted(fields)) or "none"
        raise ConfigError(f"features.json has no 'steps': not an RLDS dataset; features: {names}")
    steps = fields[STEPS]
    if not isinstance(steps, Mapping) or "sequence" not in steps:
        raise ConfigError("features.json: 'steps' is not a Dataset or Sequence")
    element = _child(_child(steps, "sequence", path=STEPS), "feature", path=STEPS)
    if "featuresDict" not in element:
        raise ConfigError("features.json: 'steps' does not hold a dictionary of features")
    features = [replace(found, in_steps=True) for found in _walk(STEPS, element, rank=0)]
    for name, field in fields.items():
        if name != STEPS:
            features.extend(_walk(name, field, rank=0))
    _check_unique(features)
    return tuple(sorted(features, key=lambda feature: feature.path))


def find_feature(features: tuple[Feature, ...], path: str) -> Feature | None:
    """The feature stored under this key of a record, or None."""
    return next((feature for feature in features if feature.path == path), None)


def _load_json(text: str) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"features.json is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"features.json is not a JSON object but {type(content).__name__}")
    if "featuresDict" not in content and "content" in content:
        raise ConfigError("features.json has the form of TFDS before 4.5, which is not read")
    return content


def _walk(path: str, node: object, *, rank: int) -> Iterator[Feature]:
    if not isinstance(node, Mapping):
        raise ConfigError(f"features.json: {path!r} is not an object but {type(node).__name__}")
    form = next((form for form in _FORMS if form in node), None)
    if form == "featuresDict":
        inner = _child(node[form], "features", path=path, default={})
        for name, field in inner.items():
            yield from _walk(f"{path}/{name}", field, rank=rank)
    elif form == "sequence":
        yield from _walk(path, _child(node[form], "feature", path=path), rank=rank + 1)
    elif form is None or form == "jsonFeature":
        yield _plain(path, OPAQUE, "", (), rank=rank)
    else:
        yield from _decode_leaf(path, form, _child(node, form, path=path), rank=rank)


def _decode_leaf(
    path: str, form: str, content: Mapping[str, Any], *, rank: int
) -> Iterator[Feature]:
    if form == "tensor":
        yield from _decode_tensor(path, content, rank=rank)
    elif form == "text":
        yield _plain(path, "text", "string", (), rank=rank)
    elif form == "image":
        yield _decode_image(path, content, _shape(path, content), rank=rank)
    elif form == "video":  # stored as a sequence of images
        yield _decode_image(path, content, _shape(path, content)[1:], rank=rank + 1)
    elif form == "audio":
        lazy = {"encoding": "bytes"} if content.get("lazyDecode") else {}
        yield from _decode_tensor(path, {**content, **lazy}, rank=rank)
    elif form == "classLabel":
        yield _plain(path, "tensor", "int64", (), rank=rank)
    elif form == "boundingBox":
        yield _plain(path, "tensor", "float32", (4,), rank=rank)
    else:
        yield from _decode_translation(path, content, rank=rank)


def _decode_tensor(path: str, content: Mapping[str, Any], *, rank: int) -> Iterator[Feature]:
    shape, dtype = _shape(path, content), _dtype(path, content)
    encoding = str(content.get("encoding") or "none").lower()
    if encoding not in ("none", "bytes", "zlib"):
        raise ConfigError(f"features.json: {path!r} has the unknown encoding {encoding!r}")
    kind = "tensor" if encoding == "none" else "bytes"
    optional = content.get("optional") is True
    if shape.count(None) > 1:  # stored beside its shape
        yield _plain(f"{path}/shape", "tensor", "int32", (len(shape),), rank=rank)
        path = f"{path}/value"
    yield replace(_plain(path, kind, dtype, shape, rank=rank), optional=optional)


def _decode_image(
    path: str, content: Mapping[str, Any], shape: tuple[int | None, ...], *, rank: int
) -> Feature:
    if len(shape) != 3:
        raise ConfigError(f"features.json: image {path!r} has shape {shape}, expected (H, W, C)")
    encoding_format = content.get("encodingFormat") or None
    if encoding_format not in (None, "jpeg", "png"):
        raise ConfigError(f"features.json: {path!r} has the image format {encoding_format!r}")
    dtype = _dtype(path, {"dtype": content.get("dtype") or "uint8"})
    return replace(_plain(path, "image", dtype, shape, rank=rank), encoding_format=encoding_format)


def _decode_translation(path: str, content: Mapping[str, Any], *, rank: int) -> Iterator[Feature]:
    if content.get("variableLanguagesPerExample"):
        names, rank = ["language", "translation"], rank + 1
    else:
        names = [str(language) for language in content.get("languages", ())]
    for name in names:
        yield _plain(f"{path}/{name}", "text", "string", (), rank=rank)


def _plain(
    path: str, kind: str, dtype: str, shape: tuple[int | None, ...], *, rank: int
) -> Feature:
    return Feature(path, kind, dtype, shape, rank, in_steps=False, encoding_format=None)


def _shape(path: str, content: Mapping[str, Any]) -> tuple[int | None, ...]:
    dimensions = _child(content, "shape", path=path, default={}).get("dimensions", [])
    if not isinstance(dimensions, list):
        raise ConfigError(f"features.json: {path!r} has the shape {dimensions!r}")
    return tuple(_dimension(path, size) for size in dimensions)


def _dimension(path: str, size: object) -> int | None:
    try:
        number = int(size) if isinstance(size, str | int) else -2
    except ValueError:
        number = -2
    if not -1 <= number <= _DIMENSION_MAX:
        raise ConfigError(f"features.json: {path!r} has a dimension of {str(size)[:80]!r}")
    return None if number == -1 else number


def _dtype(path: str, content: Mapping[str, Any]) -> str:
    name = content.get("dtype")
    if name in _STRING_DTYPES:
        return "string"
    if name not in _NUMBER_DTYPES:
        raise ConfigError(f"features.json: {path!r} has the unknown dtype {name!r}")
    return str(name)


def _child(
    node: object, name: str, *, path: str, default: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    found = node.get(name, default) if isinstance(node, Mapping) else None
    if not isinstance(found, Mapping):
        raise ConfigError(f"features.json: {path!r} has no object {name!r}")
    return found


def _check_unique(features: list[Feature]) -> None:
    seen: set[str] = set()
    for feature in features:
        if feature.path in seen:
            raise ConfigError(f"features.json has two features of the path {feature.path!r}")
        seen.add(feature.path)
