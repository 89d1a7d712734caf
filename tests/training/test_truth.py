"""Stills as labelled images: all that is seen is there, and the right names are asked for."""

import json

import numpy as np
import pytest

from ilv_dataset.masks import mask_areas_px, mask_boxes_xyxy
from ilv_dataset.training.scenes import TrainingScene, masks_of
from ilv_dataset.training.truth import write_truth
from ilv_dataset.truth_images import load_objects, read_image, read_truth

NEW, OLD = ("orange", "kettle"), ("blue", "mug")  # the first is held out
NAMES = (NEW, OLD, ("blue", "ball"), ("green", "plate"))


def make_scene() -> TrainingScene:
    """Two squares of 24 px, one of 4 px, and a thing that is wholly hidden."""
    labels = np.zeros((64, 64), np.uint8)
    labels[0:24, 0:24], labels[0:24, 30:54], labels[40:44, 40:44] = 1, 2, 3
    masks = masks_of(labels, 4)
    return TrainingScene(
        seed=7,
        rgb=np.full((64, 64, 3), 90, np.uint8),
        labels=labels,
        names=tuple(map(" ".join, NAMES)),
        nouns=tuple(noun for _, noun in NAMES),
        colours=tuple(colour for colour, _ in NAMES),
        boxes_xyxy=mask_boxes_xyxy(masks),
        visible_px=mask_areas_px(masks),
    )


@pytest.mark.parametrize(
    ("is_held_out", "asked"),
    [(False, [True, True, False]), (True, [True, False, False])],
)
def test_all_that_is_seen_is_there_and_the_right_names_are_asked(tmp_path, is_held_out, asked):
    write_truth(tmp_path, [make_scene()], is_held_out=is_held_out, seed=0)
    (image,) = read_truth(tmp_path / "truth.json")
    assert [found.name for found in image.objects] == ["orange kettle", "blue mug", "blue ball"]
    assert [found.phrase is not None for found in image.objects] == asked
    assert image.crowds == ()
    truth = load_objects(image, (64, 64))
    assert truth.boxes_xyxy.tolist() == [[0, 0, 24, 24], [30, 0, 54, 24], [40, 40, 44, 44]]
    assert truth.masks is not None
    assert truth.masks.sum(axis=(1, 2)).tolist() == [576, 576, 16]
    assert read_image(image).shape == (64, 64, 3)
    assert image.absent is not None
    assert len(image.absent) == 4


def test_the_same_seed_gives_the_same_file(tmp_path):
    texts = []
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        write_truth(tmp_path / name, [make_scene()], is_held_out=False, seed=seed)
        texts.append((tmp_path / name / "truth.json").read_text())
    assert texts[0] == texts[1] != texts[2]
    assert json.loads(texts[0])["images"][0]["file_name"] == "000000007.jpg"
