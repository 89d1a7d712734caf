"""The policy: frames, state and an interleaved instruction in; a chunk of actions out.

One convolutional encoder sees the frames and the instruction images. Words and instruction images
are one short sequence in reading order, with the state; it attends to the cells of the frames.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ilv_dataset.errors import ConfigError
from ilv_dataset.instruction_tokens import NEXT_IMAGE, NUM_TOKENS, PADDING

STRIDE = 4  # pixels of a frame that are a cell of the encoder's map
CROP_SHRINK = 2  # Source: ours; about as large as in a frame is a crop's object then
_BORDER = 4  # pixels added around a crop, so that the encoder's zeros stay away from the object
_SHARPNESS = 8.0  # of attention at the start, a factor on a correlation
_PLACE_GAIN = 6.0  # Source: ours; with it, pictures are matched after half as many steps
_HUBER = 0.1  # below this error, in standard deviations, the loss is quadratic
Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class PolicyConfig:
    """The sizes of a policy; a checkpoint's JSON carries them."""

    state_dim: int
    action_dim: int
    frame_px: int = 96
    crop_px: int = 48
    window: int = 1
    chunk: int = 8
    max_tokens: int = 24
    width: int = 96
    layers: int = 2
    heads: int = 4


def build_policy(config: PolicyConfig, device: str = "cpu") -> Policy:
    """Fresh weights from torch's global generator. Raises ConfigError where there is no device."""
    policy = Policy(config).to(memory_format=torch.channels_last)  # twice as fast on a CPU
    try:
        return policy.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {device}: {str(error).splitlines()[0]}") from error


def compute_loss(policy: nn.Module, batch: Batch) -> Tensor:
    """Huber loss of a batch's actions, a scalar; steps beyond a span's end do not count.

    Source: ours; 2,000 toy scenes after 480 steps, share nearest / within 5 px / median error:
    Huber .85 / .60 / 3.8 px, squares .84 / .50 / 4.9 px, flow matching .71 / .10 / 12.2 px.
    """
    actions, mask = batch["actions"], batch["action_mask"]
    errors = functional.smooth_l1_loss(policy(batch), actions, reduction="none", beta=_HUBER)
    return (errors.mean(-1) * mask).sum() / mask.sum().clamp(min=1)


