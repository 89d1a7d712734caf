import cv2
import numpy as np
import pytest
from builders import encode, scene

from ilv_dataset.errors import RecordError
from ilv_dataset.formats.frames import decode_square, fit_square, jpeg_size


def smooth(height: int, width: int) -> np.ndarray:
    """Red grows to the right, green downwards, blue is 50."""
    rows = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    columns = np.linspace(0, 255, width)[None].repeat(height, 0)
    return np.stack([columns, rows, np.full_like(rows, 50)], axis=2).round().astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (256, 256), (480, 640), (97, 96)])
def test_size_of_a_jpeg_is_in_its_header(height, width):
    for options in ({}, {"progressive": True}, {"optimize": True}):
        assert jpeg_size(encode(smooth(height, width), "JPEG", **options)) == (width, height)


def test_no_size_where_there_is_no_header():
    assert (
        jpeg_size(b"") == jpeg_size(b"\xff\xd8\xff") == jpeg_size(b"\xff\xd8junkjunkjunk") == (0, 0)
    )


@pytest.mark.parametrize("side", [96, 100, 191, 192, 256, 400, 800])
def test_what_is_decoded_small_is_what_is_shrunk_afterwards(side):
    image = smooth(side, side)
    from_jpeg = decode_square(encode(image, "JPEG", quality=95), 96).astype(int)
    rendered = fit_square(image, 96).astype(int)
    assert from_jpeg.shape == rendered.shape == (96, 96, 3)
    assert np.abs(from_jpeg - rendered).max() <= 4


def test_corners_stay_where_they_are_also_when_the_frame_is_not_square():
    found = fit_square(smooth(120, 320), 48)
    assert found[0, 0].tolist() == pytest.approx([2, 2, 50], abs=3)
    assert found[0, -1].tolist() == pytest.approx([253, 2, 50], abs=3)
    assert found[-1, 0].tolist() == pytest.approx([2, 253, 50], abs=3)


def test_blocks_are_averaged():
    image = np.zeros((8, 8, 3), np.uint8)
    image[::2, ::2] = 200  # one pixel in four
    assert (fit_square(image, 4) == 50).all()
    assert (fit_square(image, 2) == 50).all()


def test_an_image_of_the_size_is_as_it_was():
    image = scene()[:48, :48]
    assert (fit_square(image, 48) == image).all()
    assert (decode_square(encode(image, "PNG"), 48) == image).all()


def test_small_images_grow():
    assert fit_square(np.full((2, 2, 3), 9, np.uint8), 5).tolist() == [[[9, 9, 9]] * 5] * 5


def test_channels_of_bgr_datasets_are_turned_round():
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 0] = 250
    for form in ("JPEG", "PNG"):
        data = encode(image, form)
        assert decode_square(data, 8)[0, 0].tolist() == pytest.approx([250, 0, 0], abs=4)
        assert decode_square(data, 8, is_bgr=True)[0, 0].tolist() == pytest.approx(
            [0, 0, 250], abs=4
        )


def test_grey_is_repeated():
    grey = encode(np.full((8, 8), 77, np.uint8), "PNG")
    assert decode_square(grey, 4)[0, 0].tolist() == [77, 77, 77]


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff\xe0junk"])
def test_error_when_bytes_are_no_image(data):
    with pytest.raises(RecordError, match=f"image of {len(data)} bytes does not decode") as caught:
        decode_square(data, 8)
    assert caught.value.reason == "undecodable-image"


def test_opencv_reads_in_rgb_order_at_each_scale():
    # The flags are put together by hand: OpenCV has no name for a reduced image in RGB order.
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 2] = 240
    for side in (64, 32, 16, 8):
        found = decode_square(encode(image, "JPEG", quality=95), side)
        assert found.shape == (side, side, 3)
        assert found[0, 0].tolist() == pytest.approx([0, 0, 240], abs=4)
    assert cv2.IMREAD_COLOR_RGB == 256
