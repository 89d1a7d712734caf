"""Text features: encoded once ever, kept on disk, by as many processes as there are."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from random_weights import save_text_tower

from ilv_dataset.errors import ConfigError
from ilv_dataset.models import text_features
from ilv_dataset.models.clip_text import (
    WEIGHTS_SHA256,
    ClipTextEncoder,
    MobileClipTextEncoder,
    cached_clip,
    cached_mobile_clip,
)
from ilv_dataset.models.text_features import CachedTextEncoder


class CountingEncoder:
    """Stands for CLIP: the length of a text as its first figure; remembers what it was asked."""

    def __init__(self) -> None:
        self.num_loads = 0
        self.asked: list[tuple[str, ...]] = []

    def load(self) -> CountingEncoder:
        self.num_loads += 1
        return self

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.append(tuple(texts))
        return np.array([[len(text), 1] for text in texts], np.float64)


def test_each_text_is_encoded_once_by_itself_and_rows_are_in_order(tmp_path):
    inner = CountingEncoder()
    encode = CachedTextEncoder(inner.load, digest="a", folder=tmp_path)
    assert encode(["plate", "cup", "plate"]).tolist() == [[5, 1], [3, 1], [5, 1]]
    assert encode(["cup"]).dtype == np.float32
    assert inner.asked == [("plate",), ("cup",)]
    assert len(encode([])) == 0


def test_a_process_whose_texts_are_all_known_never_loads_the_encoder(tmp_path):
    first = CountingEncoder()
    CachedTextEncoder(first.load, digest="a", folder=tmp_path)(["cup", "plate"])
    second = CountingEncoder()
    encode = CachedTextEncoder(second.load, digest="a", folder=tmp_path)
    assert encode(["plate", "cup"]).tolist() == [[5, 1], [3, 1]]
    assert second.num_loads == 0
    encode(["a new one"])
    encode(["and another"])
    assert second.num_loads == 1


def test_other_weights_have_other_features(tmp_path):
    first, second = CountingEncoder(), CountingEncoder()
    CachedTextEncoder(first.load, digest="a", folder=tmp_path)(["cup"])
    CachedTextEncoder(second.load, digest="b", folder=tmp_path)(["cup"])
    assert second.asked == [("cup",)]


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00", None])
def test_a_damaged_file_is_made_anew(tmp_path, content):
    encode = CachedTextEncoder(CountingEncoder().load, digest="a", folder=tmp_path)
    encode(["cup"])
    (path,) = tmp_path.rglob("*.npy")
    good = path.read_bytes()
    path.write_bytes(good[:-3] if content is None else content)
    again = CountingEncoder()
    assert CachedTextEncoder(again.load, digest="a", folder=tmp_path)(["cup"]).tolist() == [[3, 1]]
    assert again.asked == [("cup",)]
    assert path.read_bytes() == good


def test_a_pickle_in_the_folder_is_not_run(tmp_path):
    encode = CachedTextEncoder(CountingEncoder().load, digest="a", folder=tmp_path)
    encode(["cup"])
    (path,) = tmp_path.rglob("*.npy")
    with path.open("wb") as file:
        np.save(file, np.array([{"a": 1}], object), allow_pickle=True)
    again = CountingEncoder()
    CachedTextEncoder(again.load, digest="a", folder=tmp_path)(["cup"])
    assert again.num_loads == 1


def test_a_folder_that_cannot_be_written_to_costs_only_time(tmp_path):
    (tmp_path / "file").touch()
    inner = CountingEncoder()
    encode = CachedTextEncoder(inner.load, digest="a", folder=tmp_path / "file")
    assert encode(["cup"]).tolist() == [[3, 1]]
    assert encode(["cup"]).tolist() == [[3, 1]]
    assert inner.asked == [("cup",)]


def test_texts_of_any_kind_have_a_file_of_their_own(tmp_path):
    texts = ["", "cup", "Cup", "x" * 500, "../../etc", "tasse à café", "half a pair \ud83d"]
    encode = CachedTextEncoder(CountingEncoder().load, digest="a", folder=tmp_path)
    assert encode(texts)[:, 0].tolist() == [0, 3, 3, 500, 9, 12, 13]
    assert len(list(tmp_path.rglob("*.npy"))) == len(texts)
    assert {path.parts[len(tmp_path.parts)] for path in tmp_path.rglob("*")} == {"a"}


def test_what_is_kept_in_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(text_features, "_TEXTS_MAX", 2)
    encode = CachedTextEncoder(CountingEncoder().load, digest="a", folder=tmp_path)
    for number in range(10):
        encode([f"thing {number}"])
    assert len(encode._known) <= 3


def test_the_folder_is_that_of_the_models(tmp_path, monkeypatch):
    monkeypatch.setenv("ILV_MODELS", str(tmp_path))
    CachedTextEncoder(CountingEncoder().load, digest="a")(["cup"])
    assert len(list((tmp_path / "text_features" / "a").rglob("*.npy"))) == 1


PROCESS = """
import sys
import numpy as np
from pathlib import Path
from ilv_dataset.models.text_features import CachedTextEncoder

