"""Pictures from outside, of any size and mode, as instruction images: 224 x 224 RGB JPEGs."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from ilv_dataset.crops import CROP_SIZE_PX, DECODE_ERRORS, cut_window, encode_jpeg
from ilv_dataset.errors import RecordError
from ilv_dataset.image_files import PIXELS_MAX

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
# Source: ours; a PNG of PIXELS_MAX that does not shrink has 320 MB, one that people draw less.
FILE_BYTES_MAX = 100 << 20

_ORIENTATION = 0x0112
# Source: EXIF 2.32, tag Orientation; 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def encode_outside(content: bytes) -> bytes:
    """Makes the instruction image of a picture file: 224 x 224 RGB, JPEG.

    Upright as its EXIF orientation has it, the transparent on white, grey repeated, the first
    image of an animation; the longer side becomes 224 pixels, and along the shorter the edges are
    repeated, as crops do beyond the frame. The largest that is read takes 1 GB meanwhile.

    Raises: RecordError("undecodable-image") for what is cut, is of another format, or has more
        than PIXELS_MAX pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of EXIF data that is cut, of sizes that are refused
            pixels = _decode_square(content)
    except UnidentifiedImageError as error:
        raise RecordError("undecodable-image", f"not one of {', '.join(FORMATS)}") from error
    except DECODE_ERRORS as error:
        raise RecordError("undecodable-image", f"does not decode: {error}") from error
    return encode_jpeg(pixels)


def _decode_square(content: bytes) -> np.ndarray:
    """(224, 224, 3) uint8 RGB."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
        if picture.width * picture.height > PIXELS_MAX:
            size = f"{picture.width} x {picture.height}"
            raise ValueError(f"{size} pixels, more than {PIXELS_MAX:,}")
        turn = _find_turn(picture)
        picture.draft("RGB", (2 * CROP_SIZE_PX, 2 * CROP_SIZE_PX))  # a JPEG is read at this size
        small = _resize(_flatten(picture))
    pixels = np.asarray(small if turn is None else small.transpose(turn))
    x0, y0 = (pixels.shape[1] - CROP_SIZE_PX) // 2, (pixels.shape[0] - CROP_SIZE_PX) // 2
    return cut_window(pixels, (x0, y0, x0 + CROP_SIZE_PX, y0 + CROP_SIZE_PX))


def _find_turn(picture: Image.Image) -> Image.Transpose | None:
    """How the picture is turned upright; not at all where its EXIF data is broken."""
    try:
        return _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    except DECODE_ERRORS:
        return None


def _flatten(picture: Image.Image) -> Image.Image:
    """The picture in RGB, on white where it is transparent."""
    if picture.mode.startswith("I"):  # 16-bit grey
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    drawn = picture.convert("RGBA")
    flat = Image.new("RGB", drawn.size, "white")
    flat.paste(drawn, mask=drawn)
    return flat


def _resize(picture: Image.Image) -> Image.Image:
    """The picture with its longer side at 224 pixels, the shorter at one or more."""
    longest = max(picture.size)
    width, height = (max(1, round(side * CROP_SIZE_PX / longest)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)
