"""Masks of objects: whole or as windows of their frame, cut from logits, and COCO's RLE as text."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ilv_dataset.image_files import PIXELS_MAX

# Of a mask, enlarged at once. Source: ours; 8000 x 8000 pixels take 0.3 s, all at once 2.4 s.
_BAND_ROWS = 64


@dataclass(frozen=True, eq=False, slots=True)
class MaskWindow:
    """A mask of a frame that is False outside of a window."""

    left_top: tuple[int, int]  # of the window in the frame
    shape: tuple[int, int]  # height and width of the window
    bits: np.ndarray  # uint8, of its pixels row by row, as numpy packs them

    @property
    def mask(self) -> np.ndarray:
        """The window's pixels, (h, w) bool."""
        height, width = self.shape
        pixels = np.unpackbits(self.bits, count=height * width)
        return pixels.reshape(self.shape).view(bool)


NO_MASK = MaskWindow((0, 0), (0, 0), np.zeros(0, np.uint8))


class FrameMasks(Sequence[np.ndarray]):
    """The masks (H, W) bool of one frame, kept as their windows and made one at a time.

    One of a frame of 8000 x 8000 takes 64 MB, and a frame may have fifty.

    >>> FrameMasks([cut_mask(np.array([[False, True, False]]))], size_wh=(3, 1))[0].tolist()
    [[False, True, False]]
    """

    def __init__(self, windows: Sequence[MaskWindow], *, size_wh: tuple[int, int]) -> None:
        self._windows, self._shape = tuple(windows), (size_wh[1], size_wh[0])

    @classmethod
    def of(cls, masks: np.ndarray) -> FrameMasks:
        """Cuts the windows out of whole masks (N, H, W) bool."""
        height, width = masks.shape[1:]
        return cls([cut_mask(mask) for mask in masks], size_wh=(width, height))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, H, W)."""
        return (len(self._windows), *self._shape)

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, row: Any) -> Any:
        """The mask (H, W) of a row, int."""
        window, mask = self._windows[row], np.zeros(self._shape, bool)
        (left, top), (height, width) = window.left_top, window.shape
        mask[top : top + height, left : left + width] = window.mask
        return mask

    def take(self, rows: np.ndarray) -> FrameMasks:
        """Picks the masks of some rows (M,) int64, in their order."""
        height, width = self._shape
        return FrameMasks([self._windows[row] for row in rows], size_wh=(width, height))

    def areas_px(self) -> np.ndarray:
        """Counts the visible pixels, (N,) int64."""
        return np.array([np.bitwise_count(each.bits).sum() for each in self._windows], np.int64)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All at once, (N, H, W)."""
        return np.array([*self], bool if dtype is None else dtype).reshape(self.shape)


def cut_mask(mask: np.ndarray, *, left_top: tuple[int, int] = (0, 0)) -> MaskWindow:
    """Keeps the bounding box of a mask (h, w) bool whose corner is at `left_top` of its frame."""
    x0, y0, x1, y1 = _mask_box(mask)
    corner, shape = (left_top[0] + x0, left_top[1] + y0), (y1 - y0, x1 - x0)
    return MaskWindow(corner, shape, np.packbits(mask[y0:y1, x0:x1]))


