"""Labelled images: what a COCO file, or a list of images with their objects, says is in them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ilv_dataset.crops import decode_image
from ilv_dataset.errors import ConfigError, RecordError
from ilv_dataset.image_files import PIXELS_MAX
from ilv_dataset.masks import decode_rle
from ilv_dataset.records import Box, SourceObjects

_BAD_LABELS = (ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class TrueObject:
    """One labelled object: its name, what an instruction calls it, its box and its mask."""

    name: str
    phrase: str | None  # that is asked; None of what is there and not asked for
    box_xyxy: Box
    segmentation: Any = None  # COCO's polygons or RLE
    mask_path: Path | None = None  # a picture, not black where the object is


@dataclass(frozen=True, slots=True)
class TrueImage:
    """One labelled image; `absent` are the names it is to be asked for in vain, where given."""

    path: Path
    name: str  # as the file has it
    dataset: str
    size_wh: tuple[int, int] | None  # where the file says so
    objects: tuple[TrueObject, ...]
    crowds: tuple[str, ...] = ()  # names of groups, which are neither asked for nor absent
    absent: tuple[str, ...] | None = None


def read_truth(path: Path, *, images: Path | None = None) -> tuple[TrueImage, ...]:
    """Reads a file of labelled images, in its order.

    Either COCO's {"images", "annotations", "categories"}, where an annotation may have a "name"
    in place of its category, a "mask" file in place of its segmentation, and a "phrase" to be
    asked in place of its name, null where it is not asked for; or a list of {"image", "objects":
    [{"name", "box" xyxy, "mask"}]}. Both may give an image a "dataset" and the "absent" names to
    ask it for.

    Args:
        images: the folder that paths in the file are relative to; None for the file's own.

    Raises: ConfigError where it is no such file, or has no image.
    """
    folder = images or path.parent
    try:
        content = json.loads(path.read_text("utf-8"))
        is_coco = isinstance(content, Mapping)
        decode = _decode_coco if is_coco else _decode_list
        found = tuple(decode(content, folder, path.absolute().parent.name))
    except (OSError, RecursionError, *_BAD_LABELS) as error:
        what = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{path}: not a file of labelled images: {what}") from error
    if not found:
        raise ConfigError(f"{path}: no image in it")
    return found


def read_image(image: TrueImage) -> np.ndarray:
    """The pixels (H, W, 3) uint8 RGB.

    Raises: ConfigError where it is missing, broken, or of another size than its labels.
    """
    pixels = _read_picture(image.path)
    size_wh = (pixels.shape[1], pixels.shape[0])
    if image.size_wh not in (None, size_wh):
        raise ConfigError(f"{image.path} has {size_wh} pixels, its labels {image.size_wh}")
    return pixels


def load_objects(image: TrueImage, size_wh: tuple[int, int]) -> SourceObjects:
    """The objects with their masks; without any masks where one object has none.

    Raises: ConfigError where a mask is missing or broken, or of another size than the image.
    """
    boxes = np.array([found.box_xyxy for found in image.objects], np.float32).reshape(-1, 4)
    masks = [_load_mask(image, found, size_wh) for found in image.objects]
    known = [mask for mask in masks if mask is not None]
    height, width = size_wh[1], size_wh[0]
    stacked = np.stack(known) if known else np.zeros((0, height, width), bool)
    return SourceObjects(
        tuple(found.name for found in image.objects),
        boxes,
        stacked if len(known) == len(masks) else None,
    )


def _decode_coco(content: Mapping[str, Any], folder: Path, dataset: str) -> Iterator[TrueImage]:
    categories = {row["id"]: str(row["name"]) for row in content.get("categories", ())}
    by_image: dict[Any, list[Mapping[str, Any]]] = {row["id"]: [] for row in content["images"]}
    for row in content["annotations"]:
        by_image[row["image_id"]].append(row)
    for row in content["images"]:
        labels = by_image[row["id"]]
        named = [(_name_of(label, categories), label) for label in labels]
        objects = [
            _object(name, label, _box_of_xywh(label["bbox"]), folder)
            for name, label in named
            if not label.get("iscrowd")
        ]
        crowds = tuple(name for name, label in named if label.get("iscrowd"))
        yield _image(row, str(row["file_name"]), objects, crowds, folder, dataset)


def _decode_list(content: Sequence[Any], folder: Path, dataset: str) -> Iterator[TrueImage]:
    for row in content:
        objects = [
            _object(str(label["name"]), label, _box(label["box"]), folder)
            for label in row["objects"]
        ]
        yield _image(row, str(row["image"]), objects, (), folder, dataset)


def _name_of(label: Mapping[str, Any], categories: Mapping[Any, str]) -> str:
    name = label.get("name", label.get("category"))
    return str(name) if name is not None else categories[label["category_id"]]


def _image(
    row: Mapping[str, Any],
    name: str,
    objects: Sequence[TrueObject],
    crowds: tuple[str, ...],
    folder: Path,
    dataset: str,
) -> TrueImage:
    size = (row["width"], row["height"]) if "width" in row and "height" in row else None
    absent = tuple(map(str, row["absent"])) if "absent" in row else None
    return TrueImage(
        path=_below(folder, name),
        name=name,
        dataset=str(row.get("dataset", dataset)),
        size_wh=size,
        objects=tuple(objects),
        crowds=crowds,
        absent=absent,
    )


def _object(name: str, label: Mapping[str, Any], box_xyxy: Box, folder: Path) -> TrueObject:
    if not name.strip():
        raise ValueError("an object has no name")
    mask, phrase = label.get("mask"), label.get("phrase", name)
    return TrueObject(
        name=name,
        phrase=None if phrase is None else str(phrase),
        box_xyxy=box_xyxy,
        segmentation=label.get("segmentation") or None,
        mask_path=None if mask is None else _below(folder, str(mask)),
    )


def _box_of_xywh(values: Sequence[float]) -> Box:
    x, y, width, height = values
    return _box((x, y, x + width, y + height))


def _box(values: Sequence[float]) -> Box:
    x0, y0, x1, y1 = (float(value) for value in values)
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise ValueError(f"a box is not finite: {values}")
    return (x0, y0, x1, y1)


def _below(folder: Path, name: str) -> Path:
    """A path that a file names; what lies outside its folder is not opened."""
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts:
        raise ValueError(f"expected a path below {folder}, got {name!r}")
    return folder / name


def _load_mask(image: TrueImage, found: TrueObject, size_wh: tuple[int, int]) -> np.ndarray | None:
    if found.mask_path is not None:
        mask = _read_picture(found.mask_path).any(axis=2)
    elif found.segmentation is not None:
        try:
            mask = _rasterize(found.segmentation, size_wh)
        except _BAD_LABELS as error:
            message = f"{image.name}: the segmentation of {found.name!r} is broken: {error}"
            raise ConfigError(message) from error
    else:
        return None
    if mask.shape != (size_wh[1], size_wh[0]):
        got = f"{mask.shape[1]} x {mask.shape[0]}"
        raise ConfigError(
            f"{image.name}: the mask of {found.name!r} has {got} pixels, not {size_wh}"
        )
    return mask


def _rasterize(segmentation: Any, size_wh: tuple[int, int]) -> np.ndarray:
    """Polygons or RLE, compressed or not, as an (H, W) bool mask."""
    if isinstance(segmentation, Mapping):
        counts = segmentation["counts"]
        if isinstance(counts, str):
            return decode_rle(json.dumps({"size": segmentation["size"], "counts": counts}))
        height, width = (int(side) for side in segmentation["size"])
        runs = np.array(counts, np.int64)
        if (runs < 0).any() or runs.sum() != height * width or height * width > PIXELS_MAX:
            raise ValueError(f"run lengths do not add up to {height} x {width} pixels")
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
    return _fill_polygons(segmentation, size_wh)


def _fill_polygons(polygons: Sequence[Sequence[float]], size_wh: tuple[int, int]) -> np.ndarray:
    from pycocotools import mask as coco

    width, height = size_wh
    mask = np.zeros((height, width), bool)
    for polygon in polygons:
        points = np.array(polygon, np.float64)
        if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
            raise ValueError(f"expected x, y of three points or more, got {str(polygon)[:60]}")
        # Its C code takes memory by the length of the edges, wherever they lead.
        inside = np.clip(points.reshape(-1, 2), 0, size_wh).reshape(-1)
        (rle,) = coco.frPyObjects([inside.tolist()], height, width)
        mask |= decode_rle(json.dumps({**rle, "counts": rle["counts"].decode("ascii")}))
    return mask


def _read_picture(path: Path) -> np.ndarray:
    try:
        return decode_image(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; --images names the folder") from error
    except RecordError as error:
        raise ConfigError(f"{path}: {error}") from error