def encode(texts):
    return np.array([[len(text), 1] for text in texts], np.float32)

texts = [f"thing {number}" for number in range(200)]
found = CachedTextEncoder(lambda: encode, digest="a", folder=Path(sys.argv[1]))(texts)
assert found[:, 0].tolist() == [len(text) for text in texts]
"""


def test_several_processes_share_a_folder(tmp_path):
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    for process in running:
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 200
    assert all(path.suffix == ".npy" for path in files)  # no temporary one is left


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "ab" / "x.npy"
    features = np.arange(100_000, dtype=np.float32)
    text_features._write(path, features)
    done = threading.Event()

    def rewrite():
        while not done.is_set():
            text_features._write(path, features)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for _ in range(200):
            found = text_features._read(path)
            assert found is not None
            assert found[-1] == 99_999
    finally:
        done.set()
        writer.join()


# --- the encoders themselves


def test_clip_without_its_weights_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encode = cached_clip(tmp_path / "world.pt")
    with pytest.raises(ConfigError, match=r"no weights ViT-B-32\.pt in .*`ilv models fetch ViT-B"):
        encode(["cup"])


def test_clip_is_neither_looked_for_nor_installed_where_every_text_is_known(tmp_path, monkeypatch):
    first = CachedTextEncoder(CountingEncoder().load, digest=cached_clip(tmp_path / "w.pt").digest)
    first(["cup"])
    monkeypatch.setitem(sys.modules, "open_clip", None)
    encode = cached_clip(tmp_path / "world.pt")
    assert encode(["cup"]).tolist() == [[3, 1]]
    with pytest.raises(ConfigError, match=r"yolo-world needs open_clip: pip install"):
        encode(["plate"])


def test_clip_is_looked_for_beside_the_detector_and_not_opened(tmp_path):
    (tmp_path / "ViT-B-32.pt").write_bytes(b"these are not weights")
    encode = cached_clip(tmp_path / "world.pt")
    assert encode.digest == f"{WEIGHTS_SHA256[:16]}-ViT-B-32-quickgelu"
    with pytest.raises(ConfigError, match=r"ViT-B-32\.pt is not OpenAI's ViT-B-32\.pt; `ilv mod"):
        encode(["cup"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of tracing, and that TorchScript is on its way out
def test_clip_reads_a_file_laid_out_as_openai_s(tmp_path, monkeypatch):
    """CLIP's own architecture with random weights, as TorchScript with three figures beside."""
    open_clip = pytest.importorskip("open_clip")
    import torch

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32-quickgelu").eval()
    tokens = open_clip.get_tokenizer("ViT-B-32-quickgelu")(["the red mug"])
    with torch.inference_mode():
        expected = model.encode_text(tokens, normalize=True).numpy()
    for name in ("input_resolution", "context_length", "vocab_size"):
        model.__dict__.pop(name, None)
        model.register_buffer(name, torch.tensor(1))
    model.attn_mask = model._buffers.pop("attn_mask")  # not part of the file
    path, pixels = tmp_path / "ViT-B-32.pt", torch.zeros(1, 3, 224, 224)
    with torch.no_grad():
        torch.jit.trace(model, (pixels, tokens), check_trace=False).save(str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr("ilv_dataset.models.clip_text.WEIGHTS_SHA256", digest)
    np.testing.assert_allclose(ClipTextEncoder(path)(["the red mug"]), expected, atol=1e-5)


@pytest.fixture(scope="module")
def mobile_clip(tmp_path_factory) -> Path:
    """A small text transformer of open_clip with random weights, traced as ultralytics does."""
    return save_text_tower(tmp_path_factory.mktemp("text") / "mobileclip_blt.ts")


def test_mobile_clip_gives_unit_vectors_that_differ_by_text(mobile_clip):
    features = MobileClipTextEncoder(mobile_clip)(["red mug", "plate", "red mug", "x" * 500])
    assert features.shape == (4, 512)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(features[0], features[2], atol=1e-6)
    assert np.abs(features[0] - features[1]).max() > 1e-3


@pytest.fixture
def fetched(mobile_clip, tmp_path, monkeypatch) -> Path:
    """The same file in a models folder of the test's own."""
    monkeypatch.setenv("ILV_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    return Path(shutil.copy(mobile_clip, tmp_path / "models"))


def test_mobile_clip_is_found_by_the_name_a_yoloe_has_for_it(mobile_clip, fetched):
    encode = cached_mobile_clip("mobileclip:blt", Path("yoloe.pt"))
    digest = hashlib.sha256(mobile_clip.read_bytes()).hexdigest()
    assert encode.digest == f"{digest[:16]}-mobileclip"
    expected = MobileClipTextEncoder(mobile_clip)(["cup"])
    np.testing.assert_array_equal(encode(["cup"]), expected)


def test_mobile_clip_is_run_from_the_models_folder_alone(mobile_clip, tmp_path, monkeypatch):
    monkeypatch.chdir(mobile_clip.parent)
    monkeypatch.setenv("ILV_MODELS", str(tmp_path))
    with pytest.raises(ConfigError, match=r"mobileclip_blt\.ts in .*, whence alone it is run, for"):
        cached_mobile_clip("mobileclip:blt", mobile_clip.with_name("yoloe.pt"))


def test_mobile_clip_is_named_by_what_was_recorded_and_run_only_as_such(fetched):
    record = fetched.with_name("checksums.json")
    digest = hashlib.sha256(fetched.read_bytes()).hexdigest()
    record.write_text(json.dumps({fetched.name: digest}))
    expected = cached_mobile_clip("mobileclip:blt", Path("yoloe.pt"))(["cup"])
    fetched.write_bytes(fetched.read_bytes() + b"more")
    encode = cached_mobile_clip("mobileclip:blt", Path("yoloe.pt"))
    assert encode.digest == f"{digest[:16]}-mobileclip"
    np.testing.assert_array_equal(encode(["cup"]), expected)  # known, so that nothing is run
    with pytest.raises(ConfigError, match=r"blt\.ts is not the file that was fetched: its SHA"):
        encode(["plate"])


def test_mobile_clip_is_neither_there_nor_installed_where_every_text_is_known(fetched, monkeypatch):
    digest = hashlib.sha256(fetched.read_bytes()).hexdigest()
    fetched.with_name("checksums.json").write_text(json.dumps({fetched.name: digest}))
    expected = cached_mobile_clip("mobileclip:blt", Path("yoloe.pt"))(["cup"])
    fetched.unlink()
    monkeypatch.setitem(sys.modules, "open_clip", None)
    encode = cached_mobile_clip("mobileclip:blt", Path("yoloe.pt"))
    np.testing.assert_array_equal(encode(["cup"]), expected)
    with pytest.raises(ConfigError, match=r"yoloe needs open_clip: pip install"):
        encode(["plate"])


def test_another_text_model_and_a_missing_one_are_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"takes texts of clip:ViT-B/32; expected one of mobile"):
        cached_mobile_clip("clip:ViT-B/32", tmp_path / "yoloe.pt")
    with pytest.raises(ConfigError, match=r"no weights mobileclip2_b\.ts .* fetch mobileclip2_b"):
        cached_mobile_clip("mobileclip2:b", tmp_path / "yoloe.pt")


@pytest.mark.parametrize("content", [b"these are not weights", b""])
def test_a_file_that_is_no_mobile_clip_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "mobileclip_blt.ts"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"blt\.ts is not an export of MobileCLIP") as caught:
        MobileClipTextEncoder(path)
    assert "\n" not in str(caught.value)


QUIET = """
import sys
from pathlib import Path
from ilv_dataset.models.clip_text import cached_mobile_clip

encode = cached_mobile_clip("mobileclip:blt", Path(sys.argv[1]))
print(encode(["cup"]).shape, sorted({"torch", "open_clip"} & sys.modules.keys()))
"""


def test_a_process_that_only_reads_imports_neither_torch_nor_open_clip(
    fetched,
):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # TorchScript's end is no concern of users
        cached_mobile_clip("mobileclip:blt", fetched)(["cup"])
    command = [sys.executable, "-c", QUIET, str(fetched)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr) == ("(1, 512) []\n", "")
