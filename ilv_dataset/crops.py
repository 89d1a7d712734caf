"""Frames into pictures: decoding, the square window around an object, the JPEG of the crop."""

from __future__ import annotations

import io
import math
import struct
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from ilv_dataset.boxes import pad_box
from ilv_dataset.dataset_specs import CHANNEL_ORDERS
from ilv_dataset.errors import RecordError
from ilv_dataset.image_files import JPEG_START, PIXELS_MAX, PNG_END, PNG_START

# Source: Interleave-VLA, arXiv 2505.02152 and its scripts (FACTS.md, section 1).
PAD_SHARE = 0.2
CROP_SIZE_PX = 224
# Source: ours; DESIGN.md, section 4.
JPEG_QUALITY = 95

Window = tuple[int, int, int, int]


def decode_image(data: bytes, *, channel_order: str = "rgb") -> np.ndarray:
    """Decodes a JPEG or PNG into (H, W, 3) uint8 RGB.

    Grey is repeated, alpha is dropped, 16 bits keep the upper 8, and EXIF orientation is
    ignored: all as TFDS decodes. `channel_order` is the order in which the dataset stored the
    channels; "bgr" is turned round.

    Raises: RecordError("undecodable-image") for bytes that are cut, neither JPEG nor PNG, or
        an image of more than PIXELS_MAX pixels.
    """
    if channel_order not in CHANNEL_ORDERS:
        raise ValueError(f"channel_order must be one of {CHANNEL_ORDERS}, got {channel_order!r}")
    try:
        pixels = _decode_rgb(data)
    except UnidentifiedImageError as error:
        message = f"image of {len(data)} bytes is neither JPEG nor PNG"
        raise RecordError("undecodable-image", message) from error
    except DECODE_ERRORS as error:
        message = f"image of {len(data)} bytes does not decode: {error}"
        raise RecordError("undecodable-image", message) from error
    return pixels if channel_order == "rgb" else np.ascontiguousarray(pixels[..., ::-1])


def crop_window(box_xyxy: np.ndarray) -> Window:
    """Returns the square window (x0, y0, x1, y1), whole pixels, that shows a box.

    The box (4,) grows by 20 % of its width and height on each side, and its shorter side is
    then widened to the longer; the square stays centred on the box (to half a pixel) and may
    reach beyond the frame. A box without area still gives a window of one pixel.

    >>> crop_window(np.array([10, 20, 20, 40]))
    (1, 16, 29, 44)
    """
    padded = pad_box(box_xyxy, share=PAD_SHARE)
    # Rounded first: 1.4 * 20 is a hair over 28 in floating point, and must not become 29.
    longest = round(float((padded[2:] - padded[:2]).max()), 3)
    side = max(1, math.ceil(longest))
    center_x, center_y = (padded[:2] + padded[2:]) / 2
    x0, y0 = math.floor(center_x - side / 2 + 0.5), math.floor(center_y - side / 2 + 0.5)
    return (x0, y0, x0 + side, y0 + side)


def cut_window(image: np.ndarray, window: Window) -> np.ndarray:
    """Copies a window out of (H, W, 3); beyond the frame the nearest edge pixel is repeated."""
    x0, y0, x1, y1 = window
    rows = np.clip(np.arange(y0, y1), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(x0, x1), 0, image.shape[1] - 1)
    return image[rows[:, None], columns]


def make_crop(image: np.ndarray, box_xyxy: np.ndarray) -> np.ndarray:
    """Cuts the picture of a box: (224, 224, 3) uint8 RGB, background kept.

    `box_xyxy` (4,) is the bounding box of the object's mask, or the detector's where there is
    no mask.
    """
    picture = Image.fromarray(cut_window(image, crop_window(box_xyxy)))
    size = (CROP_SIZE_PX, CROP_SIZE_PX)
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC))


def encode_jpeg(image: np.ndarray) -> bytes:
    """Encodes (H, W, 3) uint8 RGB as a JPEG of quality 95; equal pixels give equal bytes."""
    buffer = io.BytesIO()
    picture = Image.fromarray(image)
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0", optimize=False)
    return buffer.getvalue()


# What Pillow's readers raise on malformed bytes.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def _open_picture(data: bytes) -> Image.Image:
    """Reads the header alone. Not by Image.open, which ultralytics replaces in its process."""
    if data.startswith(PNG_START):
        return PngImageFile(io.BytesIO(data))
    if data.startswith(JPEG_START):
        return JpegImageFile(io.BytesIO(data))
    raise UnidentifiedImageError("neither JPEG nor PNG")


def _decode_rgb(data: bytes) -> np.ndarray:
    # Pillow notices a JPEG's missing end by itself, but not a PNG's.
    if data.startswith(PNG_START) and PNG_END not in data:
        raise ValueError("the PNG has no end marker")
    with _open_picture(data) as picture:
        width, height = picture.size
        if width * height > PIXELS_MAX:
            raise ValueError(f"{width} x {height} pixels, more than {PIXELS_MAX:,}")
        if picture.mode.startswith("I"):  # 16-bit grey
            grey = (np.asarray(picture) >> 8).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        if picture.mode == "P":
            return np.array(picture.convert("RGBA").convert("RGB"))
        return np.array(picture.convert("RGB"))
