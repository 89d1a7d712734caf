"""SAM 3 with random weights of its classes, narrower and shallower, saved as it is published."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from random_weights import make_phrases, noise, odd_images, write_bad_weights

from ilv_dataset.errors import ConfigError
from ilv_dataset.models import sam3
from ilv_dataset.models.sam3 import Sam3Detector, build_sam3
from ilv_dataset.records import Frame

pytest.importorskip("open_clip")
SIDE_PX = 252  # a multiple of its patch of 14
# What a checkpoint may lack; the other tensors are asked for by name.
UNUSED = ("geometry_encoder.", "backbone.vision_backbone.sam2_convs.")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A checkpoint with the keys that Meta's has: those of the detector, and others."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        import torch

        torch.manual_seed(0)
        model = build_sam3()
        for name, parameter in model.named_parameters():
            if name.startswith("backbone.language_backbone."):  # some are left as memory had them
                torch.nn.init.normal_(parameter, std=0.3)
        # Fresh ones score 0.5 for everything.
        torch.nn.init.constant_(model.transformer.decoder.presence_token_head.layers[-1].bias, 9)
        state = {
            f"detector.{name}": tensor
            for name, tensor in model.state_dict().items()
            if not name.startswith(UNUSED)
        }
        state["tracker.maskmem_tpos_enc"] = torch.zeros(7, 1, 1, 64)
        path = tmp_path_factory.mktemp("sam3") / "sam3.pt"
        torch.save({"model": state}, path)
    return path


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Makes ultralytics' builder build a SAM 3 of two layers, 32 wide, that sees 252 px."""
    from ilv_dataset.models.ultralytics_runtime import prepare_ultralytics

    prepare_ultralytics()
    from ultralytics.models.sam import build_sam3 as builder

    vit, text = builder.ViT, builder.VETextEncoder
    narrow = {"embed_dim": 32, "num_heads": 2, "depth": 2, "mlp_ratio": 2.0}
    patch.setattr(
        builder, "ViT", lambda **sizes: vit(**{**sizes, **narrow, "global_att_blocks": (1,)})
    )
    shallow = {"width": 32, "heads": 2, "layers": 1}
    patch.setattr(builder, "VETextEncoder", lambda **sizes: text(**{**sizes, **shallow}))
    patch.setattr(sam3, "_SIDE_PX", SIDE_PX)


@pytest.fixture(scope="module")
def detector(weights) -> Sam3Detector:
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        patch.setattr(sam3, "SCORE_MIN", 0.05)
        yield Sam3Detector(weights, spec="sam3:sam3.pt", device="cpu")


@pytest.fixture
def small(monkeypatch) -> None:
    make_small(monkeypatch)


def assert_equal(one, other):
    np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=0.11)
    np.testing.assert_allclose(one.scores, other.scores, atol=0.0011)
    np.testing.assert_array_equal(one.query_indices, other.query_indices)
    np.testing.assert_array_equal(np.asarray(one.masks), np.asarray(other.masks))


def test_answers_are_those_of_ultralytics_predictor(detector):
    """The same image and texts through SAM3SemanticPredictor, as far as its raw answers."""
    import torch
    from ultralytics.models.sam.predict import SAM3SemanticPredictor

    frame, texts = noise(90, 120), ["red mug", "plate"]

    class Plain(SAM3SemanticPredictor):
        """Without the parts that choose a device, read files and write results."""

        def __init__(self) -> None:
            self.model, self.imgsz = detector._model, [SIDE_PX] * 2
            self.model.fp16, self.im, self.features = False, None, None
            self.device, self.torch_dtype = torch.device("cpu"), torch.float32
            self.mean = self.std = torch.tensor([127.5] * 3).view(-1, 1, 1)

    predictor = Plain()
    with torch.inference_mode():
        features = predictor.get_im_features(predictor.preprocess([frame.image[:, :, ::-1]]))
        raw = predictor._inference_features(features, text=texts)
    scores = (raw["pred_logits"].sigmoid() * raw["presence_logit_dec"].sigmoid()[:, :, None])[
        ..., 0
    ]
    (found,) = detector([frame], [make_phrases(*texts)])
    assert set(found.query_indices.tolist()) == {0, 1}
    for query in range(2):
        center, size = raw["pred_boxes"][query].numpy().reshape(-1, 2, 2).transpose(1, 0, 2)
        corners = np.concatenate([center - size / 2, center + size / 2], axis=1)
        corners = np.clip(corners * [120, 90, 120, 90], 0, [120, 90, 120, 90])
        for row in np.flatnonzero(found.query_indices == query):
            distances = np.abs(corners - found.boxes_xyxy[row]).max(axis=1)
            same = int(distances.argmin())
            assert distances[same] < 0.06
            assert found.scores[row] == pytest.approx(float(scores[query, same]), abs=0.0011)
            logits = cv2.resize(raw["pred_masks"][query, same].numpy(), (120, 90))
            assert (found.masks[row] == (logits > 0)).mean() > 0.999


