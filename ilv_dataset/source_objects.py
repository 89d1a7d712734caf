"""Objects that a dataset itself marks in its frames: names, boxes and a label image."""

from __future__ import annotations

import numpy as np

from ilv_dataset.crops import decode_image
from ilv_dataset.dataset_specs import SourceObjectKeys
from ilv_dataset.errors import RecordError
from ilv_dataset.formats.example import BytesValues, Example, Values
from ilv_dataset.formats.features import Feature, find_feature
from ilv_dataset.formats.ragged import flat_path, slice_rows
from ilv_dataset.records import SourceObjects

_OBJECTS_MAX = 255  # the label image has 8 bits, and 0 is the background


def read_source_objects(
    example: Example,
    features: tuple[Feature, ...],
    keys: SourceObjectKeys,
    *,
    step: int,
    size_wh: tuple[int, int],
) -> SourceObjects:
    """The marked objects of one step of a record that fits `features` and `keys`.

    Boxes are stored as TFDS's BBoxFeature, (ymin, xmin, ymax, xmax) in 0..1 of the frame; the
    label image holds i + 1 where object i is seen.

    Args:
        size_wh: of the frame, pixels.

    Raises: RecordError features-mismatch or undecodable-image.
    """
    names = _row(example, features, keys.names, step)
    boxes = np.asarray(_row(example, features, keys.boxes, step), np.float32).reshape(-1, 4)
    if len(names) != len(boxes) or len(names) > _OBJECTS_MAX:
        message = f"step {step} has {len(names)} object names and {len(boxes)} boxes"
        raise RecordError("features-mismatch", message)
    if not np.isfinite(boxes).all():
        raise RecordError("features-mismatch", f"step {step} has a box that is not finite")
    labels_values = example[f"steps/{keys.labels}"]
    assert isinstance(labels_values, BytesValues)  # check_features saw to it
    labels = decode_image(labels_values[step])[:, :, 0]
    width, height = size_wh
    if labels.shape != (height, width):
        message = f"step {step}: the label image is {labels.shape[::-1]}, the frame {size_wh}"
        raise RecordError("features-mismatch", message)
    scale = np.array([width, height, width, height], np.float32)
    identifiers = np.arange(1, len(names) + 1, dtype=np.uint8)
    return SourceObjects(
        names=tuple(name.decode("utf-8", "replace") for name in names),
        boxes_xyxy=boxes[:, [1, 0, 3, 2]] * scale,
        masks=labels[None] == identifiers[:, None, None],
    )


def _row(
    example: Example, features: tuple[Feature, ...], key: str, step: int
) -> Values | list[bytes]:
    """Flat values of one step of a ragged feature."""
    feature = find_feature(features, f"steps/{key}")
    assert feature is not None  # check_spec saw to it
    rows = slice_rows(example, feature, step, step + 1)
    values = example[flat_path(feature)]
    width = feature.num_stored or 1
    start, end = rows.start * width, rows.end * width
    if isinstance(values, BytesValues):  # names, or boxes where no step has any
        return [values[index] for index in range(start, end)]
    return values[start:end]
