"""Detectors: what each says about frames worked by hand, and which weights files are refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from builders import assert_same_detections
from PIL import Image
from random_weights import encode_by_hash, liven, make_phrases, noise, odd_images, write_bad_weights

from ilv_dataset.errors import ConfigError
from ilv_dataset.models import yolo_world
from ilv_dataset.models.detector import load_detector
from ilv_dataset.models.runtime import BatchSize, letterbox, pick_device, to_rgb
from ilv_dataset.models.text_features import CachedTextEncoder
from ilv_dataset.models.yolo import pick_boxes
from ilv_dataset.models.yolo_network import split_rows, suppress
from ilv_dataset.models.yolo_world import YoloWorldDetector, pad_features
from ilv_dataset.records import Frame, SourceObjects

SHARED = Path(__file__).parents[3] / "shared" / "data"
WEIGHTS = SHARED / "weights" / "yolov8n-seg_int8.onnx"
GOLD = SHARED / "gold" / "real_images.dev"
needs_shared_data = pytest.mark.skipif(not WEIGHTS.exists(), reason=f"no {WEIGHTS}")


def make_frame(
    *names: str,
    boxes: Sequence[Sequence[float]] = (),
    masks: np.ndarray | None = None,
    size_wh: tuple[int, int] = (100, 80),
) -> Frame:
    boxes_xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    return Frame("image", 0, image, SourceObjects(names, boxes_xyxy, masks))


# --- the string that names a detector


@pytest.mark.parametrize("spec", ["", "yolo", "yolo:", "source:x", "owl:weights.pt"])
def test_load_detector_when_there_is_none_of_that_name(spec):
    with pytest.raises(ConfigError, match=r"no detector .*; expected one of source, yolo:WEIGHTS"):
        load_detector(spec)


@pytest.mark.parametrize("spec", ["yolo:none.pt", "yolo:none.onnx", "yolo-world:none.pt"])
def test_load_detector_when_the_weights_are_missing_says_what_to_do(spec):
    expected = r"no weights (at )?none\.\w+ .*(expected|fetch)"
    with pytest.raises(ConfigError, match=expected):
        load_detector(spec)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_a_configuration_error(device):
    with pytest.raises(ConfigError, match=r"no device"):
        pick_device(device)


@pytest.mark.parametrize(
    ("worker", "gpu"), [(None, 0), ("worker_1", 1), ("worker_5", 1), ("sdk-0-3", 3), ("sdk-a", 0)]
)
def test_workers_share_out_the_gpus(worker, gpu, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.delenv("WORKER_ID", raising=False)
    if worker:
        monkeypatch.setenv("WORKER_ID", worker)
    assert str(pick_device(None)) == f"cuda:{gpu}"


# --- source


def test_source_gives_a_phrase_its_box_and_mask():
    masks = np.zeros((2, 80, 100), bool)
    masks[1, 10:20, 30:50] = True
    boxes = [(0, 0, 5, 5), (30, 10, 50, 20)]
    frame = make_frame("blue mug", "red mug", boxes=boxes, masks=masks)
    (found,) = load_detector("source")([frame], [make_phrases("the red mug", "plate")])
    assert found.boxes_xyxy.tolist() == [[30, 10, 50, 20]]
    assert found.scores.tolist() == [1]
    assert found.query_indices.tolist() == [0]
    assert found.masks is not None
    assert found.masks.areas_px().tolist() == [200]
    assert found.reasons == {1: "absent"}


def test_source_counts_visible_pixels_and_calls_the_hidden_absent():
    masks = np.zeros((3, 80, 100), bool)
    masks[0, 0, :18] = True
    masks[1, 5, :17] = True
    boxes = [(0, 0, 18, 1), (0, 5, 17, 6), (0, 0, 0, 0)]
    frame = make_frame("cup", "plate", "fork", boxes=boxes, masks=masks)
    (found,) = load_detector("source")([frame], [make_phrases("cup", "plate", "fork")])
    assert found.query_indices.tolist() == [0]
    assert found.reasons == {1: "box-too-small", 2: "absent"}


def test_source_without_masks_goes_by_the_box():
    boxes = [(0, 0, 100, 41), (-5, 70, 20, 95), (np.nan, 0, 9, 9)]
    frame = make_frame("cloth", "cup", "fork", boxes=boxes)
    (found,) = load_detector("source")([frame], [make_phrases("cloth", "cup", "fork")])
    assert found.masks is None
    assert found.boxes_xyxy.tolist() == [[0, 70, 20, 80]]
    assert found.reasons == {0: "box-too-large"}


def test_source_when_the_frame_marks_nothing_or_asks_nothing():
    source = load_detector("source")
    (found,) = source([make_frame()], [make_phrases("cup")])
    assert found.reasons == {0: "absent"}
    (found,) = source([make_frame("cup", boxes=[(0, 0, 9, 9)])], [[]])
    assert len(found.scores) == 0


def test_source_when_the_reader_gave_no_objects_is_a_bug():
    with pytest.raises(ValueError, match=r"frame 3 of image_0 has no source objects"):
        load_detector("source")([Frame("image_0", 3, np.zeros((4, 4, 3), np.uint8))], [[]])


# --- yolo: which box a phrase gets


@pytest.mark.parametrize(
    ("phrases", "labels", "boxes", "chosen", "reasons"),
    [
        (["orange"], ["orange"], [("orange", 0.38)], {0: 0}, {}),
        (["orange"], ["orange"], [("orange", 0.34)], {}, {0: "absent"}),
        (["orange"], ["orange"], [("apple", 0.9)], {}, {0: "absent"}),
        (["can"], [None], [("cup", 0.9)], {}, {0: "absent"}),
        (["cup"], ["cup"], [("cup", 0.53)], {}, {0: "absent"}),
        (["cup"], ["cup"], [("cup", 0.7), ("cup", 0.65)], {0: 0}, {}),
        (["water bottle"], ["bottle"], [("bottle", 0.8), ("bottle", 0.3)], {0: 0}, {}),
        (["water bottle"], ["bottle"], [("bottle", 0.8), ("bottle", 0.4)], {}, {0: "ambiguous"}),
        (["green apple"], ["apple"], [("apple", 0.8)], {}, {0: "ambiguous"}),
        (["left apple"], ["apple"], [("apple", 0.8)], {}, {0: "ambiguous"}),
        (
            ["cup", "coffee mug"],
            ["cup", "cup"],
            [("cup", 0.8), ("cup", 0.7)],
            {},
            {0: "ambiguous", 1: "ambiguous"},
        ),
        (["apple", "apple"], ["apple", "apple"], [("apple", 0.8)], {0: 0, 1: 0}, {}),
        ([], [], [("apple", 0.8)], {}, {}),
    ],
)
def test_pick_boxes_gives_no_box_rather_than_a_wrong_one(phrases, labels, boxes, chosen, reasons):
    scores = np.array([score for _, score in boxes], np.float32)
    classes = [name for name, _ in boxes]
    assert pick_boxes(scores, classes, make_phrases(*phrases), labels) == (chosen, reasons)


# --- yolo: from raw rows to boxes


def test_split_rows_of_anchors_takes_each_best_class_and_its_coefficients():
    # Two anchors: centre, size, two classes, one coefficient; the second scores too low.
    raw = np.array([[50, 9], [40, 9], [20, 2], [10, 2], [0.1, 0.01], [0.7, 0.02], [5, 6]])
    boxes, scores, classes, coefficients = split_rows(raw, num_classes=2, end2end=False)
    assert boxes.tolist() == [[40, 35, 60, 45]]
    assert (scores.tolist(), classes.tolist(), coefficients.tolist()) == ([0.7], [1], [[5]])


def test_split_rows_takes_no_score_that_is_nan():
    nan = np.nan  # the first class of anchor 0, the second of anchor 1, both of anchor 2
    raw = np.array([[50.0] * 3, [40] * 3, [20] * 3, [10] * 3, [nan, 0.6, nan], [0.7, nan, nan]])
    boxes, scores, classes, _ = split_rows(raw, num_classes=2, end2end=False)
    assert boxes.tolist() == [[40, 35, 60, 45]] * 2
    assert (scores.tolist(), classes.tolist()) == ([0.7, 0.6], [1, 0])
    boxes, scores, _, _ = split_rows(np.array([[1, 2, 3, 4, nan, 7]]), num_classes=9, end2end=True)
    assert (len(boxes), len(scores)) == (0, 0)


def test_split_rows_of_an_end_to_end_network_are_corners_score_and_class():
    raw = np.array([[1, 2, 3, 4, 0.9, 7, 0.5], [1, 2, 3, 4, 0.01, 7, 0.5]])
    boxes, scores, classes, coefficients = split_rows(raw, num_classes=80, end2end=True)
    assert boxes.tolist() == [[1, 2, 3, 4]]
    assert (scores.tolist(), classes.tolist(), coefficients.tolist()) == ([0.9], [7], [[0.5]])


def test_suppress_keeps_the_best_of_those_that_overlap():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [0, 0, 10, 5]], np.float32)
    assert suppress(boxes, np.array([0.5, 0.8, 0.6, 0.3], np.float32)).tolist() == [1, 2, 3]
    assert suppress(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)).tolist() == []


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8000, 8000), (1, 8000)])
def test_letterbox_of_any_image_and_back(height, width):
    batch, (placement,) = letterbox([np.zeros((height, width, 3), np.uint8)], size_wh=(64, 32))
    assert batch.shape == (1, 3, 32, 64)
    left, top = placement.left, placement.top
    right, bottom = left + placement.size_wh[0], top + placement.size_wh[1]
    back = placement.to_frame(np.array([[left, top, right, bottom]]))[0]
    assert back[:2].tolist() == [0, 0]
    assert back[2] == pytest.approx(width)


def test_letterbox_puts_the_image_in_the_middle_on_grey():
    batch, (placement,) = letterbox([np.full((10, 20, 3), 255, np.uint8)], size_wh=(40, 40))
    assert (placement.scale, placement.left, placement.top) == (2, 0, 10)
    assert batch[0, 0, :, 0].tolist() == pytest.approx(
        [114 / 255] * 10 + [1] * 20 + [114 / 255] * 10
    )


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((2, 1, 3), [7, 8, 9]), ((2, 1, 4), [7, 8, 9]), ((2, 1), [7, 7, 7]), ((2, 1, 1), [7, 7, 7])],
)
def test_to_rgb_of_grey_and_of_pictures_with_an_alpha(shape, expected):
    image = np.zeros(shape, np.uint8)
    image[1, 0] = [7, 8, 9, 10][: shape[2]] if len(shape) == 3 else 7
    assert to_rgb(image)[1, 0].tolist() == expected
    assert to_rgb(image).shape == (2, 1, 3)


# --- a GPU without enough memory


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_stays_so():
    import torch

    sizes: list[int] = []

    def double(part):
        sizes.append(len(part))
        if len(part) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return [2 * number for number in part]

    batch = BatchSize(16)
    assert batch.run(double, list(range(20))) == list(range(0, 40, 2))
    assert sizes == [16, 8, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    assert batch.size == 2
    assert batch.run(double, [1, 2, 3]) == [2, 4, 6]
    assert sizes[-2:] == [2, 1]
    assert batch.run(double, []) == []


def test_a_single_frame_that_does_not_fit_is_one_line():
    import torch

    def fail(part):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nOf the allocated memory ...")

    with pytest.raises(ConfigError, match=r"the GPU has no memory for a single frame; ") as caught:
        BatchSize(4).run(fail, [1, 2, 3])
    assert "\n" not in str(caught.value)


def test_another_error_of_a_network_is_a_bug():
    def fail(part):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        BatchSize(4).run(fail, [1, 2, 3])


def test_the_memory_of_a_failed_batch_is_let_go_before_the_next():
    """What a failed forward holds would make the smaller batch fail as well."""
    import gc
    import weakref

    import torch

    class Tensor:
        pass

    held: list[weakref.ref] = []

    def fail_once(part):
        if not held:
            tensor = Tensor()
            held.append(weakref.ref(tensor))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        assert held[0]() is None
        return part

    gc.disable()
    try:
        assert BatchSize(2).run(fail_once, [1, 2]) == [1, 2]
    finally:
        gc.enable()


def test_yolo_of_a_full_gpu_gives_the_same_boxes(weights, monkeypatch):
    import torch

    detector = load_detector(f"yolo:{weights / 'seg.pt'}", device="cpu")
    network = detector._network
    sizes: list[int] = []

    def forward(batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return network.forward(batch)

    images = [noise(40, 60, seed).image for seed in range(5)]
    found = dataclasses.replace(network, forward=forward).detect(images)
    assert sizes == [5, 2, 2, 1]
    for one, other in zip(network.detect(images), found, strict=True):
        assert len(one.scores) > 0
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=0.11)


# --- yolo: real weights on real robot images


def detect_gold(detector, image: str, *phrases: str):
    pixels = np.asarray(Image.open(GOLD / "images" / image).convert("RGB"))
    (found,) = detector([Frame("image", 0, pixels)], [make_phrases(*phrases)])
    return found


@needs_shared_data
def test_yolo_finds_the_orange_and_never_a_can():
    detector = load_detector(f"yolo:{WEIGHTS}")
    found = detect_gold(detector, "rt1_move_near_real_5_1.png", "orange", "pepsi can")
    (box,) = found.boxes_xyxy
    assert np.abs(box - [65, 63, 94, 93]).max() <= 3  # as drawn by eye, see annotations.json
    assert found.masks is not None
    assert 500 < found.masks[0].sum() < 800
    assert found.reasons == {1: "absent"}


@needs_shared_data
def test_yolo_gives_no_labelled_object_of_a_robot_image_a_wrong_box():
    detector = load_detector(f"yolo:{WEIGHTS}")
    right = []
    for entry in json.loads((GOLD / "annotations.json").read_text()):
        names = [item["name"] for item in entry["objects"]]
        found = detect_gold(detector, Path(entry["image"]).name, *names)
        for query, box in zip(found.query_indices, found.boxes_xyxy, strict=True):
            assert np.abs(box - entry["objects"][query]["box"]).max() <= 4
            right.append(names[query])
    assert set(right) == {"orange", "water bottle"}


@needs_shared_data
def test_yolo_says_the_same_whatever_the_batch():
    detector = load_detector(f"yolo:{WEIGHTS}")
    frames = [noise(60, 80), noise(1, 1), noise(300, 200)]
    queries = [make_phrases("cup"), make_phrases(*["chair"] * 50), make_phrases("x" * 500)]
    together = detector(frames, queries)
    apart = [detector([frame], [wanted])[0] for frame, wanted in zip(frames, queries, strict=True)]
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
        np.testing.assert_array_equal(one.scores, other.scores)
        assert one.reasons == other.reasons


# --- weights that are none


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A folder with random weights of a segmentation network and of a YOLO-World."""
    from ilv_dataset.models.ultralytics_runtime import prepare_ultralytics

    prepare_ultralytics()
    import torch
    from ultralytics.nn.tasks import ClassificationModel, SegmentationModel, WorldModel

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    networks = {
        "seg": SegmentationModel("yolov8n-seg.yaml", ch=3, nc=3, verbose=False),
        "world": WorldModel("yolov8n-worldv2.yaml", ch=3, nc=80, verbose=False),
        "cls": ClassificationModel("yolov8n-cls.yaml", ch=3, nc=3, verbose=False),
    }
    for head in networks["world"].model[-1].cv4:  # fresh ones score 0.00 everywhere
        torch.nn.init.constant_(head.bias, 0)
        torch.nn.init.constant_(head.logit_scale, 2)
    networks["seg"].names = {0: "bowl", 1: "fork", 2: "chair"}
    liven(networks["seg"])
    for branch in networks["seg"].model[-1].cv3:
        torch.nn.init.constant_(branch[-1].bias, 0)  # fresh ones score 0.00 everywhere
    for name, network in networks.items():
        torch.save({"model": network, "train_args": {"imgsz": 128}}, folder / f"{name}.pt")
    return folder