def test_each_image_is_answered_from_its_own_phrases_alone(detector):
    frames = [noise(90, 120, seed) for seed in range(2)]
    few, many = make_phrases("cup"), make_phrases("red mug", "plate", "fork")
    first = detector(frames, [few, many])
    assert_equal(first[0], detector(frames, [few, make_phrases("towel")])[0])
    assert_equal(first[0], detector(frames[:1], [few])[0])
    assert len(first[0].scores) > 0
    assert first[0].masks.shape == (len(first[0].scores), 90, 120)


def test_a_phrase_is_answered_the_same_whatever_else_is_asked(detector):
    assert detector.is_independent
    (alone,) = detector([noise(90, 120)], [make_phrases("red mug")])
    (among,) = detector([noise(90, 120)], [make_phrases("red mug", "pot", "cup")])
    assert len(alone.scores) > 0
    assert_equal(alone, among.take(np.flatnonzero(among.query_indices == 0)))


def test_two_mentions_of_one_query_get_the_same_boxes_and_masks(detector):
    (found,) = detector([noise(90, 120)], [make_phrases("cup", "cup")])
    half = len(found.scores) // 2
    assert half > 0
    assert found.query_indices.tolist() == [0] * half + [1] * half
    np.testing.assert_array_equal(found.boxes_xyxy[:half], found.boxes_xyxy[half:])
    np.testing.assert_array_equal([*found.masks][:half], [*found.masks][half:])


def test_a_text_is_encoded_once_and_an_image_once(detector, monkeypatch):
    backbone, asked, sizes = detector._model.backbone, [], []
    forward_text, forward_image = backbone.forward_text, backbone.forward_image
    monkeypatch.setattr(
        backbone, "forward_text", lambda texts: (asked.append(texts), forward_text(texts))[1]
    )
    monkeypatch.setattr(
        backbone, "forward_image", lambda x: (sizes.append(len(x)), forward_image(x))[1]
    )
    detector._texts.clear()
    phrases = make_phrases("cup", "plate", "cup")
    detector([noise(9, 9), noise(9, 9), noise(9, 9)], [phrases, [], phrases])
    assert asked == [["cup"], ["plate"]]
    assert sizes == [2]


@pytest.mark.parametrize("name", odd_images())
def test_odd_frames_are_taken(detector, name):
    frame = Frame("image", 0, odd_images()[name])
    (found,) = detector([frame], [make_phrases("cup", "x" * 500)])
    height, width = frame.image.shape[:2]
    assert (found.boxes_xyxy <= [width, height, width, height]).all()
    assert found.masks.shape == (len(found.scores), height, width)


@pytest.mark.parametrize(("side", "num"), [(8000, 2), (400, 20)])
def test_a_huge_frame_and_many_phrases(detector, side, num):
    frame = Frame("image", 0, np.zeros((side, side, 3), np.uint8))
    (found,) = detector([frame], [make_phrases(*(f"thing {number}" for number in range(num)))])
    assert set(found.query_indices.tolist()) == set(range(num))
    assert found.masks.shape == (len(found.scores), side, side)


def test_scores_that_are_nan_are_dropped(detector, monkeypatch):
    import torch

    def answer(features, text_ids):
        boxes = torch.tensor([[[0.25, 0.25, 0.5, 0.75], [0.5, 0.0, 1.0, 0.5]]])
        return {
            "presence_logit_dec": torch.full((1, 1), 20.0),
            "pred_logits": torch.tensor([[[torch.nan], [2.0]]]),
            "pred_boxes_xyxy": boxes,
            "pred_masks": torch.ones(1, 2, 4, 4),
        }

    monkeypatch.setattr(detector._model, "forward_grounding", answer)
    (found,) = detector([noise(40, 80)], [make_phrases("cup")])
    assert found.boxes_xyxy.tolist() == [[40, 0, 80, 20]]
    assert found.scores.tolist() == [pytest.approx(0.881)]  # 1 / (1 + exp(-2))