def cut_logits(logits: np.ndarray, *, size_wh: tuple[int, int], box: Sequence[float]) -> MaskWindow:
    """Cuts the mask inside a box out of logits (h, w) float32 of a whole frame.

    It is where they are over 0 once enlarged to the frame, bilinearly as `cv2.resize` does it;
    only what the box shows is enlarged. A box without an inside gets an empty mask.

    Args:
        box: x0, y0, x1, y1 in pixels of the frame, inside of it; widened to whole pixels.

    >>> cut_logits(np.array([[-1.0, 1.0]]), size_wh=(8, 1), box=(2, 0, 5.5, 1)).left_top
    (4, 0)
    """
    x0, y0 = (math.floor(edge) for edge in box[:2])
    x1, y1 = max(x0, math.ceil(box[2])), max(y0, math.ceil(box[3]))
    left, right, to_right = _neighbours(x0, x1, size_wh[0], logits.shape[1])
    upper, lower, to_lower = _neighbours(y0, y1, size_wh[1], logits.shape[0])
    columns = logits[:, left] * (1 - to_right) + logits[:, right] * to_right
    mask = np.zeros((y1 - y0, x1 - x0), bool)
    for start in range(0, len(mask), _BAND_ROWS):
        band = slice(start, start + _BAND_ROWS)
        share = to_lower[band, None]
        mask[band] = columns[upper[band]] * (1 - share) + columns[lower[band]] * share > 0
    return cut_mask(mask, left_top=(x0, y0))


def _neighbours(
    start: int, stop: int, size: int, num: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Between which two of `num` values each pixel of `size` lies, and how near the second."""
    places = np.clip((np.arange(start, stop) + 0.5) * num / size - 0.5, 0, num - 1)
    first = places.astype(np.int64)
    return first, np.minimum(first + 1, num - 1), (places - first).astype(np.float32)


def mask_areas_px(masks: np.ndarray) -> np.ndarray:
    """Visible pixels (N,) int64 of (N, H, W) bool masks."""
    areas: np.ndarray = np.asarray(masks, bool).sum(axis=(1, 2), dtype=np.int64)
    return areas


def mask_boxes_xyxy(masks: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Bounding boxes (N, 4) float32, max edge exclusive, of (N, H, W) masks; zeros if empty.

    >>> mask_boxes_xyxy(np.array([[[0, 0, 0], [0, 1, 1]]], bool)).tolist()
    [[1.0, 1.0, 3.0, 2.0]]
    """
    return np.array([_mask_box(mask) for mask in masks], np.float32).reshape(-1, 4)


def encode_rle(mask: np.ndarray) -> str:
    """Encodes one (H, W) bool mask as JSON: {"size": [H, W], "counts": COCO's compressed RLE}.

    `pycocotools.mask.decode(json.loads(text))` reads it as it is.
    """
    from pycocotools import mask as coco

    rle = coco.encode(np.asfortranarray(mask, np.uint8))
    size = [int(side) for side in rle["size"]]
    return json.dumps({"size": size, "counts": rle["counts"].decode("ascii")})


def decode_rle(text: str) -> np.ndarray:
    """Decodes what `encode_rle` wrote into an (H, W) bool mask.

    Raises: ValueError if the text is not such a mask, or is one of more than PIXELS_MAX pixels.
    """
    height, width, counts = _parse_rle(text)
    runs = _runs(counts)
    if runs.sum() != height * width or (runs < 0).any():
        raise ValueError(f"run lengths of the mask do not add up to {height} x {width} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _mask_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return (0, 0, 0, 0)
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _parse_rle(text: str) -> tuple[int, int, str]:
    try:
        rle = json.loads(text)
        height, width = (int(side) for side in rle["size"])
        counts = str(rle["counts"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not a mask in COCO's RLE: {text[:80]!r}") from error
    if height < 0 or width < 0 or height * width > PIXELS_MAX:
        raise ValueError(f"a mask of {height} x {width} pixels is out of bounds")
    return height, width, counts


def _runs(counts: str) -> np.ndarray:
    """Run lengths, first of zeros, column by column.

    Read here and not with pycocotools, whose C code trusts the text. Source: cocoapi,
    common/maskApi.c, rleFrString: 5 bits a character from 48 up, low bits first, bit 5 says
    that more follow, the last one's bit 4 is the sign, and from the fourth run on each is a
    difference to the run two before it.
    """
    runs: list[int] = []
    value = shift = 0
    for code in counts.encode("ascii", "replace"):
        bits = code - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError(f"not a mask in COCO's RLE: {counts[:80]!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError(f"not a mask in COCO's RLE: {counts[:80]!r}")
    return np.array(runs, np.int64)
