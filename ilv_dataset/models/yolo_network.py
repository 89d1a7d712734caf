"""A closed-vocabulary YOLO from a .pt or .onnx file: frames in, scored boxes and masks out."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ilv_dataset.boxes import are_too_large, round_detections
from ilv_dataset.errors import ConfigError
from ilv_dataset.masks import NO_MASK, FrameMasks, cut_logits
from ilv_dataset.models.runtime import (
    BatchSize,
    Placement,
    bad_weights,
    fix_threads,
    letterbox,
    pick_device,
)

SCORE_FLOOR = 0.05  # Source: ours; lower scores never matter to the choice and cost time
NMS_IOU = 0.6  # Source: ours; between ultralytics' 0.45 and 0.7
_SIZE_PX = 640  # Source: ultralytics' default, where the file does not say
_BATCH_FRAMES = 16

# (B, 3, H, W) float32 -> raw rows a image, and mask prototypes where there are masks
Forward = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Boxes of one frame after non-maximum suppression over all classes, best first."""

    boxes_xyxy: np.ndarray  # (N, 4) float32 pixels of the frame
    scores: np.ndarray  # (N,) float32
    classes: np.ndarray  # (N,) int64
    coefficients: np.ndarray  # (N, K) float32, K = 0 without masks
    prototypes: np.ndarray | None  # (K, h, w) float32
    placement: Placement
    input_wh: tuple[int, int]

    def masks(self, rows: Sequence[int], *, size_wh: tuple[int, int]) -> FrameMasks:
        """Cuts the masks of some boxes, each inside its box; none of a box that is too large."""
        boxes = self.boxes_xyxy.tolist()
        too_large = are_too_large(self.boxes_xyxy, size_wh=size_wh)
        windows = [
            NO_MASK
            if too_large[row]
            else cut_logits(self._logits(row), size_wh=size_wh, box=boxes[row])
            for row in rows
        ]
        return FrameMasks(windows, size_wh=size_wh)

    def _logits(self, row: int) -> np.ndarray:
        """Of the frame as the network saw it, (h, w) float32."""
        import cv2

        if self.prototypes is None:
            raise ValueError("this network has no masks")
        low = np.tensordot(self.coefficients[row], self.prototypes, axes=1)
        full = cv2.resize(low, self.input_wh, interpolation=cv2.INTER_LINEAR)
        place = self.placement
        bottom, right = place.top + place.size_wh[1], place.left + place.size_wh[0]
        return np.asarray(full[place.top : bottom, place.left : right])


@dataclass(frozen=True, eq=False)
class YoloNetwork:
    """A loaded network and what its file says about it."""

    names: tuple[str, ...]
    input_wh: tuple[int, int]
    has_masks: bool
    end2end: bool  # its rows come out suppressed: x0 y0 x1 y1 score class ...
    batch: BatchSize
    forward: Forward

    def detect(self, images: Sequence[np.ndarray]) -> list[Candidates]:
        """Finds objects in (H, W, 3) uint8 RGB images."""
        return self.batch.run(self._detect, images)

    def _detect(self, images: Sequence[np.ndarray]) -> list[Candidates]:
        batch, placements = letterbox(images, size_wh=self.input_wh)
        rows, prototypes = self.forward(batch)
        protos = [None] * len(images) if prototypes is None else prototypes
        return list(map(self._select, rows, protos, placements, images))

    def _select(
        self,
        raw: np.ndarray,
        prototypes: np.ndarray | None,
        placement: Placement,
        image: np.ndarray,
    ) -> Candidates:
        boxes, scores, classes, coefficients = split_rows(
            raw, num_classes=len(self.names), end2end=self.end2end
        )
        size_wh = (image.shape[1], image.shape[0])
        boxes, scores, kept = round_detections(placement.to_frame(boxes), scores, size_wh=size_wh)
        rows = suppress(boxes, scores)
        return Candidates(
            boxes[rows],
            scores[rows],
            classes[kept][rows],
            coefficients[kept][rows],
            prototypes,
            placement,
            self.input_wh,
        )


