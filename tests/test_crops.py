"""Crops: decoding into RGB whatever the file holds, the window, and the bytes of the JPEG."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ilv_dataset.crops import crop_window, cut_window, decode_image, encode_jpeg, make_crop
from ilv_dataset.errors import RecordError

RED_GREEN = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)


def encode(pixels: np.ndarray, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()


def test_decode_image_returns_rgb():
    assert decode_image(encode(RED_GREEN)).tolist() == [[[255, 0, 0], [0, 255, 0]]]


def test_decode_image_when_stored_as_bgr_is_turned_round():
    decoded = decode_image(encode(RED_GREEN), channel_order="bgr")
    assert decoded.tolist() == [[[0, 0, 255], [0, 255, 0]]]


def test_decode_image_of_grey_repeats_it():
    assert decode_image(encode(np.array([[7, 200]], np.uint8))).tolist() == [[[7] * 3, [200] * 3]]


def test_decode_image_of_16_bits_keeps_the_upper_8():
    pixels = np.array([[0x12FF, 0xFF00]], np.uint16)
    assert decode_image(encode(pixels)).tolist() == [[[0x12] * 3, [0xFF] * 3]]


def test_decode_image_drops_alpha():
    assert decode_image(encode(np.array([[[9, 8, 7, 0]]], np.uint8))).tolist() == [[[9, 8, 7]]]


def test_decode_image_ignores_exif_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encode(np.zeros((2, 5, 3), np.uint8), "JPEG", exif=exif)).shape == (2, 5, 3)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("missing", [1, 2, 20, 60])
def test_decode_image_when_cut_is_undecodable(image_format, missing):
    whole = encode(np.arange(30 * 40 * 3, dtype=np.uint8).reshape(30, 40, 3), image_format)
    assert decode_image(whole).shape == (30, 40, 3)
    with pytest.raises(RecordError, match=r"does not decode") as caught:
        decode_image(whole[:-missing])
    assert caught.value.reason == "undecodable-image"


@pytest.mark.parametrize("data", [b"", b"not an image", encode(RED_GREEN, "GIF")])
def test_decode_image_when_neither_jpeg_nor_png_is_undecodable(data):
    with pytest.raises(RecordError, match=r"is neither JPEG nor PNG"):
        decode_image(data)


def test_decode_image_of_8000_by_8000_passes_and_larger_is_refused_unread():
    assert decode_image(encode(np.zeros((8000, 8000), np.uint8))).shape == (8000, 8000, 3)
    with pytest.raises(RecordError, match=r"9000 x 9000 pixels"):
        decode_image(encode(np.zeros((9000, 9000), np.uint8)))


def test_decode_image_when_the_order_is_unknown_is_a_bug():
    with pytest.raises(ValueError, match=r"channel_order must be one of .* got 'gbr'"):
        decode_image(encode(RED_GREEN), channel_order="gbr")


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ((10, 20, 20, 40), (1, 16, 29, 44)),  # 10 x 20 padded to 14 x 28, centre (15, 30)
        ((0, 0, 10, 10), (-2, -2, 12, 12)),  # reaches beyond the frame, is not shifted
        ((5, 5, 6, 6), (5, 5, 7, 7)),  # 1.4 pixels become 2
        ((3, 3, 3, 3), (3, 3, 4, 4)),  # no area: one pixel
    ],
)
def test_crop_window_is_a_square_around_the_padded_box(box, window):
    assert crop_window(np.array(box, np.float32)) == window


def test_cut_window_repeats_the_edge_beyond_the_frame():
    image = np.array([[[1] * 3, [2] * 3], [[3] * 3, [4] * 3]], np.uint8)
    cut = cut_window(image, (-1, 0, 2, 3))
    assert cut[:, :, 0].tolist() == [[1, 1, 2], [3, 3, 4], [3, 3, 4]]


@pytest.mark.parametrize("size", [1, 300])
def test_make_crop_is_224_square_from_any_frame(size):
    crop = make_crop(np.full((size, size, 3), 90, np.uint8), np.array([0, 0, size, size]))
    assert crop.shape == (224, 224, 3)
    assert (crop == 90).all()


def test_make_crop_keeps_the_background():
    image = np.full((100, 100, 3), (0, 0, 255), np.uint8)
    image[40:60, 40:60] = (255, 0, 0)
    crop = make_crop(image, np.array([40, 40, 60, 60]))
    assert crop[112, 112].tolist() == [255, 0, 0]
    assert crop[5, 5].tolist() == [0, 0, 255]


def test_encode_jpeg_is_deterministic_and_close():
    ramp = np.repeat(np.arange(224, dtype=np.uint8)[None, :, None], 224, axis=0).repeat(3, axis=2)
    encoded = encode_jpeg(ramp)
    assert encoded == encode_jpeg(ramp.copy())
    assert abs(decode_image(encoded).astype(int) - ramp).max() <= 3


def test_a_broken_image_stays_one_beside_ultralytics():
    from PIL import Image, UnidentifiedImageError

    from ilv_dataset.models.ultralytics_runtime import prepare_ultralytics

    prepare_ultralytics()
    with pytest.raises(RecordError, match=r"is neither JPEG nor PNG"):
        decode_image(b"not an image")
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(b"not an image"))
