"""segment-anything's own network at any size: built, loaded, saved, and asked of many images."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ilv_dataset.models.bundled import SUFFIX, load_tensors, save_tensors
from ilv_dataset.models.runtime import LOAD_ERRORS, bad_weights

_EXPECTED = "a checkpoint of segment-anything"
_FAMILY = "segment-anything"
_SHARE_MAX = 100.0  # of a window's side; a file may not ask for one without end


@dataclass(frozen=True, slots=True)
class Zoom:
    """The square around a prompt that a SAM trained on such windows looks at, frame's edge or not.

    A whole frame at the small network's size would show its objects in a few pixels.
    """

    box_share: float  # its side, of the box's longer side
    point_share: float  # its side, of the frame's shorter side

    def __post_init__(self) -> None:
        if not (0 < self.box_share <= _SHARE_MAX and 0 < self.point_share <= _SHARE_MAX):
            raise ValueError(f"shares must be over 0 and up to {_SHARE_MAX}, got {self}")


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
    numbers = {int(match[1]) for name in shapes if (match := re.match(pattern, name))}
    if numbers != set(range(len(numbers))) or not numbers:  # one name may not ask for a million
        raise ValueError(f"expected layers 0, 1 and so on of {pattern}, got {sorted(numbers)[-3:]}")
    return len(numbers)


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


def load_sam(path: Path) -> tuple[Any, Zoom | None]:
    """Loads a Sam of whatever size the checkpoint has, and how it looks at frames; None: whole.

    A .safetensors file is one of `save_sam`; all others are read as PyTorch's own.

    Raises: ConfigError if the file is cut, or is not the state dict of a SAM.
    """
    import torch

    zoom, stored = None, load_tensors(path) if path.suffix == SUFFIX else None
    try:
        if stored is not None:
            arrays, metadata = stored
            zoom = _check_metadata(metadata, arrays)
            state = {name: torch.from_numpy(array).float() for name, array in arrays.items()}
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        model = build_sam(read_sizes({name: tuple(each.shape) for name, each in state.items()}))
        model.load_state_dict(state)
    except LOAD_ERRORS as error:
        raise bad_weights(path, _EXPECTED, error) from error
    return model, zoom


def save_sam(path: Path, state: Mapping[str, Any], zoom: Zoom) -> None:
    """Saves a state dict in half precision, its architecture and its windows in the metadata."""
    arrays = {name: tensor.half().numpy() for name, tensor in state.items()}
    described = {"architecture": _describe(arrays), "zoom": asdict(zoom)}
    save_tensors(path, arrays, {name: json.dumps(value) for name, value in described.items()})


def _describe(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    sizes = read_sizes({name: array.shape for name, array in arrays.items()})
    return {"family": _FAMILY, **asdict(sizes), "global_blocks": list(sizes.global_blocks)}


def _check_metadata(metadata: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> Zoom:
    """The windows of a file of `save_sam`.

    Raises: KeyError, TypeError or ValueError if its metadata are not what its tensors say.
    """
    told = json.loads(metadata["architecture"])
    if told != _describe(arrays):
        raise ValueError(f"its tensors are not of the architecture {str(told)[:120]}")
    return Zoom(**json.loads(metadata["zoom"]))


def embed_prompts(model: Any, prompts: Any) -> tuple[Any, Any]:
    """Sparse (N, 2, C) and dense (N, C, g, g) embeddings of boxes (N, 4) or points (N, 2).

    Both are pixels of the network's input; a point says where the thing is.
    """
    import torch

    if prompts.shape[1] == 4:
        return model.prompt_encoder(points=None, boxes=prompts, masks=None)
    labels = torch.ones((len(prompts), 1), device=prompts.device)
    return model.prompt_encoder(points=(prompts[:, None], labels), boxes=None, masks=None)


def decode_masks(model: Any, features: Any, sparse: Any, dense: Any) -> tuple[Any, Any]:
    """Logits (N, M, 4g, 4g) of all masks of each prompt, and their estimated IoUs (N, M).

    As MaskDecoder.predict_masks, which asks N prompts of one image; here each has its own
    features (N, C, g, g).
    """
    import torch

    decoder = model.mask_decoder
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
    places = model.prompt_encoder.get_dense_pe().expand_as(features)
    tokens, pixels = decoder.transformer(features + dense, places, tokens)
    pixels = decoder.output_upscaling(pixels.transpose(1, 2).reshape(features.shape))
    weights = torch.stack(
        [head(tokens[:, n + 1]) for n, head in enumerate(decoder.output_hypernetworks_mlps)], dim=1
    )
    logits = torch.einsum("nmc,nchw->nmhw", weights, pixels)
    return logits, decoder.iou_prediction_head(tokens[:, 0])
