"""The segmenter `sam`: segment-anything with a checkpoint of any size, whole frames or windows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ilv_dataset.batches import batched
from ilv_dataset.boxes import box_areas_px, clip_boxes, round_scores
from ilv_dataset.masks import NO_MASK, FrameMasks, MaskWindow, cut_mask, mask_boxes_xyxy
from ilv_dataset.models.runtime import BatchSize, fix_threads, pick_device, weights_digest
from ilv_dataset.models.sam_network import Zoom, decode_masks, embed_prompts, load_sam
from ilv_dataset.records import Masks

_VERSION = "sam-v4"
# Decoded at once; each prompt costs a copy of its frame's features and a mask.
_PROMPTS_PER_BATCH = 16
# Encoded at once: one frame of the published checkpoints (1024 px), or 64 windows of 128 px.
_PIXELS_PER_BATCH = 1 << 20
_SIDE_MIN_PX = 8  # of a window; a thing of AREA_MIN_PX is half as wide
# A box is looked at three times, for the mean of them is less often wrong.
# Source: sam:tabletop, 298 things of the stills `val`: IoU 0.962, two looks 0.959, four 0.963.
_LOOKS = ((0.79, True), (0.93, False), (1.07, True))  # (factor on the window's side, is mirrored)
_LOGIT_MAX = 8.0  # of one look, so that none outvotes the others; beyond its window it says no
_ADVICE = "`ilv models` lists those that can be fetched; --segmenter sam:tabletop needs none"


@dataclass(frozen=True, eq=False)
class _View:
    """A part of a frame, and what is asked of it."""

    frame: int  # position in the batch
    crop: np.ndarray  # (h, w, 3) uint8 RGB
    left_top: tuple[int, int]  # of the crop in the frame
    rows: Sequence[int]  # which of the frame's prompts
    prompts: np.ndarray  # (N, 4) boxes or (N, 2) points, pixels of the crop
    is_mirrored: bool = False  # left to right, crop and prompts


@dataclass(frozen=True, eq=False)
class _Answer:
    """What the network says of one prompt in one view."""

    view: _View
    logits: Any  # (1, 1, 4g, 4g) of the view's square
    score: float  # its estimate of the IoU, 0..1


class SamSegmenter:
    """Asks a SAM for the best of its masks of each box or point.

    A published checkpoint encodes a frame once for all its prompts. One that was trained on
    windows (its file says so) encodes windows around each prompt, many at once; what it finds
    at a point it looks at once more in the window of its box.
    """

    def __init__(self, checkpoint: Path, *, spec: str, device: str | None = None) -> None:
        digest = weights_digest(checkpoint, advice=_ADVICE)
        self.spec = spec
        self.fingerprint = f"{_VERSION}:{digest}"
        fix_threads()
        model, self._zoom = load_sam(checkpoint)
        self._model = model.to(pick_device(device))
        self._views = BatchSize(max(1, _PIXELS_PER_BATCH // model.image_encoder.img_size**2))
        self._prompts = BatchSize(_PROMPTS_PER_BATCH)

    def __call__(
        self, images: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]
    ) -> list[Masks]:
        """Segments the boxes of (H, W, 3) uint8 RGB images; an image without boxes is free.

        A box that holds nothing of its frame gets an empty mask and score 0.
        """
        clipped = [
            clip_boxes(np.reshape(boxes, (-1, 4)), size_wh=(image.shape[1], image.shape[0]))
            for image, boxes in zip(images, boxes_xyxy, strict=True)
        ]
        return self._segment(images, clipped)

    def segment_points(
        self, images: Sequence[np.ndarray], points_xy: Sequence[np.ndarray]
    ) -> list[Masks]:
        """Segments what lies at each point (N, 2), one positive point a mask."""
        points = [np.reshape(each, (-1, 2)) for each in points_xy]
        found = self._segment(images, points)
        if self._zoom is None:
            return found
        return self._segment(images, [mask_boxes_xyxy(coarse.masks) for coarse in found])

    def _segment(self, images: Sequence[np.ndarray], prompts: Sequence[np.ndarray]) -> list[Masks]:
        """Masks of the boxes (N, 4), or of the points (N, 2), of each image."""
        pairs = list(zip(images, prompts, strict=True))
        answers: dict[tuple[int, int], list[_Answer]] = {}
        views = [
            view
            for frame, (image, asked) in enumerate(pairs)
            for view in _cut_views(frame, image, asked, self._zoom)
        ]
        for part in batched(views, self._views.size):
            features = self._views.run(self._encode, part)
            asked = [
                (view, feature, number)
                for view, feature in zip(part, features, strict=True)
                for number in range(len(view.rows))
            ]
            found = self._prompts.run(self._decode, asked)
            for (view, _, number), answer in zip(asked, found, strict=True):
                answers.setdefault((view.frame, view.rows[number]), []).append(answer)
        windows = [[NO_MASK] * len(asked) for asked in prompts]
        scores = [np.zeros(len(asked), np.float32) for asked in prompts]
        for (frame, row), mine in answers.items():
            windows[frame][row] = self._draw(mine)
            scores[frame][row] = np.mean([answer.score for answer in mine])
        return [
            Masks(FrameMasks(mine, size_wh=(image.shape[1], image.shape[0])), round_scores(score))
            for image, mine, score in zip(images, windows, scores, strict=True)
        ]

    def _encode(self, views: Sequence[_View]) -> list[Any]:
        """Features (C, g, g) of each view."""
        import torch

        side, device = self._model.image_encoder.img_size, self._model.device
        fitted = [torch.from_numpy(fit_image(view.crop, side)).to(device) for view in views]
        with torch.inference_mode():
            batch = torch.stack([self._model.preprocess(image) for image in fitted])
            return list(self._model.image_encoder(batch))

    def _decode(self, asked: Sequence[tuple[_View, Any, int]]) -> list[_Answer]:
        """The best mask of each prompt."""
        import torch

        model, side = self._model, self._model.image_encoder.img_size
        prompts = np.stack(
            [scale_prompts(view.prompts[n], view.crop.shape[:2], side) for view, _, n in asked]
        )
        with torch.inference_mode():
            features = torch.stack([feature for _, feature, _ in asked])
            embedded = embed_prompts(model, torch.from_numpy(prompts).to(features))
            low, quality = decode_masks(model, features, *embedded)
            quality = quality[:, 1:].nan_to_num(nan=0.0).clamp(0, 1)  # 0 is SAM's single mask
            best = quality.argmax(dim=1).tolist()
        return [
            _Answer(view, low[row, None, best[row] + 1, None], float(quality[row, best[row]]))
            for row, (view, _, _) in enumerate(asked)
        ]

    def _draw(self, answers: Sequence[_Answer]) -> MaskWindow:
        """The mask of one prompt, in the frame."""
        threshold = self._model.mask_threshold
        if len(answers) == 1:
            mask = self._logits(answers[0]) > threshold
            return cut_mask(mask, left_top=answers[0].view.left_top)
        parts = [self._logits(answer) for answer in answers]
        corners = np.array([answer.view.left_top for answer in answers])
        left, top = corners.min(axis=0).tolist()
        sizes_wh = np.array([part.shape[::-1] for part in parts])
        width, height = ((corners + sizes_wh).max(axis=0) - (left, top)).tolist()
        total = np.full((height, width), -_LOGIT_MAX * len(parts), np.float32)
        for part, (x, y) in zip(parts, corners - (left, top), strict=True):
            place = total[y : y + part.shape[0], x : x + part.shape[1]]
            place += np.clip(part, -_LOGIT_MAX, _LOGIT_MAX) + _LOGIT_MAX
        return cut_mask(total > threshold * len(parts), left_top=(left, top))

    def _logits(self, answer: _Answer) -> np.ndarray:
        """What the network says of each pixel of a view, (h, w) float32."""
        import torch

        shape, side = answer.view.crop.shape[:2], self._model.image_encoder.img_size
        with torch.inference_mode():
            full = self._model.postprocess_masks(answer.logits, fitted_shape(shape, side), shape)
        logits: np.ndarray = full[0, 0].cpu().numpy()
        return logits[:, ::-1] if answer.view.is_mirrored else logits


def _cut_views(
    frame: int, image: np.ndarray, prompts: np.ndarray, zoom: Zoom | None
) -> list[_View]:
    """The parts of a frame that answer its prompts; a prompt outside of it is left out."""
    size_wh = (image.shape[1], image.shape[0])
    rows = [row for row, prompt in enumerate(prompts) if _is_visible(prompt, size_wh)]
    if zoom is None:
        return [_View(frame, image, (0, 0), rows, prompts[rows])] if rows else []
    views = []
    for row, (factor, is_mirrored) in itertools.product(rows, _LOOKS):
        nearer = Zoom(zoom.box_share * factor, zoom.point_share * factor)
        x0, y0, x1, y1 = cut_window(prompts[row], size_wh=size_wh, zoom=nearer)
        crop, prompt = image[y0:y1, x0:x1], prompts[row] - np.resize([x0, y0], len(prompts[row]))
        if is_mirrored:
            crop, prompt = crop[:, ::-1], mirror(prompt, width=x1 - x0)
        views.append(_View(frame, crop, (x0, y0), [row], prompt[None], is_mirrored))
    return views


def _is_visible(prompt: np.ndarray, size_wh: tuple[int, int]) -> bool:
    if len(prompt) == 4:
        return bool(box_areas_px(clip_boxes(prompt[None], size_wh=size_wh))[0] > 0)
    return bool(((prompt >= 0) & (prompt < size_wh)).all())


def mirror(prompt: np.ndarray, *, width: int) -> np.ndarray:
    """A box (4,) or point (2,) in a picture of that width that is turned left to right.

    >>> mirror(np.array([1, 2, 4, 6]), width=10).tolist()
    [6, 2, 9, 6]
    """
    mirrored = prompt.copy()
    mirrored[::2] = width - prompt[::2][::-1]
    return mirrored


def cut_window(
    prompt: np.ndarray, *, size_wh: tuple[int, int], zoom: Zoom
) -> tuple[int, int, int, int]:
    """The window (x0, y0, x1, y1) around a box (4,) or point (2,), whole pixels of the frame.

    >>> cut_window(np.array([40, 40, 50, 60]), size_wh=(100, 70), zoom=Zoom(1.5, 0.5))
    (30, 35, 60, 65)
    """
    low, high = np.asarray(prompt, np.float64)[:2], np.asarray(prompt, np.float64)[-2:]
    is_box = len(prompt) == 4
    side = zoom.box_share * (high - low).max() if is_box else zoom.point_share * min(size_wh)
    half = max(_SIDE_MIN_PX, side) / 2
    middle = (low + high) / 2
    x0, y0 = np.clip(np.floor(middle - half), 0, size_wh).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(middle + half), 0, size_wh).astype(int).tolist()
    return (x0, y0, x1, y1)


def fitted_shape(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Height and width of an image whose longer side is scaled to `side`.

    Source: ResizeLongestSide of segment-anything, which gives 0 for a side far below the other.
    """
    scale = side / max(shape)
    height, width = (max(1, int(edge * scale + 0.5)) for edge in shape)
    return height, width


def fit_image(image: np.ndarray, side: int) -> np.ndarray:
    """Scales (H, W, 3) uint8 to a longer side of `side`, as SAM does: (3, h, w) uint8."""
    height, width = fitted_shape(image.shape[:2], side)
    picture = Image.fromarray(np.ascontiguousarray(image))
    small = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))


def scale_prompts(prompts: np.ndarray, shape: tuple[int, ...], side: int) -> np.ndarray:
    """Takes (..., 2) or (..., 4) pixels of an image to those of its fitted one, float32."""
    height, width = fitted_shape(shape, side)
    scale = [width / shape[1], height / shape[0]]
    scaled: np.ndarray = prompts * np.resize(scale, prompts.shape[-1])
    return scaled.astype(np.float32)
