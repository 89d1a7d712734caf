"""The segmenter `sam`: segment-anything with a checkpoint of any size."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ilv_dataset.boxes import round_scores
from ilv_dataset.models.runtime import (
    LOAD_ERRORS,
    bad_weights,
    fix_threads,
    pick_device,
    weights_digest,
)
from ilv_dataset.records import Masks

_VERSION = "sam-v1"
# The widest batch of boxes or points decoded at once; each costs masks at the frame's size.
_PROMPTS_PER_BATCH = 16
_ADVICE = (
    "fetch sam_vit_b_01ec64.pth from https://dl.fbaipublicfiles.com/segment_anything/ and name it"
    " with --segmenter sam:PATH, or use --segmenter grabcut"
)


class SamSegmenter:
    """Encodes a frame once, then asks for the best of three masks of each box or point."""

    def __init__(self, checkpoint: Path, *, spec: str, device: str | None = None) -> None:
        digest = weights_digest(checkpoint, advice=_ADVICE)
        self.spec = spec
        self.fingerprint = f"{_VERSION}:{digest}"
        fix_threads()
        from segment_anything import SamPredictor

        self._predictor = SamPredictor(load_sam(checkpoint).to(pick_device(device)))

    def __call__(
        self, images: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]
    ) -> list[Masks]:
        """Segments the boxes of (H, W, 3) uint8 RGB images; an image without boxes is free."""
        return [self._segment(*pair) for pair in zip(images, boxes_xyxy, strict=True)]

    def segment_points(
        self, images: Sequence[np.ndarray], points_xy: Sequence[np.ndarray]
    ) -> list[Masks]:
        """Segments what lies at each point (N, 2), one positive point a mask."""
        return [self._segment(*pair) for pair in zip(images, points_xy, strict=True)]

    def _segment(self, image: np.ndarray, prompts: np.ndarray) -> Masks:
        """Masks of the boxes (N, 4), or of the points (N, 2), of one image."""
        masks = np.zeros((len(prompts), *image.shape[:2]), bool)
        scores = np.zeros(len(prompts), np.float32)
        if len(prompts):
            self._predictor.set_image(image)
        for start in range(0, len(prompts), _PROMPTS_PER_BATCH):
            rows = slice(start, start + _PROMPTS_PER_BATCH)
            masks[rows], scores[rows] = self._decode(prompts[rows], image.shape[:2])
        self._predictor.reset_image()
        return Masks(masks, scores)

    def _encode(self, prompts: np.ndarray, shape: tuple[int, int]) -> tuple[Any, Any]:
        """Sparse and dense embeddings of boxes (N, 4) or points (N, 2), pixels of the image."""
        import torch

        predictor = self._predictor
        corners = np.asarray(prompts, np.float64).reshape(len(prompts), -1, 2)
        scaled = predictor.transform.apply_coords(corners, shape)
        coordinates = torch.as_tensor(scaled, dtype=torch.float32, device=predictor.device)
        if corners.shape[1] == 2:
            boxes = coordinates.flatten(1)
            return predictor.model.prompt_encoder(points=None, boxes=boxes, masks=None)
        points = (coordinates, torch.ones(coordinates.shape[:2], device=predictor.device))
        return predictor.model.prompt_encoder(points=points, boxes=None, masks=None)

    def _decode(self, prompts: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Best mask (N, H, W) bool and its score (N,) of each prompt of the current image.

        As SamPredictor.predict_torch, which would enlarge all three masks of all at once.
        """
        import torch

        predictor, model = self._predictor, self._predictor.model
        with torch.inference_mode():
            sparse, dense = self._encode(prompts, shape)
            low, quality = model.mask_decoder(
                image_embeddings=predictor.features,
                image_pe=model.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
            )
            best = quality.argmax(dim=1)
            masks = np.zeros((len(prompts), *shape), bool)
            for row, choice in enumerate(best.tolist()):
                logits = low[row : row + 1, choice : choice + 1]
                full = model.postprocess_masks(logits, predictor.input_size, shape)
                masks[row] = (full[0, 0] > model.mask_threshold).cpu().numpy()
        scores = quality.gather(1, best[:, None])[:, 0].clamp(0, 1).cpu().numpy()
        return masks, round_scores(scores)


@dataclass(frozen=True, slots=True)
class SamSizes:
    """The sizes of a SAM, as its checkpoint's tensors have them."""

    image_px: int
    patch_px: int
    width: int
    depth: int
    heads: int
    mlp_ratio: float
    window: int
    global_blocks: tuple[int, ...]
    prompt_width: int
    mask_channels: int
    num_masks: int
    decoder_depth: int
    decoder_mlp: int
    quality_depth: int
    quality_width: int


