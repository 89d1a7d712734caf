"""The embedded YOLO-World: written, read back, refused where it is another thing."""

import json

import numpy as np
import pytest

from ilv_dataset.errors import ConfigError
from ilv_dataset.models import bundled
from ilv_dataset.models.bundled import bundled_weights, load_tensors, save_tensors
from ilv_dataset.models.detector import load_detector
from ilv_dataset.models.word_rivals import Rivals, encode_rivals
from ilv_dataset.models.word_text import encode_words
from ilv_dataset.models.world_network import WorldSizes, build_world, load_world, save_world
from ilv_dataset.models.yolo_world import YoloWorldDetector
from ilv_dataset.records import Frame, Phrase

SIZES = WorldSizes(width=0.125, is_guided=False, num_classes=8, input_px=256)

RIVALS = Rivals(("mug", "pot"), ("blue", "red"), weight=1.0)


def make_phrases(*texts: str) -> list[Phrase]:
    return [Phrase(text, 0, len(text), text, "object") for text in texts]


def noise(seed: int = 0) -> Frame:
    pixels = np.random.default_rng(seed).integers(0, 256, (192, 256, 3), dtype=np.uint8)
    return Frame("image", 0, pixels)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights whose scores are not all 0."""
    import torch

    torch.manual_seed(0)
    model = build_world(SIZES)
    for head in model.model[-1].cv4:
        torch.nn.init.constant_(head.bias, -1)
        torch.nn.init.constant_(head.logit_scale, 0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_world(path, model, SIZES, {"seed": "0"})
    return path


@pytest.fixture
def detector(weights) -> YoloWorldDetector:
    return YoloWorldDetector(weights, spec="", device="cpu", score_min=0.001)


def test_what_is_saved_is_float16_and_says_what_it_is(weights):
    tensors, metadata = load_tensors(weights)
    assert {array.dtype for array in tensors.values()} == {np.dtype(np.float16)}
    assert metadata["kind"] == "yolo-world"
    assert metadata["text"] == "words-v1"
    assert metadata["seed"] == "0"
    assert json.loads(metadata["sizes"])["width"] == 0.125
    assert weights.stat().st_size == pytest.approx(
        2 * sum(a.size for a in tensors.values()), rel=0.1
    )


def test_the_same_weights_are_the_same_bytes(weights, tmp_path):
    tensors, metadata = load_tensors(weights)
    save_tensors(tmp_path / "again.safetensors", tensors, metadata)
    assert (tmp_path / "again.safetensors").read_bytes() == weights.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.safetensors"]


def test_a_number_stays_a_number_without_dimensions(tmp_path):
    tensors = {"scale": np.float32(3), "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T}
    save_tensors(tmp_path / "few.safetensors", tensors, {})
    loaded, _ = load_tensors(tmp_path / "few.safetensors")
    assert loaded["scale"].shape == ()
    assert loaded["scale"] == 3
    assert loaded["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_loaded_network_says_what_the_saved_one_said(weights):
    import torch

    torch.manual_seed(1)
    images, features = torch.rand(2, 3, 64, 64), torch.from_numpy(encode_words(["cup", "pot"]))
    model = build_world(SIZES)
    tensors, _ = load_tensors(weights)
    state = {name: torch.from_numpy(array).float() for name, array in tensors.items()}
    model.load_state_dict(state, strict=False)
    world = load_world(weights, device="cpu")
    assert (world.sizes, world.rivals) == (SIZES, None)
    outputs = []
    for network in (model.eval(), world.model):
        network.model[-1].nc = 2
        with torch.inference_mode():
            outputs.append(network.predict(images, txt_feats=features[None])[0])
    assert outputs[0].shape == (2, 4 + 2, 84)  # 8 x 8 + 4 x 4 + 2 x 2 anchors
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("is_guided", [False, True])
def test_answers_depend_on_each_other_where_the_neck_sees_the_prompts(is_guided, tmp_path):
    sizes = WorldSizes(width=0.125, is_guided=is_guided, num_classes=8)
    save_world(tmp_path / "w.safetensors", build_world(sizes), sizes, {})
    detector = YoloWorldDetector(tmp_path / "w.safetensors", spec="", device="cpu")
    assert detector.is_independent is not is_guided


def test_a_phrase_is_answered_the_same_whatever_else_is_asked(detector):
    alone = detector([noise()], [make_phrases("red mug")])[0]
    among = detector([noise(), noise(1)], [make_phrases("red mug", "pot"), make_phrases("cup")])[0]
    rows = among.query_indices == 0
    assert len(alone.scores) > 0
    np.testing.assert_allclose(alone.boxes_xyxy, among.boxes_xyxy[rows], atol=0.11)
    np.testing.assert_allclose(alone.scores, among.scores[rows], atol=0.0011)


def test_wordings_of_one_name_get_the_same_boxes(detector):
    found = detector([noise()], [make_phrases("red mug", "the RED mugs")])[0]
    half = len(found.scores) // 2
    np.testing.assert_array_equal(found.boxes_xyxy[:half], found.boxes_xyxy[half:])


@pytest.mark.parametrize("kind", ["text", "cut", "empty", "folder"])
def test_a_file_that_is_no_safetensors_is_refused_in_one_line(kind, weights, tmp_path):
    path = tmp_path / "bad.safetensors"
    if kind == "folder":
        path.mkdir()
    else:
        whole = weights.read_bytes()
        path.write_bytes({"text": b"these are no weights", "cut": whole[:9000], "empty": b""}[kind])
    with pytest.raises(ConfigError) as caught:
        load_detector(f"yolo-world:{path}")
    assert "bad.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "sam"}, "is not a YOLO-World of this package"),
        ({"text": "words-v0"}, r"is not a YOLO-World of this package \(text encoder words-v1\)"),
        ({"sizes": "{}"}, "layers differ|size mismatch|is not a YOLO-World"),
        ({"sizes": "[]"}, "is not a YOLO-World of this package"),
        ({"sizes": '{"width": 1e9}'}, "width must be over 0 and up to 2"),
        ({"sizes": '{"input_px": 65}'}, "input_px must be a multiple of 32"),
        ({"sizes": '{"num_classes": 1000000000}'}, "num_classes must be 1 to 10000"),
        ({"sizes": '{"text_dims": 0}'}, "text_dims must be 1 to 4096"),
        ({"sizes": '{"text_dims": 256}'}, "text_dims must be 512, got 256"),
        ({"sizes": '{"max_channels": 1e12}'}, "max_channels must be 1 to 2048"),
        (
            {"rivals": '{"nouns": [], "colours": [], "weight": 0, "shift": 0}'},
            "at least one noun and one colour",
        ),
        ({"rivals": '{"nouns": ["mug"]}'}, "is not a YOLO-World of this package"),
        ({"sizes": '{"activation": "print(1)"}'}, "is not a YOLO-World of this package"),
    ],
)
def test_weights_of_another_network_are_refused(changes, message, weights, tmp_path):
    tensors, metadata = load_tensors(weights)
    path = tmp_path / "other.safetensors"
    save_tensors(path, tensors, {**metadata, **changes})
    with pytest.raises(ConfigError, match=message):
        load_world(path, device="cpu")


def test_weights_that_lack_a_layer_are_refused(weights, tmp_path):
    tensors, metadata = load_tensors(weights)
    tensors.pop("model.0.conv.weight")
    save_tensors(tmp_path / "less.safetensors", tensors, metadata)
    with pytest.raises(ConfigError, match=r"layers differ at model\.0\.conv\.weight"):
        load_world(tmp_path / "less.safetensors", device="cpu")


def test_a_bundled_name_is_found_and_a_path_is_not_taken_for_one(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    (tmp_path / "yolo-world-random.safetensors").write_bytes(weights.read_bytes())
    path = bundled_weights("yolo-world", "random")
    assert path == tmp_path / "yolo-world-random.safetensors"
    assert bundled_weights("sam", "random") is None
    assert bundled_weights("yolo-world", "../yolo-world-random") is None
    detector = load_detector("yolo-world:random")
    assert detector.spec == "yolo-world:random"
    assert detector.fingerprint == load_detector(f"yolo-world:{path}").fingerprint


def test_rivals_are_asked_beside_the_prompts_and_change_scores_alone(weights, tmp_path):
    tensors, metadata = load_tensors(weights)
    for name, rivals in (("none", Rivals(("mug", "pot"), ("red",))), ("all", RIVALS)):
        described = {**metadata, "rivals": encode_rivals(rivals)}
        save_tensors(tmp_path / f"{name}.safetensors", tensors, described)
    plain, none, judged = (
        YoloWorldDetector(path, spec="", device="cpu", score_min=0.0)
        for path in (weights, tmp_path / "none.safetensors", tmp_path / "all.safetensors")
    )
    phrases = make_phrases("red mug", "fork")
    results = [detector([noise()], [phrases])[0] for detector in (plain, none, judged)]
    assert_equal_boxes(results[0], results[1])
    fork = [found.scores[found.query_indices == 1] for found in results]
    np.testing.assert_allclose(fork[2], fork[0], atol=0.0011)  # no word of the training
    mug = [found.scores[found.query_indices == 0] for found in results]
    assert mug[2].max() < mug[0].max()


def assert_equal_boxes(one, other):
    np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=0.11)
    np.testing.assert_allclose(one.scores, other.scores, atol=0.0011)
