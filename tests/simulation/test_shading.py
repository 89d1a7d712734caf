import numpy as np
import pytest

from ilv_dataset.simulation.scenes import Camera, Light
from ilv_dataset.simulation.shading import (
    depth_to_metres,
    label_boxes,
    locate_pixels,
    pixel_rays,
    plane_light,
    plane_metres,
    projection_matrix,
    sample_texture,
    shade_share,
    shrink_image,
    shrink_labels,
    view_matrix,
)

# Two metres over the table, looking straight down but for a hair: x is up in the picture.
OVERHEAD = Camera((-1e-6, 0.0, 2.0), (0.0, 0.0, 0.0), 90.0)
DEPTH_OF_2_M = 6.0 * (2.0 - 0.2) / (2.0 * (6.0 - 0.2))  # OpenGL: near 0.2 m, far 6 m


def test_label_boxes_of_a_small_picture():
    labels = np.zeros((4, 8), np.uint8)
    labels[1:3, 2:6] = 2
    labels[1, 2] = 1
    boxes, counts = label_boxes(labels, 3)
    assert boxes.tolist() == [[0.25, 0.25, 0.5, 0.375], [0.25, 0.25, 0.75, 0.75], [0, 0, 0, 0]]
    assert counts.tolist() == [1, 7, 0]
    assert (boxes.dtype, counts.dtype) == (np.float32, np.int32)


def test_label_boxes_of_no_objects():
    boxes, counts = label_boxes(np.zeros((4, 4), np.uint8), 0)
    assert (boxes.shape, counts.shape) == ((0, 4), (0,))


def test_shrink_labels_keeps_the_majority():
    labels = np.array([[1, 1, 0, 2], [1, 0, 0, 0]], np.uint8)
    assert shrink_labels(np.vstack([labels, labels]), 2).tolist() == [[1, 0], [1, 0]]


def test_shrink_image_rounds_the_mean():
    rgb = np.zeros((2, 2, 3), np.float32)
    rgb[0, 0] = 10
    assert shrink_image(rgb, 2).tolist() == [[[3, 3, 3]]]  # 2.5 is rounded up
    assert shrink_image(rgb, 1)[0, 0].tolist() == [10, 10, 10]


def test_depth_to_metres_at_both_ends_and_between():
    metres = depth_to_metres(np.array([0.0, DEPTH_OF_2_M, 1.0]))
    assert metres.tolist() == pytest.approx([0.2, 2.0, 6.0])


def test_projection_agrees_with_the_depth():
    point = projection_matrix(90.0) @ np.array([0.0, 0.0, -2.0, 1.0])
    assert (point[2] / point[3] + 1) / 2 == pytest.approx(DEPTH_OF_2_M)


def test_view_matrix_puts_the_target_in_front():
    seen = view_matrix(Camera((1.0, 0.0, 0.0), (0.0, 0.0, 0.0), 40.0)) @ np.array([0, 0, 0, 1.0])
    assert seen.round(6).tolist() == [0.0, 0.0, -1.0, 1.0]


def flat_table(size_px: int) -> np.ndarray:
    """Where each pixel of the camera overhead sees the table, 2 m below it."""
    return locate_pixels(np.full((size_px,) * 2, 2.0), pixel_rays(OVERHEAD, size_px), OVERHEAD)


def test_locate_pixels_of_a_flat_table():
    points = flat_table(4)
    # 90 degrees from 2 m show 4 m: four pixels of 1 m, the middles at 1.5 and 0.5 m.
    assert (points.shape, points.dtype) == ((3, 4, 4), np.float32)
    assert (points[:, 0, 0] + 0.0).round(3).tolist() == [1.5, 1.5, 0.0]
    assert (points[:, 3, 2] + 0.0).round(3).tolist() == [-1.5, -0.5, 0.0]


def test_plane_metres_along_the_optical_axis():
    level = Camera((0.0, 0.0, 1.0), (1.0, 0.0, 1.0), 90.0)  # looks along x, 1 m over z = 0
    rays = pixel_rays(level, 4)
    wall = plane_metres(rays, level, 0, 3.0)
    assert wall.tolist() == [[3.0] * 4] * 4
    # Rows look 3/4 and 1/4 up, then as much down: to the floor 1 / (1/4) and 1 / (3/4) m.
    floor = plane_metres(rays, level, 2, 0.0)
    assert floor[:, 0].tolist() == pytest.approx([6.0, 6.0, 4.0, 1.3333], abs=1e-4)  # 6 m: never


def test_plane_light_from_straight_above_and_aslant():
    above = Light((0.0, 0.0, 1.0), (1.0, 0.5, 0.0), ambient=0.5, diffuse=0.4, shadow=0.0)
    floor = plane_light(above, (0.0, 0.0, 1.0), specular=0.1)
    assert floor.tolist() == pytest.approx([1.0, 0.75, 0.5])
    assert plane_light(above, (1.0, 0.0, 0.0), 0.1).tolist() == pytest.approx([0.5] * 3)
    aslant = Light((0.6, 0.0, 0.8), (1.0, 1.0, 1.0), ambient=0.5, diffuse=0.5, shadow=0.0)
    # 0.5 + 0.5 * 0.8; the mirrored ray rises by 0.8, so gloss adds 0.1 * 0.8 ** 2.
    assert plane_light(aslant, (0.0, 0.0, 1.0), 0.1).tolist() == pytest.approx([0.964] * 3)


def test_shade_share_is_one_behind_what_the_lamp_sees():
    points = flat_table(64)
    lamp_depth = np.full((64, 64), DEPTH_OF_2_M, np.float32)
    lamp_depth[16:48, 16:48] = 6.0 * (1.5 - 0.2) / (1.5 * (6.0 - 0.2))  # 0.5 m over the middle
    share = shade_share(points, np.full((64, 64), 0.005), lamp_depth, OVERHEAD)
    assert share[32, 32] == pytest.approx(1.0)
    assert share[2, 2] == share[32, 61] == 0.0
    assert 0.3 < share[32, 15:17].mean() < 0.7  # soft at the edge


def test_shade_share_is_none_on_what_the_light_grazes():
    across, up = np.meshgrid(np.linspace(-0.5, 0.5, 32), np.linspace(1.0, 0.0, 32))
    wall = np.stack([np.zeros_like(across), across, up]).astype(
        np.float32
    )  # upright, under a lamp overhead
    lamp_depth = np.zeros((64, 64), np.float32)  # something right before the lamp
    assert shade_share(wall, np.full((32, 32), 0.018), lamp_depth, OVERHEAD).max() == 0.0


def test_sample_texture_spans_its_bounds():
    texture = np.arange(4, dtype=np.float32).reshape(2, 2, 1).repeat(3, axis=2)
    points = np.array([[[0.25, 0.75]], [[0.25, 0.25]], [[0.0, 0.0]]], np.float32)
    seen = sample_texture(texture, points, ((0.0, 1.0), (0.0, 1.0)))
    assert seen[0, :, 0].tolist() == [0.0, 2.0]
