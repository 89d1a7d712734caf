"""YOLOE with random weights, made, saved and loaded as the published ones are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from builders import assert_same_detections
from random_weights import (
    encode_by_hash,
    liven,
    make_phrases,
    noise,
    odd_images,
    save_text_tower,
    write_bad_weights,
)

from ilv_dataset.boxes import choose_boxes
from ilv_dataset.errors import ConfigError
from ilv_dataset.masks import mask_boxes_xyxy
from ilv_dataset.models import yoloe
from ilv_dataset.models.open_vocabulary import best_of_texts, hand_out
from ilv_dataset.models.yoloe import YoloeDetector
from ilv_dataset.records import Frame

CONFIGS = {"v8": "yoloe-v8n-seg.yaml", "11": "yoloe-11n-seg.yaml", "26": "yoloe-26n-seg.yaml"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A folder with random weights of each kind of YOLOE that is published."""
    from ilv_dataset.models.ultralytics_runtime import prepare_ultralytics

    prepare_ultralytics()
    import torch
    from ultralytics.nn.tasks import SegmentationModel, YOLOEModel, YOLOESegModel

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    networks = {
        name: YOLOESegModel(config, ch=3, nc=80, verbose=False) for name, config in CONFIGS.items()
    }
    networks["boxes"] = YOLOEModel("yoloe-v8n.yaml", ch=3, nc=80, verbose=False)
    prompts = torch.from_numpy(encode_by_hash(["cup", "plate"]))[None].expand(4, -1, -1)
    for network in networks.values():
        liven(network, tpe=prompts)
        for name, child in network.model[-1].named_modules():
            if name.startswith(("cv4.", "one2one_cv4.")) and hasattr(child, "logit_scale"):
                torch.nn.init.constant_(child.bias, -1)  # fresh ones score 0.00 everywhere
                torch.nn.init.constant_(child.logit_scale, 0.5)
    networks["seg"] = SegmentationModel("yolov8n-seg.yaml", ch=3, nc=3, verbose=False)
    for name, network in networks.items():
        torch.save({"model": network, "train_args": {"imgsz": 128}}, folder / f"{name}.pt")
    return folder


@pytest.fixture(params=[*CONFIGS, "boxes"])
def detector(weights, request, monkeypatch) -> YoloeDetector:
    monkeypatch.setattr(yoloe, "SCORE_MIN", 0.001)
    return load(weights / f"{request.param}.pt")


def load(path: Path) -> YoloeDetector:
    return YoloeDetector(path, spec=f"yoloe:{path}", device="cpu", encode_texts=encode_by_hash)


def test_each_image_is_answered_from_its_own_prompts_alone(detector):
    frames = [noise(90, 120, seed) for seed in range(3)]
    few, many = make_phrases("cup"), make_phrases("red mug", "plate", "fork", "pot")
    first = detector(frames, [few, many, many])
    second = detector(frames, [few, make_phrases("towel"), make_phrases("knife", "lid")])
    assert len(first[0].scores) > 0
    # The other images' prompts changed, this one's did not; and padding changes nothing.
    assert_same_detections(first[0], second[0])
    assert_same_detections(first[0], detector(frames[:1], [few])[0])
    other = detector(frames[:1], [make_phrases("plate")])[0]
    assert other.boxes_xyxy.tolist() != first[0].boxes_xyxy.tolist()


def test_masks_are_of_the_frame_and_inside_their_boxes(detector):
    (found,) = detector([noise(90, 120)], [make_phrases("cup", "plate")])
    assert detector.has_masks == (found.masks is not None)
    if found.masks is None:
        return
    assert found.masks.shape == (len(found.scores), 90, 120)
    for mask, (x0, y0, x1, y1) in zip(found.masks, found.boxes_xyxy, strict=True):
        rows, columns = np.nonzero(mask)
        assert columns.min() >= np.floor(x0)
        assert columns.max() < np.ceil(x1)
        assert rows.min() >= np.floor(y0)
        assert rows.max() < np.ceil(y1)


def test_a_phrase_is_answered_the_same_whatever_else_is_asked(detector):
    assert detector.is_independent
    (alone,) = detector([noise(90, 120)], [make_phrases("red mug")])
    (among,) = detector([noise(90, 120)], [make_phrases("red mug", "pot", "cup")])
    mine = among.take(np.flatnonzero(among.query_indices == 0))
    assert len(alone.scores) > 0
    assert_same_detections(alone, mine)
    np.testing.assert_array_equal(np.asarray(alone.masks), np.asarray(mine.masks))


def test_two_mentions_of_one_query_get_the_same_boxes(detector):
    (found,) = detector([noise(90, 120)], [make_phrases("cup", "cup")])
    half = len(found.scores) // 2
    assert half > 0
    assert found.query_indices.tolist() == [0] * half + [1] * half
    np.testing.assert_array_equal(found.boxes_xyxy[:half], found.boxes_xyxy[half:])