def read_sizes(shapes: Mapping[str, tuple[int, ...]]) -> SamSizes:
    """Reads the sizes off the names and shapes of a state dict.

    Raises: KeyError or ValueError if it is not that of a SAM with relative positions.
    """
    encoder, decoder = "image_encoder.", "mask_decoder."
    _, grid, _, width = shapes[f"{encoder}pos_embed"]
    patch = shapes[f"{encoder}patch_embed.proj.weight"][-1]
    depth = _count(shapes, rf"{re.escape(encoder)}blocks\.(\d+)\.")
    spans = [(shapes[f"{encoder}blocks.{n}.attn.rel_pos_h"][0] + 1) // 2 for n in range(depth)]
    head_width = shapes[f"{encoder}blocks.0.attn.rel_pos_h"][1]
    mlp_width = shapes[f"{encoder}blocks.0.mlp.lin1.weight"][0]
    global_blocks = tuple(number for number, span in enumerate(spans) if span == grid)
    quality = f"{decoder}iou_prediction_head.layers."
    return SamSizes(
        image_px=grid * patch,
        patch_px=patch,
        width=width,
        depth=depth,
        heads=width // head_width,
        mlp_ratio=mlp_width / width,
        window=min((span for span in spans if span != grid), default=0),
        global_blocks=global_blocks,
        prompt_width=shapes[f"{encoder}neck.0.weight"][0],
        mask_channels=shapes["prompt_encoder.mask_downscaling.3.weight"][0],
        num_masks=shapes[f"{decoder}mask_tokens.weight"][0] - 1,
        decoder_depth=_count(shapes, rf"{re.escape(decoder)}transformer\.layers\.(\d+)\."),
        decoder_mlp=shapes[f"{decoder}transformer.layers.0.mlp.lin1.weight"][0],
        quality_depth=_count(shapes, rf"{re.escape(quality)}(\d+)\."),
        quality_width=shapes[f"{quality}0.weight"][0],
    )


def _count(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> int:
    numbers = [int(match[1]) for name in shapes if (match := re.match(pattern, name))]
    return max(numbers) + 1


def build_sam(sizes: SamSizes) -> Any:
    """Builds an untrained Sam, evaluation mode. Source: segment_anything/build_sam.py, 1.0."""
    import torch
    from segment_anything.modeling import (
        ImageEncoderViT,
        MaskDecoder,
        PromptEncoder,
        Sam,
        TwoWayTransformer,
    )

    grid = sizes.image_px // sizes.patch_px
    encoder = ImageEncoderViT(
        img_size=sizes.image_px,
        patch_size=sizes.patch_px,
        embed_dim=sizes.width,
        depth=sizes.depth,
        num_heads=sizes.heads,
        mlp_ratio=sizes.mlp_ratio,
        out_chans=sizes.prompt_width,
        norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=sizes.window,
        global_attn_indexes=sizes.global_blocks,
    )
    prompts = PromptEncoder(
        embed_dim=sizes.prompt_width,
        image_embedding_size=(grid, grid),
        input_image_size=(sizes.image_px, sizes.image_px),
        mask_in_chans=sizes.mask_channels,
    )
    # The number of heads leaves no trace in a state dict; all published checkpoints have 8.
    transformer = TwoWayTransformer(
        depth=sizes.decoder_depth,
        embedding_dim=sizes.prompt_width,
        mlp_dim=sizes.decoder_mlp,
        num_heads=8,
    )
    decoder = MaskDecoder(
        transformer_dim=sizes.prompt_width,
        transformer=transformer,
        num_multimask_outputs=sizes.num_masks,
        iou_head_depth=sizes.quality_depth,
        iou_head_hidden_dim=sizes.quality_width,
    )
    return Sam(encoder, prompts, decoder).eval()


def load_sam(path: Path) -> Any:
    """Loads a Sam of whatever size the checkpoint has.

    Raises: ConfigError if the file is cut, or is not the state dict of a SAM.
    """
    import torch

    expected = "a checkpoint of segment-anything"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        sizes = read_sizes({name: tuple(tensor.shape) for name, tensor in state.items()})
        model = build_sam(sizes)
        model.load_state_dict(state)
    except LOAD_ERRORS as error:
        raise bad_weights(path, expected, error) from error
    return model
