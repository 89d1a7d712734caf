"""Changed stills: boxes move with their pixels, and what is hardly seen is not asked for."""

import numpy as np
import pytest

from ilv_dataset.training import augment
from ilv_dataset.training.augment import (
    augment_scene,
    change_hues,
    change_light,
    move_boxes,
    warp,
)
from ilv_dataset.training.scenes import TrainingScene


def make_scene(*boxes: tuple[int, int, int, int], side_px: int = 64) -> TrainingScene:
    """Black, with a white rectangle for each thing."""
    rgb = np.zeros((side_px, side_px, 3), np.uint8)
    labels = np.zeros((side_px, side_px), np.uint8)
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        rgb[y0:y1, x0:x1], labels[y0:y1, x0:x1] = 255, number + 1
    colours = ("red", "blue", "green")[: len(boxes)]
    return TrainingScene(
        seed=0,
        rgb=rgb,
        labels=labels,
        names=tuple(f"{colour} mug" for colour in colours),
        nouns=("mug",) * len(boxes),
        colours=colours,
        boxes_xyxy=np.array(boxes, np.float32),
        visible_px=np.array([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes]),
    )


def test_warp_draws_pixels_where_move_boxes_says():
    scene = make_scene((8, 16, 24, 40))
    matrix = np.array([[-2.0, 0, 100], [0, 2.0, -10]])
    moved = move_boxes(scene.boxes_xyxy, matrix)
    assert moved.tolist() == [[52, 22, 84, 70]]
    white = warp(scene.rgb, matrix, 100)[..., 0] > 180
    assert (np.flatnonzero(white.any(axis=0))[[0, -1]] + [0, 1]).tolist() == [52, 84]
    assert (np.flatnonzero(white.any(axis=1))[[0, -1]] + [0, 1]).tolist() == [22, 70]


def test_things_too_small_are_neither_there_nor_absent(monkeypatch):
    monkeypatch.setattr(augment, "_STILL_SHARE", 1.0)  # no zoom; a flip changes no size
    scene = make_scene((0, 0, 20, 20), (30, 30, 37, 60), (40, 0, 40, 0))
    sample = augment_scene(scene, np.random.default_rng(0), size_px=64)
    assert sample.colours == ("red",)
    assert sample.hidden == (("blue", "mug"),)  # 7 px wide; the green one is not seen at all


@pytest.mark.parametrize("seed", range(20))
def test_boxes_of_an_augmented_still_hold_their_pixels(seed):
    sample = augment_scene(make_scene((16, 20, 44, 44)), np.random.default_rng(seed), size_px=96)
    white = np.zeros((96, 96), bool)
    for x0, y0, x1, y1 in sample.boxes_xyxy:
        assert 0 <= x0 < x1 <= 96
        assert 0 <= y0 < y1 <= 96
        white[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = True
    if len(sample.boxes_xyxy):
        grey = sample.rgb.astype(int).max(axis=2)
        assert grey[white].mean() > 170  # white, darkened by a fifth at most
        assert (grey[~white] < 170).mean() > 0.99


def test_light_changes_all_channels_alike():
    rgb = np.full((2, 2, 3), 100, np.uint8)
    for seed in range(5):
        changed = change_light(rgb, np.random.default_rng(seed))
        assert len(np.unique(changed)) == 1
        assert 65 <= changed[0, 0, 0] <= 135


def test_other_hues_leave_greys_and_brightness_alone():
    rgb = np.array([[[60, 60, 60], [200, 40, 40]]], np.uint8)
    seen = set()
    for seed in range(10):
        grey, coloured = change_hues(rgb, np.random.default_rng(seed))[0]
        assert grey.tolist() == [60, 60, 60]
        assert coloured.max() == 200
        seen.add(int(coloured.argmax()))
    assert seen == {0, 1, 2}


def test_a_share_of_the_stills_gets_other_hues():
    scene = make_scene((16, 20, 44, 44))
    changed = [
        augment_scene(
            scene, np.random.default_rng(seed), size_px=64, recolour_share=0.25
        ).is_recoloured
        for seed in range(200)
    ]
    assert 0.15 <= np.mean(changed) <= 0.35
