"""The segmenters `mobile-sam` and `sam2`: the networks are ultralytics', the rest is as for SAM."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ilv_dataset.boxes import box_areas_px, clip_boxes, round_scores
from ilv_dataset.errors import ConfigError
from ilv_dataset.masks import NO_MASK, FrameMasks, MaskWindow, cut_mask
from ilv_dataset.models.runtime import (
    LOAD_ERRORS,
    BatchSize,
    bad_weights,
    letterbox_corner,
    pick_device,
    weights_digest,
)
from ilv_dataset.records import Masks

MOBILE_SAM, SAM2 = "mobile-sam", "sam2"
DEFAULT_WEIGHTS = {MOBILE_SAM: "mobile_sam.pt", SAM2: "sam2.1_b.pt"}
_SIDE_PX = 1024  # Source: what both were trained with
# Source: ultralytics/models/sam/predict.py, of ImageNet
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_STD = np.array([58.395, 57.12, 57.375], np.float32)
_PROMPTS_PER_BATCH = 16
_BOX_LABELS, _POINT_LABEL = (2, 3), 1  # Source: SAM's prompt encoder: corners, foreground
# What SAM 2.1 has and SAM 2 has not serves only objects that are followed through a video.
_VIDEO_ONLY = re.compile(r"no_obj_embed_spatial|obj_ptr_tpos_proj\.")
# (width, blocks) of the image encoder. Source: ultralytics/models/sam/build.py
_SAM2_BUILDERS = {(96, 12): "sam2_t", (96, 16): "sam2_s", (112, 24): "sam2_b", (144, 48): "sam2_l"}


class _Network(Protocol):
    """A SAM that encodes a frame once, and decodes prompts of it."""

    model: Any

    def encode(self, pixels: Any) -> Any:
        """(1, 3, side, side) normalised -> features."""
        ...

    def decode(self, features: Any, corners: Any) -> tuple[Any, Any]:
        """(N, 2, 2) boxes or (N, 1, 2) points -> logits (N, 3, h, w), their qualities (N, 3)."""
        ...


class UltralyticsSegmenter:
    """Encodes a frame once, then asks for the best of three masks of each box or point."""

    def __init__(
        self, checkpoint: Path, *, backend: str, spec: str, device: str | None = None
    ) -> None:
        """Loads a checkpoint of `backend`, MOBILE_SAM or SAM2.

        Raises: ConfigError if the file is missing, or is another thing, or `spec` ends in a colon.
        """
        if spec.endswith(":"):
            raise ConfigError(f"{spec!r} names no checkpoint; leave out the colon for the default")
        default = DEFAULT_WEIGHTS[backend]
        digest = weights_digest(checkpoint, advice=f"`ilv models fetch {default}` gets one")
        self.spec = spec
        self.fingerprint = f"{backend}-v1:{digest}"
        self._place = pick_device(device)
        self._network = load_network(checkpoint, backend=backend)
        self._network.model.set_imgsz((_SIDE_PX, _SIDE_PX))
        # In this order: in evaluation mode MobileSAM keeps tables, where its weights are then.
        self._network.model.to(self._place).eval()
        self._batch = BatchSize(_PROMPTS_PER_BATCH)

    def __call__(
        self, images: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]
    ) -> list[Masks]:
        """Segments the boxes of (H, W, 3) uint8 RGB images; an image without boxes is free.

        A box that holds nothing of its frame gets an empty mask and score 0.
        """
        found = []
        for image, boxes in zip(images, boxes_xyxy, strict=True):
            size_wh = (image.shape[1], image.shape[0])
            clipped = clip_boxes(np.reshape(boxes, (-1, 4)), size_wh=size_wh)
            is_inside = np.asarray(box_areas_px(clipped) > 0)
            found.append(self._segment(image, clipped, is_inside))
        return found

    def segment_points(
        self, images: Sequence[np.ndarray], points_xy: Sequence[np.ndarray]
    ) -> list[Masks]:
        """Segments what lies at each point (N, 2), one positive point a mask.

        A point outside of its frame gets an empty mask and score 0.
        """
        found = []
        for image, points in zip(images, points_xy, strict=True):
            asked = np.reshape(points, (-1, 2))
            size_wh = (image.shape[1], image.shape[0])
            is_inside = ((asked >= 0) & (asked < size_wh)).all(axis=1)
            found.append(self._segment(image, asked, np.asarray(is_inside)))
        return found

    def _segment(self, image: np.ndarray, prompts: np.ndarray, is_inside: np.ndarray) -> Masks:
        """Masks of the boxes (N, 4), or of the points (N, 2), of one image.

        Those that are not inside, (N,) bool, are not asked about.
        """
        shape = image.shape[:2]
        windows = [NO_MASK] * len(prompts)
        scores = np.zeros(len(prompts), np.float32)
        size_wh = (shape[1], shape[0])
        if not is_inside.any():
            return Masks(FrameMasks(windows, size_wh=size_wh), scores)
        (encoded,) = BatchSize(1).run(lambda part: [self._encode(part[0])], [image])
        features, scale = encoded
        corners = np.asarray(prompts, np.float32).reshape(len(prompts), -1, 2) * scale
        rows = np.flatnonzero(is_inside).tolist()
        found = self._batch.run(
            lambda part: self._decode(features, corners[part], scale, shape), rows
        )
        for row, (window, score) in zip(rows, found, strict=True):
            windows[row], scores[row] = window, score
        return Masks(FrameMasks(windows, size_wh=size_wh), round_scores(scores))

    def _encode(self, image: np.ndarray) -> tuple[Any, float]:
        """Features of an image, and how much it was enlarged."""
        import torch

        padded, scale = letterbox_corner(image, side_px=_SIDE_PX)
        pixels = (padded.astype(np.float32) - _MEAN) / _STD
        batch = torch.from_numpy(pixels.transpose(2, 0, 1)[None])
        # float16 on a GPU alone, and for the encoder alone: masks are read off by their sign.
        half = torch.autocast(self._place.type, torch.float16, enabled=self._place.type == "cuda")
        with torch.inference_mode(), half:
            return self._network.encode(batch.to(self._place)), scale

    def _decode(
        self, features: Any, corners: np.ndarray, scale: float, shape: tuple[int, int]
    ) -> list[tuple[MaskWindow, float]]:
        """Best mask of each prompt (2 or 1, 2), and its score, 0..1."""
        import torch

        with torch.inference_mode():
            prompts = torch.from_numpy(corners).to(self._place)
            logits, quality = self._network.decode(features, prompts)
            quality = quality.float().nan_to_num(nan=0)
            best = quality.argmax(dim=1).tolist()
            return [
                (cut_mask(_enlarge(logits[row, choice], scale, shape)), float(quality[row, choice]))
                for row, choice in enumerate(best)
            ]


def _enlarge(logits: Any, scale: float, shape: tuple[int, int]) -> np.ndarray:
    """A mask (H, W) bool from logits (h, w) of the padded square.

    Source: segment_anything's Sam.postprocess_masks: to the square, cut to the frame, to its size.
    """
    from torch.nn.functional import interpolate

    square = interpolate(
        logits[None, None].float(), (_SIDE_PX, _SIDE_PX), mode="bilinear", align_corners=False
    )
    height, width = (max(1, round(side * scale)) for side in shape)
    cut = square[..., :height, :width]
    full = interpolate(cut, shape, mode="bilinear", align_corners=False)
    return np.asarray((full[0, 0] > 0).cpu().numpy())


@dataclass
class _MobileSam:
    model: Any

    def encode(self, pixels: Any) -> Any:
        return self.model.image_encoder(pixels).float()

    def decode(self, features: Any, corners: Any) -> tuple[Any, Any]:
        import torch

        boxes, points = None, None
        if corners.shape[1] == 2:
            boxes = corners.flatten(1)
        else:
            labels = torch.full(corners.shape[:2], _POINT_LABEL, device=corners.device)
            points = (corners, labels)
        sparse, dense = self.model.prompt_encoder(points=points, boxes=boxes, masks=None)
        logits, quality = self.model.mask_decoder(
            image_embeddings=features,
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        return logits, quality.clamp(0, 1)


@dataclass
class _Sam2:
    model: Any

    def encode(self, pixels: Any) -> list[Any]:
        """Three levels (1, C, h, w), the finest first. Source: SAM2Predictor.get_im_features."""
        _, levels, _, sizes = self.model._prepare_backbone_features(
            self.model.forward_image(pixels)
        )
        levels[-1] = levels[-1] + self.model.no_mem_embed
        return [
            level.permute(1, 2, 0).reshape(1, -1, *size).float()
            for level, size in zip(levels, sizes, strict=True)
        ]

    def decode(self, features: Any, corners: Any) -> tuple[Any, Any]:
        import torch

        labels = _BOX_LABELS if corners.shape[1] == 2 else (_POINT_LABEL,)
        points = (corners, torch.tensor([labels] * len(corners), device=corners.device))
        sparse, dense = self.model.sam_prompt_encoder(points=points, boxes=None, masks=None)
        logits, quality, _, _ = self.model.sam_mask_decoder(
            image_embeddings=features[-1],
            image_pe=self.model.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            repeat_image=len(corners) > 1,
            high_res_features=features[:-1],
        )
        return logits, quality


def load_network(path: Path, *, backend: str) -> _Network:
    """Loads a MobileSAM, or a SAM 2 or 2.1 of any size, on the CPU.

    Raises: ConfigError if the file is cut, or is another thing.
    """
    from ilv_dataset.models.ultralytics_runtime import prepare_ultralytics

    prepare_ultralytics()
    import torch
    from ultralytics.models.sam import build

    expected = {MOBILE_SAM: "a checkpoint of MobileSAM", SAM2: "a checkpoint of SAM 2"}[backend]
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(state.get("model"), Mapping):
            state = state["model"]
        name = "mobile_sam" if backend == MOBILE_SAM else name_sam2(state)
        model = getattr(build, f"build_{name}")()
        model.load_state_dict({k: v for k, v in state.items() if not _VIDEO_ONLY.match(k)})
    except LOAD_ERRORS as error:
        raise bad_weights(path, expected, error) from error
    return _MobileSam(model) if backend == MOBILE_SAM else _Sam2(model)


def name_sam2(state: Mapping[str, Any]) -> str:
    """Which SAM 2 a state dict is of, by its image encoder; one of _SAM2_BUILDERS.

    Raises: KeyError or ValueError if it is none.
    """
    width = state["image_encoder.trunk.patch_embed.proj.weight"].shape[0]
    block = re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\.")
    blocks = {int(found[1]) for found in map(block.match, state) if found}
    if (width, len(blocks)) not in _SAM2_BUILDERS:
        raise ValueError(f"no SAM 2 is {width} wide and {len(blocks)} blocks deep")
    return _SAM2_BUILDERS[width, len(blocks)]