class Policy(nn.Module):
    """A batch -> actions (B, chunk, A) float32, normalised; 0.9 M parameters by default."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config, width, wide = config, config.width, 2 * config.width
        self.register_buffer("cells", cell_features(config.frame_px // STRIDE), persistent=False)
        self.encoder = _Encoder(width)
        self.words = nn.Embedding(NUM_TOKENS, width)
        self.state = nn.Linear(config.window * config.state_dim, width)
        self.order = nn.Parameter(0.02 * torch.randn(config.max_tokens, width))
        self.roles = nn.Parameter(0.02 * torch.randn(2, width))  # the state, the answer
        self.age = nn.Parameter(0.02 * torch.randn(config.window, 1, width))
        self.place = nn.Linear(self.cells.shape[-1], width)
        self.key, self.value = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        form = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        layer = nn.TransformerEncoderLayer(width, config.heads, 4 * width, **form)
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(config.layers))
        self.looks = nn.ModuleList(_Look(width, config.heads) for _ in range(config.layers))
        for look in self.looks:  # what looks alike attends from the first step on
            look.query.weight.data.copy_(self.key.weight.data)
        self.head = nn.Sequential(
            nn.LayerNorm(wide), nn.Linear(wide, wide), nn.GELU(), nn.Linear(wide, wide), nn.GELU(),
            nn.Linear(wide, config.chunk * config.action_dim),
        )  # fmt: skip

    def forward(self, batch: Batch) -> Tensor:
        """Predicts (B, chunk, A) from frames, state, tokens, images and image_mask."""
        config, tokens = self.config, batch["tokens"]
        frames = self.encoder(batch["frames"].flatten(0, 1)).unflatten(0, (len(tokens), -1))
        # Without the scene's mean, things differ from each other before anything is learned.
        # Source: ours; a random encoder gives a picture's own thing 23 % of the attention, not 2 %.
        frames = _norm(frames - (mean := frames.mean((1, 2), keepdim=True)))
        where = _PLACE_GAIN * self.place(self.cells) + self.age
        # A thing is found by its looks, wherever it is, and what is found is where it is.
        keys = _norm(_split(self.key(frames).flatten(1, 2), config.heads))
        values = _split(self.value(0.5 * frames + where).flatten(1, 2), config.heads)
        tokens = tokens[:, : max(1, int((tokens != PADDING).sum(1).max()))]
        words = self._read(tokens, batch["images"], batch["image_mask"], mean[:, 0])
        state = self.state(batch["state"].flatten(1))
        own = torch.stack([state, torch.zeros_like(state)], 1) + self.roles
        hidden = functional.pad(tokens == PADDING, (0, 2))
        sequence = torch.cat([words + self.order[: tokens.shape[1]], own], 1)
        for look, layer in zip(self.looks, self.layers, strict=True):
            sequence = layer(sequence + look(sequence, keys, values), src_key_padding_mask=hidden)
        answer = self.head(torch.cat([sequence[:, -1], state], -1))
        return answer.float().unflatten(-1, (config.chunk, config.action_dim))

    def _read(self, tokens: Tensor, images: Tensor, mask: Tensor, mean: Tensor) -> Tensor:
        """Words and images in reading order, (B, tokens, width); a masked image is a word."""
        words, num_images = self.words(tokens), images.shape[1]
        if not mask.any():
            return words
        small = functional.avg_pool2d(images.flatten(0, 1).float(), CROP_SHRINK)
        seen = self.encoder(functional.pad(small, (_BORDER,) * 4, mode="replicate"))
        side = math.isqrt(seen.shape[1])
        inner = slice(side // 2 - 1, side - side // 2 + 1)  # around it lies what is not the object
        seen = seen.unflatten(1, (side, side))[:, inner, inner].mean((1, 2))
        seen = _norm(seen.unflatten(0, (-1, num_images)) - mean)
        number = ((tokens == NEXT_IMAGE).cumsum(1) - 1).clamp(0, num_images - 1)
        is_seen = (tokens == NEXT_IMAGE) & mask.gather(1, number)
        seen = seen.gather(1, number[..., None].expand_as(words)).to(words.dtype)
        return torch.where(is_seen[..., None], seen, words)


class _Encoder(nn.Sequential):
    """(N, 3, H, W) of 0 to 255 -> (N, H / 4 * W / 4, width), each cell normalised."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 4, 2, 1), nn.GELU(), nn.Conv2d(32, 64, 4, 2, 1),
            _Residual(64, nn.Conv2d(64, 64, 3, 1, 1), nn.Conv2d(64, 64, 3, 1, 1)),
            nn.Conv2d(64, width, 1),
            _Residual(width, nn.Conv2d(width, width, 3, 1, 2, 2, 8), nn.Conv2d(width, width, 1)),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        pixels = (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        return _norm(super().forward(pixels).flatten(2).transpose(1, 2))


class _Residual(nn.Sequential):
    def __init__(self, width: int, first: nn.Module, second: nn.Module) -> None:
        super().__init__(nn.GroupNorm(8, width), nn.GELU(), first, nn.GELU(), second)

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class _Look(nn.Module):
    """What the words, images and state of a sequence find in the frames: attention by likeness."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, width)
        self.query = nn.Linear(width, width, bias=False)
        self.sharpness = nn.Parameter(torch.full((heads, 1, 1), math.log(_SHARPNESS)))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        query = _norm(_split(self.query(self.norm(x)), len(self.sharpness)))
        scale = (self.sharpness.exp() / query.shape[-1]).to(query.dtype)
        shares = (query * scale @ keys.transpose(-1, -2)).softmax(-1).to(values.dtype)
        return self.out((shares @ values).transpose(1, 2).flatten(2))


def _split(x: Tensor, heads: int) -> Tensor:
    """(B, N, width) -> (B, heads, N, width / heads)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _norm(x: Tensor) -> Tensor:
    """Mean 0 and spread 1 over the last axis: a product of two is width times their correlation."""
    return functional.layer_norm(x, x.shape[-1:])


def cell_features(side: int) -> Tensor:
    """Where each cell of a square map is, (side * side, 14): x, y in -1..1 and waves of them."""
    line = torch.linspace(-1, 1, side)
    y, x = (part.flatten() for part in torch.meshgrid(line, line, indexing="ij"))
    waves = [f(k * math.pi * z) for k in (1, 2, 4) for z in (x, y) for f in (torch.sin, torch.cos)]
    return torch.stack([x, y, *waves], -1)