@pytest.mark.parametrize("kind", ["text", "cut", "empty", "other", "list", "intruder"])
@pytest.mark.parametrize("detector", ["yolo", "yolo-world"])
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(
    detector, kind, weights, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = write_bad_weights(tmp_path, kind, weights / "seg.pt")
    with pytest.raises(
        ConfigError, match=rf"{kind}\.pt is not an ultralytics checkpoint"
    ) as caught:
        load_detector(f"{detector}:{path}")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "intruded").exists()


def test_an_onnx_file_that_is_none_is_refused_in_one_line(tmp_path):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "text.onnx"
    path.write_text("these are not weights")
    with pytest.raises(ConfigError, match=r"text\.onnx is not an ONNX model") as caught:
        load_detector(f"yolo:{path}")
    assert "\n" not in str(caught.value)


def test_weights_of_another_task_or_kind_are_refused(weights, tmp_path):
    with pytest.raises(ConfigError, match=r"cls\.pt is a network to classify; expected one to det"):
        load_detector(f"yolo:{weights / 'cls.pt'}")
    with pytest.raises(ConfigError, match=r"seg\.pt is not a YOLO-World checkpoint"):
        load_detector(f"yolo-world:{weights / 'seg.pt'}")
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"model\.bin: expected .* ends in \.pt or \.onnx"):
        load_detector(f"yolo:{tmp_path / 'model.bin'}")


