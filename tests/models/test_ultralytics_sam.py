"""MobileSAM and SAM 2 with random weights, saved and loaded as the published ones are.

Most tests run the networks at 256 px instead of 1024: the same code and the same weights.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from random_weights import odd_images, write_bad_weights

from ilv_dataset.errors import ConfigError
from ilv_dataset.models import ultralytics_sam
from ilv_dataset.models.runtime import letterbox_corner
from ilv_dataset.models.ultralytics_sam import MOBILE_SAM, SAM2, UltralyticsSegmenter, load_network

BACKENDS = (MOBILE_SAM, SAM2)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    from ilv_dataset.models.ultralytics_runtime import prepare_ultralytics

    prepare_ultralytics()
    import torch
    from ultralytics.models.sam import build

    folder = tmp_path_factory.mktemp("sam")
    torch.manual_seed(0)
    torch.save(build.build_mobile_sam().state_dict(), folder / "mobile_sam.pt")
    # As it is published: below "model", in float16; SAM 2.1 has more tensors, for videos.
    state = {name: tensor.half() for name, tensor in build.build_sam2_t().state_dict().items()}
    torch.save({"model": state}, folder / "sam2_t.pt")
    more = {
        "no_obj_embed_spatial": torch.zeros(1, 64),
        "obj_ptr_tpos_proj.weight": torch.zeros(64, 256),
        "obj_ptr_tpos_proj.bias": torch.zeros(64),
    }
    torch.save({"model": {**state, **more}}, folder / "sam2.1_t.pt")
    return {MOBILE_SAM: folder / "mobile_sam.pt", SAM2: folder / "sam2_t.pt"}


@pytest.fixture(scope="module", params=BACKENDS)
def segmenter(checkpoints, request) -> UltralyticsSegmenter:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ultralytics_sam, "_SIDE_PX", 256)
        yield load(checkpoints, request.param)


def load(checkpoints: dict[str, Path], backend: str) -> UltralyticsSegmenter:
    path = checkpoints[backend]
    return UltralyticsSegmenter(path, backend=backend, spec=f"{backend}:{path}", device="cpu")


def make_image(height: int = 100, width: int = 140) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = np.full((height, width, 3), 90, np.uint8)
    image[20:70, 30:90] = (200, 40, 30)
    return image + rng.integers(0, 20, image.shape, dtype=np.uint8)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def points(*rows: tuple[float, float]) -> np.ndarray:
    return np.array(rows, np.float64).reshape(-1, 2)


def ask_ultralytics(checkpoint: Path, backend: str, image: np.ndarray, side_px: int, **prompts):
    """(masks at the network's size, scores), (N, 3), as ultralytics' own predictor gives them."""
    import torch
    from ultralytics.models.sam.predict import Predictor, SAM2Predictor

    class Plain(SAM2Predictor if backend == SAM2 else Predictor):
        """Without the parts that choose a device, read files and write results."""

        src_shape = image.shape[:2]

        def __init__(self) -> None:
            self.model = load_network(checkpoint, backend=backend).model
            self.model.set_imgsz((side_px, side_px))
            self.model.eval().fp16 = False
            self.imgsz, self.im, self.features, self.segment_all = [side_px] * 2, None, None, False
            self.device, self.torch_dtype = torch.device("cpu"), torch.float32
            self.mean = torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1)
            self.std = torch.tensor([58.395, 57.12, 57.375]).view(-1, 1, 1)
            self._bb_feat_sizes = [[side_px // stride] * 2 for stride in (4, 8, 16)]

    predictor = Plain()
    with torch.inference_mode():
        pixels = predictor.preprocess([image[:, :, ::-1]])
        masks, scores = predictor.prompt_inference(pixels, multimask_output=True, **prompts)
    return masks.unflatten(0, (-1, 3)), scores.unflatten(0, (-1, 3)).numpy()


def enlarge_as_sam(logits, image: np.ndarray, side_px: int) -> np.ndarray:
    """segment_anything's own way from low-resolution logits (3, h, w) to masks of the image."""
    from types import SimpleNamespace

    from segment_anything.modeling import Sam

    _, scale = letterbox_corner(image, side_px=side_px)
    height, width = (round(side * scale) for side in image.shape[:2])
    sam = SimpleNamespace(image_encoder=SimpleNamespace(img_size=side_px))
    full = Sam.postprocess_masks(sam, logits[None], (height, width), image.shape[:2])
    return (full[0] > 0).numpy()


@pytest.mark.parametrize("kind", ["boxes", "points"])
def test_masks_are_the_best_of_ultralytics_predictor(segmenter, checkpoints, kind):
    backend = segmenter.fingerprint.rpartition("-v1:")[0]
    image = make_image()
    if kind == "boxes":
        wanted = boxes((30, 20, 90, 70), (5, 5, 50.5, 60))
        (found,) = segmenter([image], [wanted])
        prompts = {"bboxes": wanted}
    else:
        wanted = points((60, 45), (10.5, 80))
        (found,) = segmenter.segment_points([image], [wanted])
        prompts = {"points": wanted}
    masks, scores = ask_ultralytics(checkpoints[backend], backend, image, 256, **prompts)
    for row in range(2):
        best = scores[row].argmax()
        assert found.scores[row] == pytest.approx(np.clip(scores[row, best], 0, 1), abs=0.0015)
        expected = enlarge_as_sam(masks[row], image, 256)[best]
        assert (found.masks[row] == expected).mean() > 0.999
    assert found.masks.shape == (2, 100, 140)
    assert np.asarray(found.masks).any()
    assert not np.asarray(found.masks).all()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_masks_are_the_best_of_ultralytics_predictor_at_full_size(checkpoints, backend):
    image, wanted = make_image(300, 200), boxes((30, 20, 90, 70))
    (found,) = load(checkpoints, backend)([image], [wanted])
    masks, scores = ask_ultralytics(checkpoints[backend], backend, image, 1024, bboxes=wanted)
    best = scores[0].argmax()
    assert found.scores[0] == pytest.approx(np.clip(scores[0, best], 0, 1), abs=0.0015)
    assert (found.masks[0] == enlarge_as_sam(masks[0], image, 1024)[best]).mean() > 0.999


def test_a_frame_is_encoded_once_and_one_without_boxes_never(segmenter, monkeypatch):
    encode, sizes = segmenter._network.encode, []
    monkeypatch.setattr(
        segmenter._network, "encode", lambda pixels: (sizes.append(len(pixels)), encode(pixels))[1]
    )
    many = np.tile(boxes((40, 30, 81, 71)), (20, 1))
    first, second = segmenter([make_image()] * 2, [many, boxes()])
    assert sizes == [1]
    assert first.masks.shape == (20, 100, 140)
    assert second.masks.shape == (0, 100, 140)
    np.testing.assert_array_equal(first.masks[0], first.masks[19])


@pytest.mark.parametrize("name", odd_images())
def test_odd_images_and_boxes_outside_of_them_are_taken(segmenter, name):
    image = odd_images()[name]
    height, width = image.shape[:2]
    outside = [(-50, -50, -1, -1), (width, 0, width + 9, 9), (5, 5, 5, 9)]
    wanted = boxes((0, 0, 1, 1), *outside, (-50, -50, 9000, 10))
    (found,) = segmenter([image], [wanted])
    assert found.masks.shape == (5, height, width)
    assert not np.asarray(found.masks)[1:4].any()
    assert found.scores[1:4].tolist() == [0, 0, 0]
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    (inside,) = segmenter([image], [boxes((0, 0, 1, 1), (0, 0, width, min(height, 10)))])
    np.testing.assert_array_equal(np.asarray(found.masks)[[0, 4]], inside.masks)
    np.testing.assert_array_equal(found.scores[[0, 4]], inside.scores)


def test_points_outside_get_an_empty_mask_and_are_not_asked_about(segmenter, monkeypatch):
    wanted = points((-1, 5), (140, 5), (60, 45), (5, 100), (np.nan, 5))
    (found,) = segmenter.segment_points([make_image()], [wanted])
    assert [bool(mask.any()) for mask in found.masks] == [False, False, True, False, False]
    assert found.scores[[0, 1, 3, 4]].tolist() == [0, 0, 0, 0]
    (alone,) = segmenter.segment_points([make_image()], [wanted[2:3]])
    np.testing.assert_array_equal(found.masks[2], alone.masks[0])
    monkeypatch.setattr(segmenter._network, "encode", None)  # would raise
    (none,) = segmenter.segment_points([make_image()], [wanted[:2]])
    assert none.masks.shape == (2, 100, 140)


def test_a_huge_image_gets_a_mask_of_its_size(segmenter):
    (found,) = segmenter([np.zeros((8000, 8000, 3), np.uint8)], [boxes((10, 10, 900, 900))])
    assert found.masks.shape == (1, 8000, 8000)


def test_a_quality_that_is_nan_is_never_the_best(segmenter, monkeypatch):
    import torch

    logits = torch.full((1, 3, 64, 64), torch.nan)
    logits[0, 2] = 1
    quality = torch.tensor([[torch.nan, torch.nan, 0.3]])
    monkeypatch.setattr(segmenter._network, "decode", lambda *_: (logits, quality))
    (found,) = segmenter([make_image()], [boxes((1, 1, 9, 9))])
    assert np.asarray(found.masks).all()
    assert found.scores.tolist() == [pytest.approx(0.3)]
    quality[:] = torch.nan
    (found,) = segmenter([make_image()], [boxes((1, 1, 9, 9))])
    assert not np.asarray(found.masks).any()
    assert found.scores.tolist() == [0]


def test_a_gpu_that_is_full_gets_fewer_prompts_and_the_same_answers(segmenter, monkeypatch):
    import torch

    wanted = boxes(*((x, 10, x + 30, 60) for x in range(0, 100, 20)))
    (expected,) = segmenter([make_image()], [wanted])
    decode, sizes = segmenter._network.decode, []

    def decode_two_at_most(features, corners):
        sizes.append(len(corners))
        if len(corners) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return decode(features, corners)

    monkeypatch.setattr(segmenter._network, "decode", decode_two_at_most)
    (found,) = segmenter([make_image()], [wanted])
    assert sizes == [5, 2, 2, 1]
    np.testing.assert_allclose(found.scores, expected.scores, atol=0.0011)
    assert (np.asarray(found.masks) == np.asarray(expected.masks)).mean() > 0.999
    segmenter._batch.size = 16


def test_a_gpu_without_memory_for_one_frame_is_one_line(segmenter, monkeypatch):
    import torch

    def encode(pixels):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate\n2 GiB")

    monkeypatch.setattr(segmenter._network, "encode", encode)
    with pytest.raises(ConfigError, match=r"the GPU has no memory for a single frame") as caught:
        segmenter([make_image()], [boxes((1, 1, 9, 9))])
    assert "\n" not in str(caught.value)


def test_a_fingerprint_is_of_the_backend_and_the_weights(segmenter, checkpoints):
    backend = segmenter.fingerprint.rpartition("-v1:")[0]
    digest = hashlib.sha256(checkpoints[backend].read_bytes()).hexdigest()
    assert segmenter.fingerprint == f"{backend}-v1:{digest}"
    assert segmenter.spec == f"{backend}:{checkpoints[backend]}"


def test_sam_2_1_loads_as_sam_2_without_what_is_for_videos(checkpoints, monkeypatch):
    monkeypatch.setattr(ultralytics_sam, "_SIDE_PX", 256)
    newer = {SAM2: checkpoints[SAM2].with_name("sam2.1_t.pt")}
    image, wanted = make_image(), boxes((30, 20, 90, 70))
    (old,) = load(checkpoints, SAM2)([image], [wanted])
    (new,) = load(newer, SAM2)([image], [wanted])
    np.testing.assert_array_equal(old.masks, new.masks)


@pytest.mark.parametrize(
    "name",
    ["sam2_t", "sam2_s", "sam2_b", pytest.param("sam2_l", marks=pytest.mark.slow)],  # 900 MB
)
def test_the_size_of_a_sam_2_is_read_off_its_tensors(name):
    from ultralytics.models.sam import build

    assert ultralytics_sam.name_sam2(getattr(build, f"build_{name}")().state_dict()) == name


@pytest.mark.parametrize("kind", ["text", "cut", "empty", "other", "list", "intruder"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_file_that_is_none_is_refused_in_one_line(
    backend, kind, checkpoints, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = write_bad_weights(tmp_path, kind, checkpoints[backend])
    expected = rf"{kind}\.pt is not a checkpoint of (MobileSAM|SAM 2)"
    with pytest.raises(ConfigError, match=expected) as caught:
        load({backend: path}, backend)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "intruded").exists()


def test_weights_of_the_other_backend_are_refused(checkpoints):
    with pytest.raises(ConfigError, match=r"sam2_t\.pt is not a checkpoint of MobileSAM"):
        load({MOBILE_SAM: checkpoints[SAM2]}, MOBILE_SAM)
    with pytest.raises(ConfigError, match=r"mobile_sam\.pt is not a checkpoint of SAM 2"):
        load({SAM2: checkpoints[MOBILE_SAM]}, SAM2)


def test_missing_weights_say_how_to_get_them(tmp_path):
    with pytest.raises(ConfigError, match=r"no weights at .*`ilv models fetch sam2\.1_b\.pt` gets"):
        load({SAM2: tmp_path / "sam2_t.pt"}, SAM2)


def test_a_colon_without_a_checkpoint_behind_it_is_refused(checkpoints):
    with pytest.raises(ConfigError, match=r"'sam2:' names no checkpoint; leave out the colon"):
        UltralyticsSegmenter(checkpoints[SAM2], backend=SAM2, spec="sam2:", device="cpu")


def test_letterbox_corner_puts_the_image_into_the_upper_left_on_grey():
    square, scale = letterbox_corner(np.full((10, 20, 3), 255, np.uint8), side_px=40)
    assert scale == 2
    assert square[:, 0, 0].tolist() == [255] * 20 + [114] * 20
    assert letterbox_corner(np.zeros((1, 900, 3), np.uint8), side_px=40)[0].shape == (40, 40, 3)
