"""Objects that a dataset itself marks in its frames: names, boxes and a label image."""

from __future__ import annotations

import numpy as np

from ilv_dataset.crops import decode_image
from ilv_dataset.datasets import SourceObjectKeys
from ilv_dataset.errors import RecordError
from ilv_dataset.formats.example import BytesValues, Example, Values
from ilv_dataset.records import SourceObjects


def read_source_objects(example: Example, keys: SourceObjectKeys, *, step: int) -> SourceObjects:
    """The marked objects of one step.

    Boxes are stored as TFDS's BBoxFeature, (ymin, xmin, ymax, xmax) in 0..1 of the frame; the
    label image holds i + 1 where object i is seen.

    Raises: RecordError features-mismatch or undecodable-image.
    """
    labels_values = example[f"steps/{keys.labels}"]
    names = _ragged_row(example, keys.names, step)
    boxes = np.asarray(_ragged_row(example, keys.boxes, step), np.float32).reshape(-1, 4)
    if not isinstance(labels_values, BytesValues) or len(names) != len(boxes):
        message = f"step {step} has {len(names)} object names and {len(boxes)} boxes"
        raise RecordError("features-mismatch", message)
    labels = decode_image(labels_values[step])[:, :, 0]
    height, width = labels.shape
    scale = np.array([width, height, width, height], np.float32)
    identifiers = np.arange(1, len(names) + 1, dtype=np.uint8)
    return SourceObjects(
        names=tuple(name.decode("utf-8", "replace") for name in names),
        boxes_xyxy=boxes[:, [1, 0, 3, 2]] * scale,
        masks=labels[None] == identifiers[:, None, None],
    )


def _ragged_row(example: Example, key: str, step: int) -> Values | list[bytes]:
    """Flat values of one step of a ragged feature, whatever the values' own shape."""
    lengths = example[f"steps/{key}/ragged_row_lengths_0"]
    values = example[f"steps/{key}/ragged_flat_values"]
    if isinstance(lengths, BytesValues):
        if len(values) == 0:  # no step marks any object
            return []
        raise RecordError("features-mismatch", f"{key} has no row lengths")
    ends = np.cumsum(lengths)
    if step >= len(ends) or (ends[-1] and len(values) % ends[-1]):
        raise RecordError("features-mismatch", f"{key} has {len(values)} values, rows {lengths}")
    width = len(values) // int(ends[-1]) if ends[-1] else 1
    start, end = int(ends[step] - lengths[step]) * width, int(ends[step]) * width
    if isinstance(values, BytesValues):
        return [values[index] for index in range(start, end)]
    return values[start:end]