def test_a_segmentation_checkpoint_loads_and_has_masks(weights):
    detector = load_detector(f"yolo:{weights / 'seg.pt'}", device="cpu")
    digest = hashlib.sha256((weights / "seg.pt").read_bytes()).hexdigest()
    assert detector.has_masks
    assert detector.fingerprint == f"yolo-v3:{digest}"
    (found,) = detector([noise(50, 60)], [make_phrases("cup")])
    assert found.masks is None  # none of the three classes was asked for


@pytest.mark.parametrize("name", [*odd_images(), "huge"])
def test_yolo_takes_odd_frames(weights, name):
    image = {**odd_images(), "huge": np.zeros((8000, 8000, 3), np.uint8)}[name]
    detector = load_detector(f"yolo:{weights / 'seg.pt'}", device="cpu")
    (candidates,) = detector._network.detect([image])
    height, width = image.shape[:2]
    assert (candidates.boxes_xyxy <= [width, height, width, height]).all()
    (found,) = detector([Frame("image", 0, image)], [make_phrases("bowl", "x" * 500)])
    assert 1 in found.reasons
    assert found.masks is None or found.masks.shape[1:] == (height, width)  # None: no bowl there


# --- yolo-world


@pytest.fixture
def world(weights, monkeypatch) -> YoloWorldDetector:
    monkeypatch.setattr(yolo_world, "SCORE_MIN", 0.0)
    path = weights / "world.pt"
    return YoloWorldDetector(path, spec="", device="cpu", encode_texts=encode_by_hash)