def split_rows(
    raw: np.ndarray, *, num_classes: int, end2end: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Takes one image's raw output apart: boxes_xyxy, scores, classes, mask coefficients.

    `raw` is (4 + classes + K, anchors) with boxes as centre and size, or, end to end,
    (N, 6 + K). Rows that score below SCORE_FLOOR are left out, and scores that are NaN.
    """
    if end2end:
        raw = raw[raw[:, 4] >= SCORE_FLOOR]
        return raw[:, :4], raw[:, 4], raw[:, 5].astype(np.int64), raw[:, 6:]
    by_class = raw[4 : 4 + num_classes]
    columns = np.flatnonzero(np.fmax.reduce(by_class, axis=0) >= SCORE_FLOOR)
    best = np.nan_to_num(by_class[:, columns], nan=-1).argmax(axis=0)
    center, half = raw[:2, columns].T, raw[2:4, columns].T / 2
    boxes = np.concatenate([center - half, center + half], axis=1)
    return boxes, by_class[best, columns], best, raw[4 + num_classes :, columns].T


def suppress(boxes_xyxy: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Rows that non-maximum suppression keeps, best first; equal scores by coordinates."""
    import torch
    from torchvision.ops import nms

    order = np.lexsort((*boxes_xyxy.T[::-1], -scores))
    kept = nms(torch.from_numpy(boxes_xyxy[order]), torch.from_numpy(scores[order]), NMS_IOU)
    return np.asarray(order[np.sort(kept.numpy())])


def load_network(path: Path, *, device: str | None) -> YoloNetwork:
    """Loads an ultralytics detection or segmentation network.

    Raises: ConfigError if the file is neither.
    """
    if path.suffix == ".onnx":
        return _load_onnx(path)
    if path.suffix == ".pt":
        return _load_torch(path, device)
    raise ConfigError(f"{path}: expected an ultralytics file that ends in .pt or .onnx")


def _load_torch(path: Path, device: str | None) -> YoloNetwork:
    from ilv_dataset.models.ultralytics_runtime import input_size_px, load_checkpoint, use_half

    place = pick_device(device)
    model = load_checkpoint(path, device=place)
    task = _check_task(path, model.task)
    model = model.fuse(verbose=False)
    if place.type == "cuda":
        use_half(model)
    side = input_size_px(model, default=_SIZE_PX)
    names = model.names.values() if isinstance(model.names, dict) else model.names
    return YoloNetwork(
        names=tuple(str(name) for name in names),
        input_wh=(side, side),
        has_masks=task == "segment",
        end2end=bool(getattr(model, "end2end", False)),
        batch=BatchSize(_BATCH_FRAMES),
        forward=lambda batch: _forward_torch(model, batch),
    )


def _forward_torch(model: Any, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    import torch

    from ilv_dataset.models.ultralytics_runtime import to_input

    with torch.inference_mode():
        return split_output(model(to_input(batch, model)))


def split_output(output: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows and mask prototypes of what an ultralytics network returns, float32."""
    first = output[0] if isinstance(output, tuple | list) else output
    rows, prototypes = first if isinstance(first, tuple | list) else (first, None)
    return (
        rows.float().cpu().numpy(),
        None if prototypes is None else prototypes.float().cpu().numpy(),
    )


def _load_onnx(path: Path) -> YoloNetwork:
    fix_threads()
    session = _open_session(path)
    meta = session.get_modelmeta().custom_metadata_map
    try:
        names = dict(ast.literal_eval(meta["names"]))
        args = ast.literal_eval(meta.get("args", "{}"))
        imgsz = ast.literal_eval(meta.get("imgsz", str(_SIZE_PX)))
    except (KeyError, ValueError, TypeError, SyntaxError) as error:
        raise bad_weights(path, "an ONNX export of ultralytics (no class names in it)") from error
    task = _check_task(path, meta.get("task", "detect"))
    inputs = session.get_inputs()[0]
    sides = [imgsz, imgsz] if isinstance(imgsz, int) else list(imgsz)
    height, width = (
        shape if isinstance(shape, int) else side
        for shape, side in zip(inputs.shape[2:], sides, strict=True)
    )
    return YoloNetwork(
        names=tuple(str(names[index]) for index in sorted(names)),
        input_wh=(int(width), int(height)),
        has_masks=task == "segment",
        end2end=meta.get("end2end") == "True" or bool(args.get("nms")),
        batch=BatchSize(inputs.shape[0] if isinstance(inputs.shape[0], int) else _BATCH_FRAMES),
        forward=lambda batch: _forward_onnx(session, inputs.name, inputs.shape[0], batch),
    )


def _open_session(path: Path) -> Any:
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as states
    except ImportError as error:
        message = f"{path} needs onnxruntime: pip install 'ilv-dataset[onnx]'"
        raise ConfigError(message) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    failures = (states.Fail, states.InvalidProtobuf, states.InvalidArgument, states.InvalidGraph,
                states.NoModel, states.NotImplemented, states.RuntimeException)  # fmt: skip
    try:
        providers = ["CPUExecutionProvider"]
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except failures as error:
        raise bad_weights(path, "an ONNX model", error) from error


def _forward_onnx(
    session: Any, name: str, size: int | str, batch: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    missing = size - len(batch) if isinstance(size, int) else 0
    if missing:  # the graph's batch is fixed: fill it up, and drop what comes of it
        batch = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), np.float32)])
    outputs = session.run(None, {name: batch})
    prototypes = outputs[1] if len(outputs) > 1 else None
    return outputs[0], prototypes


def _check_task(path: Path, task: str) -> str:
    if task not in ("detect", "segment"):
        raise ConfigError(f"{path} is a network to {task}; expected one to detect or segment")
    return task
