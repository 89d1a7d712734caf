import math

import numpy as np
import pytest

from ilv_dataset.key_points import fit_frame, is_inside, point_to_frame, spread


@pytest.mark.parametrize(
    ("size_wh", "expected_wh"),
    [((640, 480), (1120, 840)), ((256, 256), (1120, 1120)), ((84, 2240), (42, 1120)),
     ((1, 1), (1120, 1120)), ((5000, 1), (1120, 1))],
)  # fmt: skip
def test_a_frame_is_sent_at_a_long_side_of_1120(size_wh, expected_wh):
    width, height = size_wh
    assert fit_frame(np.zeros((height, width, 3), np.uint8)).shape == (*expected_wh[::-1], 3)


def test_a_point_comes_back_in_pixels_of_the_frame():
    sizes = {"sent_wh": (1120, 840), "frame_wh": (640, 480)}
    assert point_to_frame((0, 0), **sizes) == (0, 0)
    assert point_to_frame((100, 77), **sizes) == (57.1, 44.0)  # 57.14 and 44
    assert point_to_frame((1120, 400), **sizes) is None
    assert point_to_frame((-1, 400), **sizes) is None
    assert point_to_frame((math.nan, 400), **sizes) is None


def test_is_inside():
    assert is_inside((0, 47.9), size_wh=(64, 48))
    assert not is_inside((0, 48), size_wh=(64, 48))
    assert not is_inside((math.inf, 0), size_wh=(64, 48))


def test_spread():
    assert spread(0, num=3) == []
    assert spread(3, num=3) == [0, 1, 2]
    assert spread(4, num=3) == [0, 1, 3]
    assert spread(10, num=3) == [0, 4, 9]