def test_scores_and_boxes_are_ultralytics_own_of_set_classes(weights):
    """The same prompts through ultralytics' way: set_classes, and one list for all images."""
    import torch

    from ilv_dataset.models.runtime import letterbox
    from ilv_dataset.models.ultralytics_runtime import load_checkpoint

    texts = ["red mug", "plate"]
    frame = noise(128, 128)
    reference = load_checkpoint(weights / "v8.pt", device=torch.device("cpu"))
    batch, _ = letterbox([frame.image], size_wh=(128, 128))
    with torch.inference_mode():
        features = reference.model[-1].get_tpe(torch.from_numpy(encode_by_hash(texts))[None])
        reference.set_classes(texts, features)
        raw = reference(torch.from_numpy(batch))[0][0][0].numpy()
    (found,) = load(weights / "v8.pt")([frame], [make_phrases(*texts)])
    for query in range(2):
        best = raw[4 + query].argmax()
        center, size = raw[:2, best], raw[2:4, best]
        mine = np.flatnonzero(found.query_indices == query)
        corners = np.clip([*(center - size / 2), *(center + size / 2)], 0, 128)
        np.testing.assert_allclose(found.boxes_xyxy[mine[0]], corners, atol=0.2)
        assert found.scores[mine[0]] == pytest.approx(raw[4 + query, best], abs=0.002)


@pytest.mark.parametrize("name", odd_images())
def test_odd_frames_are_taken(detector, name):
    frame = Frame("image", 0, odd_images()[name])
    (found,) = detector([frame], [make_phrases("cup", "x" * 500)])
    height, width = frame.image.shape[:2]
    assert (found.boxes_xyxy <= [width, height, width, height]).all()
    assert (found.masks is not None) == detector.has_masks
    assert found.masks is None or found.masks.shape[1:] == (height, width)


@pytest.mark.parametrize(("side", "num"), [(8000, 3), (800, 50)])
def test_huge_frames_and_many_phrases_keep_boxes_and_masks_of_all(weights, monkeypatch, side, num):
    monkeypatch.setattr(yoloe, "SCORE_MIN", 0.001)
    frame = Frame("image", 0, cv2.resize(noise(80, 80).image, (side, side), interpolation=0))
    phrases = make_phrases(*(f"thing {number}" for number in range(num)))
    detector = load(weights / "v8.pt")
    (found,) = detector([frame], [phrases])
    answered = {*found.query_indices.tolist(), *found.reasons}
    assert "absent" not in {c.reason for c in choose_boxes(found, phrases)}
    assert answered == set(range(num))
    masks, boxes = [*found.masks], found.boxes_xyxy
    assert all(mask.any() and mask.shape == (side, side) for mask in masks)
    seen = mask_boxes_xyxy(masks)
    assert (seen[:, :2] >= np.floor(boxes[:, :2])).all()
    assert (seen[:, 2:] <= np.ceil(boxes[:, 2:])).all()


def test_a_frame_without_queries_is_not_looked_at(weights):
    (found,) = load(weights / "v8.pt")([noise(9, 9)], [[]])
    assert len(found.scores) == 0


def test_scores_that_are_nan_are_dropped(weights, monkeypatch):
    import torch

    detector = load(weights / "v8.pt")
    raw = torch.ones(1, 4 + 2 + 32, 3)
    raw[0, :4] = torch.tensor([[40.0, 60, 40], [40, 60, 40], [20, 20, 20], [20, 20, 20]])
    raw[0, 4] = torch.tensor([0.9, torch.nan, torch.nan])
    raw[0, 5] = torch.tensor([torch.nan, 0.8, 0.1])
    output = ((raw, torch.ones(1, 32, 32, 32)), None)
    monkeypatch.setattr(detector._model, "predict", lambda *_, **__: output)
    (found,) = detector([noise(128, 128)], [make_phrases("cup", "plate")])
    assert found.boxes_xyxy.tolist() == [[30, 30, 50, 50], [50, 50, 70, 70]]
    assert found.query_indices.tolist() == [0, 1]
    np.testing.assert_allclose(found.scores, [0.9, 0.8], atol=1e-6)


def test_a_gpu_that_is_full_gets_smaller_batches_and_the_same_answers(weights, monkeypatch):
    import torch

    detector = load(weights / "v8.pt")
    monkeypatch.setattr(yoloe, "SCORE_MIN", 0.001)
    frames, queries = [noise(40, 60, seed) for seed in range(5)], [make_phrases("cup")] * 5
    expected = detector(frames, queries)
    assert all(len(found.scores) for found in expected)
    predict, sizes = detector._model.predict, []

    def predict_two_at_most(pixels, **prompts):
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return predict(pixels, **prompts)

    monkeypatch.setattr(detector._model, "predict", predict_two_at_most)
    for one, other in zip(expected, detector(frames, queries), strict=True):
        assert_same_detections(one, other)
    assert sizes == [5, 2, 2, 1]