def test_a_gpu_that_is_full_gets_fewer_texts_and_the_same_answers(detector, monkeypatch):
    import torch

    phrases = make_phrases("cup", "plate", "fork")
    (expected,) = detector([noise(60, 80)], [phrases])
    assert len(expected.scores) > 0
    ground, sizes = detector._model.forward_grounding, []

    def ground_one_at_most(features, text_ids):
        sizes.append(len(text_ids))
        if len(text_ids) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return ground(features, text_ids)

    monkeypatch.setattr(detector._model, "forward_grounding", ground_one_at_most)
    (found,) = detector([noise(60, 80)], [phrases])
    assert_equal(found, expected)
    assert sizes == [3, 1, 1, 1]
    detector._texts_batch.size = 16


def test_a_gpu_that_is_full_of_a_text_is_one_line(detector, monkeypatch):
    import torch

    def encode(texts):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(detector._model.backbone, "forward_text", encode)
    with pytest.raises(ConfigError, match="the GPU has no memory for a single"):
        detector([noise(9, 9)], [make_phrases("a new text")])


def test_it_is_one_model_with_masks(detector, weights):
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert detector.has_masks
    assert not detector.needs_source_objects
    assert detector.fingerprint == f"sam3-v2:{digest}"
    assert detector.spec == "sam3:sam3.pt"


def test_a_colon_without_weights_behind_it_is_refused(weights):
    with pytest.raises(ConfigError, match=r"'sam3:' names no weights; leave out the colon"):
        Sam3Detector(weights, spec="sam3:", device="cpu")


def test_nothing_is_left_of_what_the_builder_is_given(detector):
    from ultralytics.models.sam import build_sam3 as builder

    assert "clip" not in sys.modules
    assert builder._load_checkpoint is not sam3._as_is


def test_weights_that_lack_a_tensor_are_refused(weights, small, tmp_path):
    import torch

    state = torch.load(weights, weights_only=True)["model"]
    del state["detector.transformer.decoder.presence_token.weight"]
    torch.save({"model": state}, tmp_path / "sam3.pt")
    expected = r"not a checkpoint of SAM 3: it lacks 1 tensors, such as transformer\.decoder\.pres"
    with pytest.raises(ConfigError, match=expected):
        Sam3Detector(tmp_path / "sam3.pt", spec="", device="cpu")


def test_weights_of_another_size_are_refused(weights, tmp_path, monkeypatch):
    import torch

    make_small(monkeypatch)
    state = torch.load(weights, weights_only=True)["model"]
    name = "detector.backbone.vision_backbone.trunk.pos_embed"
    torch.save({**state, name: state[name][:, :, :16]}, tmp_path / "sam3.pt")
    with pytest.raises(ConfigError, match=r"sam3\.pt is not a checkpoint of SAM 3") as caught:
        Sam3Detector(tmp_path / "sam3.pt", spec="", device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["text", "cut", "empty", "other", "list", "intruder"])
def test_a_file_that_is_none_is_refused_in_one_line(kind, weights, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_bad_weights(tmp_path, kind, weights)
    with pytest.raises(ConfigError, match=rf"{kind}\.pt is not a checkpoint of SAM 3") as caught:
        Sam3Detector(path, spec="", device="cpu")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "intruded").exists()


def test_without_open_clip_it_names_the_extra(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ConfigError, match=r"sam3 needs open_clip: pip install 'ilv-dataset\[cl"):
        Sam3Detector(weights, spec="", device="cpu")


def test_missing_weights_say_how_to_get_them(tmp_path):
    with pytest.raises(ConfigError, match=r"no weights at .*`ilv models fetch sam3\.pt` says how"):
        Sam3Detector(tmp_path / "sam3.pt", spec="", device="cpu")


@pytest.mark.slow
def test_a_sam_3_of_full_size_loads_and_answers(tmp_path):
    """840 M random parameters through the same code; minutes on a CPU."""
    import torch

    torch.manual_seed(0)
    model = build_sam3()
    for parameter in model.backbone.language_backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    state = {f"detector.{name}": tensor.half() for name, tensor in model.state_dict().items()}
    torch.save(state, tmp_path / "sam3.pt")
    del model, state
    detector = Sam3Detector(tmp_path / "sam3.pt", spec="", device="cpu")
    (found,) = detector([noise(100, 120)], [make_phrases("cup")])
    assert found.masks is not None
    assert found.masks.shape[1:] == (100, 120)