def test_yolo_world_answers_each_image_from_its_own_prompts_alone(world):
    frames = [noise(90, 120, seed) for seed in range(3)]
    few, many = make_phrases("cup"), make_phrases("red mug", "plate", "fork", "pot")
    first = world(frames, [few, many, many])
    second = world(frames, [few, make_phrases("towel"), make_phrases("knife", "lid")])
    assert len(first[0].scores) > 0
    # The other images' prompts changed, this one's did not; and padding changes nothing.
    assert_same_detections(first[0], second[0])
    assert_same_detections(first[0], world(frames[:1], [few])[0])
    other = world(frames[:1], [make_phrases("plate")])[0]
    assert other.scores.tolist() != first[0].scores.tolist()


def test_yolo_world_gives_two_mentions_of_one_query_the_same_boxes(world):
    (found,) = world([noise(90, 120)], [make_phrases("cup", "cup")])
    half = len(found.scores) // 2
    assert found.query_indices.tolist() == [0] * half + [1] * half
    np.testing.assert_array_equal(found.boxes_xyxy[:half], found.boxes_xyxy[half:])


def test_yolo_world_encodes_each_query_once(weights, tmp_path):
    asked: list[str] = []

    def encode(texts: Sequence[str]) -> np.ndarray:
        asked.extend(texts)
        return encode_by_hash(texts)

    path = weights / "world.pt"
    cached = CachedTextEncoder(lambda: encode, digest="a", folder=tmp_path)
    detector = YoloWorldDetector(path, spec="", device="cpu", encode_texts=cached)
    detector([noise(9, 9), noise(9, 9)], [make_phrases("cup", "plate"), make_phrases("cup")])
    detector([noise(9, 9)], [make_phrases("plate", "x" * 500)])
    assert asked == ["cup", "plate", "x" * 500]