def test_float16_leaves_boxes_their_precision(weights):
    """The halved network, which a GPU runs; here on the CPU, which can, slowly."""
    import torch

    from ilv_dataset.models.ultralytics_runtime import load_checkpoint, to_input, use_half

    pixels = noise(640, 640).image.transpose(2, 0, 1)[None].astype(np.float32) / 255
    prompts = encode_by_hash(["cup", "plate"])[None]
    raw = []
    for prepare in (lambda model: model, use_half):
        model = prepare(load_checkpoint(weights / "v8.pt", device=torch.device("cpu")))
        with torch.inference_mode():
            output = model.predict(to_input(pixels, model), tpe=to_input(prompts, model))
        raw.append(output[0][0].float())
    single, half = raw
    assert next(model.parameters()).dtype == torch.float16
    assert (single[:, :4] - half[:, :4]).abs().median() < 0.2
    assert (single[:, 4:6] - half[:, 4:6]).abs().mean() < 0.01
    large = half[:, :2][half[:, :2] > 512]  # where float16 knows every half pixel alone
    assert (large != large.half().float()).float().mean() > 0.5


def test_the_fingerprint_is_of_the_weights_and_of_the_text_encoder(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("ILV_MODELS", str(tmp_path))
    text = save_text_tower(tmp_path / "mobileclip_blt.ts")
    path = tmp_path / "v8.pt"
    path.write_bytes((weights / "v8.pt").read_bytes())
    detector = YoloeDetector(path, spec="yoloe:v8.pt", device="cpu")
    digests = [hashlib.sha256(each.read_bytes()).hexdigest() for each in (path, text)]
    assert detector.fingerprint == f"yoloe-v2:{digests[0]}+{digests[1][:16]}-mobileclip"
    assert detector.spec == "yoloe:v8.pt"
    (found,) = detector([noise(40, 50)], [make_phrases("cup")])
    assert (found.scores >= yoloe.SCORE_MIN).all()


def test_what_one_process_has_learnt_another_knows_without_the_text_encoder(
    weights, tmp_path, monkeypatch
):
    monkeypatch.setenv("ILV_MODELS", str(tmp_path))
    text = save_text_tower(tmp_path / "mobileclip_blt.ts")
    digest = hashlib.sha256(text.read_bytes()).hexdigest()
    (tmp_path / "checksums.json").write_text(json.dumps({text.name: digest}))
    YoloeDetector(weights / "v8.pt", spec="", device="cpu").learn(["cup", "plate", "cup"])
    text.unlink()
    second = YoloeDetector(weights / "v8.pt", spec="", device="cpu")
    second.learn({"plate"})
    second([noise(40, 50)], [make_phrases("cup", "plate")])
    with pytest.raises(ConfigError, match=r"no weights mobileclip_blt\.ts in .*models fetch mob"):
        second.learn(["fork"])


def test_without_its_text_encoder_it_says_how_to_get_it(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no weights mobileclip_blt\.ts .*`ilv models fetch mob"):
        YoloeDetector(weights / "v8.pt", spec="", device="cpu")
    with pytest.raises(ConfigError, match=r"no weights mobileclip2_b\.ts .*`ilv models fetch mob"):
        YoloeDetector(weights / "26.pt", spec="", device="cpu")


@pytest.mark.parametrize("kind", ["text", "cut", "empty", "other", "list", "intruder"])
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(kind, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_bad_weights(tmp_path, kind, weights / "v8.pt")
    with pytest.raises(ConfigError, match=rf"{kind}\.pt is not an ultralytics checkpo") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "intruded").exists()


def test_networks_of_another_kind_are_refused(weights, tmp_path):
    import torch

    with pytest.raises(ConfigError, match=r"seg\.pt is not a YOLOE checkpoint that takes texts"):
        load(weights / "seg.pt")
    fused = torch.load(weights / "v8.pt", weights_only=False)
    fused["model"].eval().model[-1].fuse(torch.zeros(1, 80, 512))
    torch.save(fused, tmp_path / "v8-pf.pt")
    with pytest.raises(ConfigError, match=r"v8-pf\.pt is not a YOLOE checkpoint that takes texts"):
        load(tmp_path / "v8-pf.pt")


# --- whose boxes they are


def test_best_of_texts_keeps_the_best_of_those_of_one_text_that_overlap():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
    scores = np.array([0.5, 0.8, 0.3, 0.6], np.float32)
    texts = np.array([0, 0, 1, 0])
    assert best_of_texts(boxes, scores, texts, num_texts=3).tolist() == [1, 3, 2]
    assert best_of_texts(boxes[:0], scores[:0], texts[:0], num_texts=3).tolist() == []


def test_best_of_texts_keeps_five_of_a_text():
    boxes = np.array([[20 * n, 0, 20 * n + 10, 10] for n in range(9)], np.float32)
    scores = np.linspace(0.1, 0.9, 9, dtype=np.float32)
    kept = best_of_texts(boxes, scores, np.zeros(9, int), num_texts=1)
    assert kept.tolist() == [8, 7, 6, 5, 4]


def test_hand_out_gives_queries_of_one_text_the_same_boxes():
    queries = make_phrases("cup", "plate", "cup")
    indices, rows = hand_out(queries, np.array([1, 0, 0]))
    assert indices.tolist() == [0, 0, 1, 2, 2]
    assert rows.tolist() == [1, 2, 0, 1, 2]
    indices, rows = hand_out([], np.array([], np.int64))
    assert (indices.tolist(), rows.tolist()) == ([], [])
