"""Segmenters: which one a name means, masks of drawn objects, and a small SAM end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ilv_dataset.errors import ConfigError
from ilv_dataset.models.grabcut import GrabCutSegmenter
from ilv_dataset.models.sam import SamSegmenter, SamSizes, build_sam, load_sam, read_sizes
from ilv_dataset.models.segmenter import load_segmenter

TINY = SamSizes(
    image_px=64,
    patch_px=8,
    width=32,
    depth=2,
    heads=2,
    mlp_ratio=2.0,
    window=4,
    global_blocks=(1,),
    prompt_width=32,
    mask_channels=4,
    num_masks=3,
    decoder_depth=1,
    decoder_mlp=48,
    quality_depth=2,
    quality_width=24,
)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def draw_disc() -> tuple[np.ndarray, np.ndarray]:
    """A red disc of radius 20 at (60, 50) on grey noise, and its mask."""
    noise = np.random.default_rng(0).integers(100, 140, (100, 120, 1), dtype=np.uint8)
    image = np.repeat(noise, 3, axis=2)
    rows, columns = np.mgrid[:100, :120]
    mask = (columns - 60) ** 2 + (rows - 50) ** 2 <= 400
    image[mask] = (200, 30, 30)
    return image, mask


# --- the string that names a segmenter


def test_load_segmenter_gives_none_where_the_detectors_masks_serve():
    assert load_segmenter("detector", detector_has_masks=True) is None
    assert load_segmenter("auto", detector_has_masks=True) is None


def test_load_segmenter_when_the_detector_has_no_masks():
    with pytest.raises(ConfigError, match=r"this detector finds boxes only; use sam or grabcut"):
        load_segmenter("detector", detector_has_masks=False)


@pytest.mark.parametrize("spec", ["", "sam:", "grabcut:x", "detector:x", "mask-rcnn"])
def test_load_segmenter_when_there_is_none_of_that_name(spec):
    with pytest.raises(ConfigError, match=r"no segmenter .*; expected one of auto, detector, grab"):
        load_segmenter(spec, detector_has_masks=True)


@pytest.mark.parametrize("spec", ["auto", "sam"])
def test_load_segmenter_without_a_checkpoint_says_where_it_is_and_what_else_there_is(
    spec, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    expected = (
        r"no weights at sam_vit_b_01ec64\.pth .*; fetch sam_vit_b_01ec64\.pth from"
        r" https://dl\.fbaipublicfiles\.com/segment_anything/ .* --segmenter grabcut"
    )
    with pytest.raises(ConfigError, match=expected) as caught:
        load_segmenter(spec, detector_has_masks=False)
    assert "\n" not in str(caught.value)


# --- grabcut


def test_grabcut_separates_a_disc_from_its_background_twice_the_same():
    image, truth = draw_disc()
    segmenter = load_segmenter("grabcut", detector_has_masks=False)
    assert segmenter is not None
    (found,) = segmenter([image], [boxes((40, 30, 81, 71))])
    assert (found.masks[0] & truth).sum() / (found.masks[0] | truth).sum() > 0.95
    assert found.scores.tolist() == [1]
    (again,) = segmenter([image], [boxes((40, 30, 81, 71))])
    np.testing.assert_array_equal(found.masks, again.masks)


def test_grabcut_stays_inside_its_box_and_the_image():
    image, _ = draw_disc()
    (found,) = GrabCutSegmenter()([image], [boxes((40, 30, 60, 50), (300, 300, 400, 400))])
    assert not found.masks[0][:, 60:].any()
    assert not found.masks[0][50:].any()
    assert not found.masks[1].any()


def test_grabcut_of_a_box_with_nothing_around_it_is_the_box():
    (found,) = GrabCutSegmenter()([np.zeros((10, 12, 3), np.uint8)], [boxes((0, 0, 12, 10))])
    assert found.masks.all()


def test_grabcut_of_odd_images_and_no_boxes():
    pixel, huge = np.zeros((1, 1, 3), np.uint8), np.zeros((8000, 8000, 3), np.uint8)
    odd = [boxes((0, 0, 1, 1)), boxes((100, 100, 7000, 7900))]
    one, other = GrabCutSegmenter()([pixel, huge], odd)
    assert one.masks.shape == (1, 1, 1)
    assert other.masks.shape == (1, 8000, 8000)
    (none,) = GrabCutSegmenter()([pixel], [boxes()])
    assert none.masks.shape == (0, 1, 1)


def points(*rows: tuple[float, float]) -> np.ndarray:
    return np.array(rows, np.float64).reshape(-1, 2)


def test_grabcut_finds_what_lies_at_a_point_twice_the_same():
    image, truth = draw_disc()
    (found,) = GrabCutSegmenter().segment_points([image], [points((60, 50))])
    assert (found.masks[0] & truth).sum() / (found.masks[0] | truth).sum() > 0.95
    assert found.scores.tolist() == [1]
    (again,) = GrabCutSegmenter().segment_points([image], [points((60, 50))])
    np.testing.assert_array_equal(found.masks, again.masks)


def test_grabcut_keeps_only_what_is_connected_to_the_point():
    image, _ = draw_disc()
    image[40:60, 90:100] = (200, 30, 30)
    (found,) = GrabCutSegmenter().segment_points([image], [points((60, 50))])
    assert found.masks[0][:, 55:65].any()
    assert not found.masks[0][:, 88:].any()


def test_grabcut_of_points_at_edges_outside_and_in_odd_images():
    image, _ = draw_disc()
    (found,) = GrabCutSegmenter().segment_points(
        [image], [points((0, 0), (119.9, 99.9), (500, 50))]
    )
    assert found.masks.shape == (3, 100, 120)
    assert not found.masks[2].any()
    pixel, huge = np.zeros((1, 1, 3), np.uint8), np.zeros((8000, 8000, 3), np.uint8)
    one, other = GrabCutSegmenter().segment_points(
        [pixel, huge], [points((0, 0)), points((4000, 4000))]
    )
    assert one.masks.shape == (1, 1, 1)
    assert other.masks.shape == (1, 8000, 8000)
    (none,) = GrabCutSegmenter().segment_points([pixel], [points()])
    assert none.masks.shape == (0, 1, 1)


# --- sam


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    import torch

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("sam") / "tiny.pth"
    torch.save(build_sam(TINY).state_dict(), path)
    return path


def test_sizes_of_a_checkpoint_are_read_off_its_tensors(checkpoint):
    import torch

    state = torch.load(checkpoint, weights_only=True)
    assert read_sizes({name: tuple(tensor.shape) for name, tensor in state.items()}) == TINY


@pytest.mark.parametrize(
    ("name", "width", "depth", "heads", "global_blocks"),
    [("vit_b", 768, 12, 12, (2, 5, 8, 11)), ("vit_h", 1280, 32, 16, (7, 15, 23, 31))],
)
def test_sizes_of_the_published_checkpoints_are_those_of_segment_anything(
    name, width, depth, heads, global_blocks
):
    import torch
    from segment_anything import sam_model_registry

    with torch.device("meta"):  # shapes without memory
        published = sam_model_registry[name]().state_dict()
        shapes = {key: tuple(tensor.shape) for key, tensor in published.items()}
        sizes = read_sizes(shapes)
        ours = build_sam(sizes).state_dict()
    assert (sizes.width, sizes.depth, sizes.heads) == (width, depth, heads)
    assert (sizes.global_blocks, sizes.window, sizes.image_px) == (global_blocks, 14, 1024)
    assert {key: tuple(tensor.shape) for key, tensor in ours.items()} == shapes


def test_sam_gives_the_predictors_best_mask_of_each_box(checkpoint):
    from segment_anything import SamPredictor

    image, _ = draw_disc()
    wanted = boxes((40, 30, 81, 71), (0, 0, 30, 20))
    segmenter = load_segmenter(f"sam:{checkpoint}", detector_has_masks=False, device="cpu")
    assert segmenter is not None
    (found,) = segmenter([image], [wanted])
    predictor = SamPredictor(load_sam(checkpoint))
    predictor.set_image(image)
    for box, mask, score in zip(wanted, found.masks, found.scores, strict=True):
        masks, quality, _ = predictor.predict(box=box)
        np.testing.assert_array_equal(mask, masks[quality.argmax()])
        assert score == pytest.approx(np.clip(quality.max(), 0, 1), abs=0.0006)


def test_sam_gives_the_predictors_best_mask_of_each_point(checkpoint):
    from segment_anything import SamPredictor

    image, _ = draw_disc()
    wanted = points((60, 50), (10.5, 20))
    (found,) = SamSegmenter(checkpoint, spec="sam", device="cpu").segment_points([image], [wanted])
    predictor = SamPredictor(load_sam(checkpoint))
    predictor.set_image(image)
    for point, mask, score in zip(wanted, found.masks, found.scores, strict=True):
        masks, quality, _ = predictor.predict(point[None], np.ones(1))
        np.testing.assert_array_equal(mask, masks[quality.argmax()])
        assert score == pytest.approx(np.clip(quality.max(), 0, 1), abs=0.0006)


def test_sam_encodes_a_frame_once_and_one_without_boxes_never(checkpoint):
    segmenter = SamSegmenter(checkpoint, spec="sam", device="cpu")
    encoded: list[int] = []
    encoder = segmenter._predictor.model.image_encoder
    encoder.register_forward_hook(lambda *_: encoded.append(1))
    image, _ = draw_disc()
    many = np.tile(boxes((40, 30, 81, 71)), (20, 1))
    first, second = segmenter([image, image], [many, boxes()])
    assert len(encoded) == 1
    assert first.masks.shape == (20, 100, 120)
    assert second.masks.shape == (0, 100, 120)
    np.testing.assert_array_equal(first.masks[0], first.masks[19])


def test_sam_of_a_single_pixel_and_of_a_huge_image(checkpoint):
    segmenter = SamSegmenter(checkpoint, spec="sam", device="cpu")
    pixel, huge = np.zeros((1, 1, 3), np.uint8), np.zeros((8000, 8000, 3), np.uint8)
    one, other = segmenter([pixel, huge], [boxes((0, 0, 1, 1)), boxes((10, 10, 90, 90))])
    assert one.masks.shape == (1, 1, 1)
    assert other.masks.shape == (1, 8000, 8000)


def test_a_fingerprint_follows_the_weights(checkpoint, tmp_path):
    import torch

    torch.manual_seed(1)
    other = tmp_path / "tiny.pth"
    torch.save(build_sam(TINY).state_dict(), other)
    prints = [SamSegmenter(path, spec="sam").fingerprint for path in (checkpoint, other)]
    assert prints[0].startswith("sam-v1:")
    assert prints[0] != prints[1]


@pytest.mark.parametrize("kind", ["text", "cut", "other", "list"])
def test_a_file_that_is_no_sam_is_refused_in_one_line(kind, checkpoint, tmp_path):
    import torch

    path = tmp_path / f"{kind}.pth"
    if kind == "text":
        path.write_text("these are not weights")
    elif kind == "cut":
        path.write_bytes(checkpoint.read_bytes()[:50_000])
    else:
        torch.save({"weights": torch.zeros(3)} if kind == "other" else [1, 2], path)
    expected = rf"{kind}\.pth is not a checkpoint of segment-anything"
    with pytest.raises(ConfigError, match=expected) as caught:
        load_segmenter(f"sam:{path}", detector_has_masks=False)
    assert "\n" not in str(caught.value)
