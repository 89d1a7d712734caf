"""Segmenters: which one a name means, masks of drawn objects, and a small SAM end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ilv_dataset.errors import ConfigError
from ilv_dataset.models.grabcut import GrabCutSegmenter
from ilv_dataset.models.sam import SamSegmenter, cut_window, fitted_shape, scale_prompts
from ilv_dataset.models.sam_network import (
    SamSizes,
    Zoom,
    build_sam,
    load_sam,
    read_sizes,
    save_sam,
)
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
        r"^no weights sam_vit_b_01ec64\.pth in the working folder or in .*; "
        r"`ilv models fetch sam_vit_b_01ec64\.pth` gets them$"
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
    assert np.asarray(found.masks).all()


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
    predictor = SamPredictor(load_sam(checkpoint)[0])
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
    predictor = SamPredictor(load_sam(checkpoint)[0])
    predictor.set_image(image)
    for point, mask, score in zip(wanted, found.masks, found.scores, strict=True):
        masks, quality, _ = predictor.predict(point[None], np.ones(1))
        np.testing.assert_array_equal(mask, masks[quality.argmax()])
        assert score == pytest.approx(np.clip(quality.max(), 0, 1), abs=0.0006)


def count_encodings(segmenter: SamSegmenter) -> list[int]:
    """Grows by the number of images whenever they are encoded."""
    encoded: list[int] = []
    encoder = segmenter._model.image_encoder
    encoder.register_forward_hook(lambda _, given, __: encoded.append(len(given[0])))
    return encoded


def test_sam_encodes_a_frame_once_and_one_without_boxes_never(checkpoint):
    segmenter = SamSegmenter(checkpoint, spec="sam", device="cpu")
    encoded = count_encodings(segmenter)
    image, _ = draw_disc()
    many = np.tile(boxes((40, 30, 81, 71)), (20, 1))
    first, second = segmenter([image, image], [many, boxes()])
    assert encoded == [1]
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
    assert prints[0].startswith("sam-v4:")
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


# --- sam, trained on windows

ZOOM = Zoom(box_share=1.5, point_share=0.5)


@pytest.fixture(scope="module")
def window_checkpoint(tmp_path_factory) -> Path:
    import torch

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("sam") / "tiny.safetensors"
    save_sam(path, build_sam(TINY).state_dict(), ZOOM)
    return path


def load_windowed(path: Path) -> SamSegmenter:
    return SamSegmenter(path, spec="sam", device="cpu")


def test_a_saved_sam_is_loaded_as_it_was_in_half_precision(window_checkpoint):
    import torch

    model, zoom = load_sam(window_checkpoint)
    torch.manual_seed(0)
    weights = build_sam(TINY).state_dict()
    assert zoom == ZOOM
    for name, loaded in model.state_dict().items():
        assert loaded.dtype == torch.float32
        torch.testing.assert_close(loaded, weights[name].half().float(), rtol=0, atol=0)


def test_a_saved_sam_says_what_it_is(window_checkpoint):
    import json

    from safetensors import safe_open

    with safe_open(window_checkpoint, framework="numpy") as file:
        metadata = file.metadata()
    told = json.loads(metadata["architecture"])
    assert told["family"] == "segment-anything"
    assert (told["image_px"], told["width"], told["depth"], told["heads"]) == (64, 32, 2, 2)
    assert json.loads(metadata["zoom"]) == {"box_share": 1.5, "point_share": 0.5}


@pytest.mark.parametrize(
    ("prompt", "window"),
    [
        ((40, 40, 50, 60), (30, 35, 60, 65)),  # 1.5 * 20 around (45, 50)
        ((0, 0, 20, 10), (0, 0, 25, 20)),  # cut off at two edges of the frame
        ((10.25, 10, 10.5, 10.25), (6, 6, 15, 15)),  # never less than 8 pixels
        ((0, 0, 100, 70), (0, 0, 100, 70)),
        ((50, 30), (32, 12, 68, 48)),  # half of 70 around the point
        ((0, 69.5), (0, 52, 18, 70)),
    ],
)
def test_cut_window(prompt, window):
    assert cut_window(np.array(prompt), size_wh=(100, 70), zoom=ZOOM) == window


def test_images_and_prompts_are_scaled_as_segment_anything_scales_them():
    assert fitted_shape((30, 60), 64) == (32, 64)
    assert fitted_shape((1, 8000), 64) == (1, 64)
    scaled = scale_prompts(np.array([[15, 15, 30, 30]]), (30, 60), 64)
    np.testing.assert_array_equal(scaled, np.array([[16, 16, 32, 32]], np.float32))
    np.testing.assert_array_equal(scale_prompts(np.array([30, 15]), (30, 60), 64), [32, 16])


def test_a_windowed_sam_gives_the_mean_of_the_predictors_logits_in_three_windows(window_checkpoint):
    from segment_anything import SamPredictor

    image, _ = draw_disc()
    wanted = boxes((40, 30, 80, 70), (0, 0, 30, 20))
    segmenter = load_segmenter(f"sam:{window_checkpoint}", detector_has_masks=False, device="cpu")
    assert segmenter is not None
    (found,) = segmenter([image], [wanted])
    predictor = SamPredictor(load_sam(window_checkpoint)[0])
    # Of the longer side times 1.5: 0.79 of that, mirrored, 0.93 of it, and 1.07 of it, mirrored.
    looks = [
        [((36, 26, 84, 74), True), ((32, 22, 88, 78), False), ((27, 17, 93, 83), True)],
        [((0, 0, 33, 28), True), ((0, 0, 36, 31), False), ((0, 0, 40, 35), True)],
    ]
    for row in range(2):
        total, qualities = np.full(image.shape[:2], 3 * -8.0), []
        for (x0, y0, x1, y1), is_mirrored in looks[row]:
            crop, box = image[y0:y1, x0:x1], wanted[row] - [x0, y0, x0, y0]
            if is_mirrored:
                crop, box = crop[:, ::-1], [x1 - x0 - box[2], box[1], x1 - x0 - box[0], box[3]]
            predictor.set_image(np.ascontiguousarray(crop))
            logits, quality, _ = predictor.predict(box=np.array(box), return_logits=True)
            best = logits[quality.argmax()][:, :: -1 if is_mirrored else 1]
            total[y0:y1, x0:x1] += np.clip(best, -8, 8) + 8
            qualities.append(np.clip(quality.max(), 0, 1))
        assert 0 < (total > 0).sum() < total.size  # or the comparison would say nothing
        assert (found.masks[row] == (total > 0)).mean() > 0.999  # batched sums differ
        assert found.scores[row] == pytest.approx(np.mean(qualities), abs=0.0006)


def test_windows_of_all_boxes_of_all_frames_are_encoded_together(window_checkpoint):
    segmenter = load_windowed(window_checkpoint)
    encoded = count_encodings(segmenter)
    image, _ = draw_disc()
    many = np.tile(boxes((40, 30, 81, 71)), (20, 1))
    first, second, third = segmenter([image] * 3, [many, boxes(), boxes((0, 0, 30, 20))])
    assert encoded == [63]  # each box three times
    assert [len(found.masks) for found in (first, second, third)] == [20, 0, 1]
    np.testing.assert_array_equal(first.masks[0], first.masks[19])


def test_what_a_windowed_sam_finds_at_a_point_is_looked_at_again_in_its_box(window_checkpoint):
    from ilv_dataset.masks import mask_boxes_xyxy

    segmenter = load_windowed(window_checkpoint)
    encoded = count_encodings(segmenter)
    image, _ = draw_disc()
    (coarse,) = segmenter._segment([image], [points((60, 50))])
    (expected,) = segmenter([image], [mask_boxes_xyxy(coarse.masks)])
    encoded.clear()
    (found,) = segmenter.segment_points([image], [points((60, 50))])
    assert encoded == [3, 3]
    assert 0 < np.asarray(found.masks).sum() < np.asarray(found.masks).size
    np.testing.assert_array_equal(found.masks, expected.masks)


@pytest.fixture(params=["checkpoint", "window_checkpoint"])
def any_sam(request) -> SamSegmenter:
    return load_windowed(request.getfixturevalue(request.param))


def test_sam_of_boxes_that_hold_nothing_of_the_frame_finds_nothing(any_sam):
    image, _ = draw_disc()
    nothing = [(300, 300, 400, 400), (-9, 0, 0, 9), (50, 50, 50, 60), (60, 60, 50, 50)]
    (found,) = any_sam([image], [boxes(*nothing, (np.nan, 0, 9, 9), (40, 30, 81, 71))])
    assert found.masks.shape == (6, 100, 120)
    assert not np.asarray(found.masks)[:5].any()
    assert found.scores[:5].tolist() == [0, 0, 0, 0, 0]
    (alone,) = any_sam([image], [boxes((40, 30, 81, 71))])
    np.testing.assert_array_equal(found.masks[5], alone.masks[0])


def test_sam_cuts_a_box_off_at_the_frames_edge(any_sam):
    image, _ = draw_disc()
    (over,) = any_sam([image], [boxes((90, 70, 500, 300))])
    (cut,) = any_sam([image], [boxes((90, 70, 120, 100))])
    np.testing.assert_array_equal(over.masks, cut.masks)
    assert over.scores == cut.scores


def test_sam_of_points_outside_the_frame_finds_nothing(any_sam):
    image, _ = draw_disc()
    (found,) = any_sam.segment_points([image], [points((120, 50), (-1, 5), (np.nan, 5))])
    assert found.masks.shape == (3, 100, 120)
    assert not np.asarray(found.masks).any()
    assert found.scores.tolist() == [0, 0, 0]
    (none,) = any_sam.segment_points([image], [points()])
    assert none.masks.shape == (0, 100, 120)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 2), (8000, 8000)])
def test_sam_of_frames_of_any_size(any_sam, shape):
    height, width = shape
    frame = np.zeros((height, width, 3), np.uint8)
    (found,) = any_sam([frame], [boxes((0, 0, min(width, 80), min(height, 80)))])
    assert found.masks.shape == (1, *shape)
    (found,) = any_sam.segment_points([frame], [points((width / 2, height / 2))])
    assert found.masks.shape == (1, *shape)


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_sam_of_grey_and_transparent_files_as_they_are_decoded(any_sam, mode):
    import io

    from PIL import Image

    from ilv_dataset.crops import decode_image

    drawn, _ = draw_disc()
    stored = io.BytesIO()
    picture = Image.fromarray(drawn).convert(mode)
    picture.save(stored, "PNG")
    (found,) = any_sam([decode_image(stored.getvalue())], [boxes((40, 30, 81, 71))])
    (expected,) = any_sam([np.array(picture.convert("RGB"))], [boxes((40, 30, 81, 71))])
    assert np.asarray(expected.masks).any()
    np.testing.assert_array_equal(found.masks, expected.masks)


def test_sam_whose_numbers_are_nan_finds_nothing(any_sam):
    any_sam._model.mask_decoder.iou_token.weight.data.fill_(np.nan)
    image, _ = draw_disc()
    (found,) = any_sam([image], [boxes((40, 30, 81, 71))])
    assert not np.asarray(found.masks).any()
    assert found.scores.tolist() == [0]


def refuse_above(limit: int):
    """A hook of a GPU that holds so many images at once."""
    import torch

    def refuse(_, given):
        if len(given[0]) > limit:
            raise torch.OutOfMemoryError(f"out of memory with {len(given[0])} images")

    return refuse


def test_sam_halves_a_batch_that_the_gpu_has_no_memory_for(window_checkpoint):
    segmenter = load_windowed(window_checkpoint)
    image, _ = draw_disc()
    wanted = boxes(*[(x, 30, x + 30, 70) for x in range(0, 70, 10)])
    (whole,) = segmenter([image], [wanted])
    encoded = count_encodings(segmenter)
    segmenter._model.image_encoder.register_forward_pre_hook(refuse_above(2))
    (halved,) = segmenter([image], [wanted])
    assert encoded == [2] * 10 + [1]  # 21 do not fit, nor 10, nor 5
    segmenter([image], [wanted])
    assert encoded == [2] * 10 + [1] + [2] * 10 + [1]  # and are not tried again
    assert (np.asarray(whole.masks) == np.asarray(halved.masks)).mean() > 0.999
    np.testing.assert_allclose(whole.scores, halved.scores, atol=0.0011)


def test_sam_halves_the_prompts_that_the_gpu_has_no_memory_for(checkpoint):
    segmenter = load_windowed(checkpoint)
    image, _ = draw_disc()
    wanted = boxes(*[(x, 30, x + 30, 70) for x in range(0, 70, 10)])
    (whole,) = segmenter([image], [wanted])
    encoded = count_encodings(segmenter)
    segmenter._model.mask_decoder.transformer.register_forward_pre_hook(refuse_above(2))
    (halved,) = segmenter([image], [wanted])
    assert encoded == [1]
    assert (np.asarray(whole.masks) == np.asarray(halved.masks)).mean() > 0.999


def test_sam_of_a_gpu_that_does_not_hold_one_image_says_so(window_checkpoint):
    segmenter = load_windowed(window_checkpoint)
    segmenter._model.image_encoder.register_forward_pre_hook(refuse_above(0))
    with pytest.raises(ConfigError, match="the GPU has no memory for a single frame"):
        segmenter([np.zeros((9, 9, 3), np.uint8)], [boxes((0, 0, 9, 9))])


@pytest.mark.parametrize("change", ["architecture", "zoom", "endless", "none", "tensor", "layer"])
def test_a_safetensors_file_that_is_no_sam_is_refused(change, window_checkpoint, tmp_path):
    from ilv_dataset.models.bundled import load_tensors, save_tensors

    tensors, metadata = load_tensors(window_checkpoint)
    if change == "architecture":
        metadata["architecture"] = metadata["architecture"].replace('"width": 32', '"width": 33')
    elif change == "zoom":
        metadata["zoom"] = "{}"
    elif change == "endless":
        metadata["zoom"] = '{"box_share": Infinity, "point_share": 0.5}'
    elif change == "layer":  # another name of a layer that would make a hundred million
        tensors["mask_decoder.iou_prediction_head.layers.99999999.bias"] = np.zeros(1, np.float16)
    elif change == "none":
        metadata = {}
    else:
        del tensors["mask_decoder.mask_tokens.weight"]
    path = tmp_path / "other.safetensors"
    save_tensors(path, tensors, metadata)
    with pytest.raises(ConfigError, match=r"other\.safetensors is not a checkpoint of segment-an"):
        load_sam(path)


def test_a_phrase_whose_mask_is_empty_has_a_reason_and_no_crop(any_sam):
    from builders import CARROT, CARROT_XYXY, FakeDetector, load_scene, probed

    from ilv_dataset.fields import PICTURED_KINDS
    from ilv_dataset.grounding import ground_spans

    any_sam._model.mask_decoder.iou_token.weight.data.fill_(np.nan)
    (found,) = ground_spans(
        [(probed(0), [CARROT])],
        load_frame=load_scene,
        detector=FakeDetector({"carrot": (CARROT_XYXY, 0.5)}),
        segmenter=any_sam,
        picture_kinds=PICTURED_KINDS,
    )
    assert found.crops == {}
    assert found.reasons == {0: "empty-mask"}