def test_yolo_world_survives_odd_frames_and_many_phrases(world):
    frames = [noise(1, 1), noise(1, 300), noise(40, 40)]
    queries = [make_phrases("cup"), make_phrases(*(f"thing {n}" for n in range(50))), []]
    found = world(frames, queries)
    assert len(found) == 3
    assert found[0].reasons == {0: "box-too-large"} or len(found[0].scores) == 0
    assert len(found[2].scores) == 0


def test_pad_features_repeats_the_images_own_first_prompt():
    one, other = np.array([[1, 1], [2, 2]], np.float32), np.array([[3, 3]], np.float32)
    assert pad_features([one, other]).tolist() == [[[1, 1], [2, 2]], [[3, 3], [3, 3]]]


def test_yolo_world_without_open_clip_names_the_extra(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    detector = load_detector(f"yolo-world:{weights / 'world.pt'}")
    with pytest.raises(ConfigError, match=r"needs open_clip: pip install 'ilv-dataset\[clip\]'"):
        detector.learn(["a phrase that nobody has asked for yet"])


# --- silence


QUIET_SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from ilv_dataset.models.detector import load_detector
from ilv_dataset.models.yolo_world import YoloWorldDetector
from ilv_dataset.records import Frame, Phrase

frame = Frame("image", 0, np.zeros((64, 64, 3), np.uint8))
queries = [[Phrase("cup", 0, 3, "cup", "object")]]
folder = Path(sys.argv[1])
load_detector(f"yolo:{folder / 'seg.pt'}", device="cpu")([frame], queries)
encode = lambda texts: np.ones((len(texts), 512), np.float32)
world = YoloWorldDetector(folder / "world.pt", spec="", device="cpu", encode_texts=encode)
world([frame], queries)
"""


def test_ultralytics_prints_nothing_and_leaves_no_file_in_the_home(weights, tmp_path):
    home, cwd = tmp_path / "home", tmp_path / "cwd"
    home.mkdir()
    cwd.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("YOLO_", "XDG_", "MPL"))}
    env = {**kept, "HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", QUIET_SCRIPT, str(weights)]
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert list(home.iterdir()) == []
    assert list(cwd.iterdir()) == []
