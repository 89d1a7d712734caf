"""The catalogue of weights: what it lists, where it looks, and what `ilv models` prints."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from ilv_dataset.cli import Group
from ilv_dataset.errors import ConfigError
from ilv_dataset.models import catalog
from ilv_dataset.models.catalog import (
    ModelFile,
    find_model,
    find_weights,
    list_models,
    locate_weights,
    models_folder,
    read_checksums,
)
from ilv_dataset.models.runtime import weights_digest
from ilv_dataset.models_command import models


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder, and an empty working folder."""
    monkeypatch.setenv("ILV_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path / "models"


def run(*arguments: str):
    """`ilv models ...` as the command line runs it: our own errors are one line."""
    main = Group("ilv")
    main.add_command(models)
    return CliRunner().invoke(main, ["models", *arguments])


# --- the list


def test_every_file_of_the_catalogue_has_an_address_a_licence_and_a_name_of_its_own():
    names = [model.name for model in list_models()]
    assert len(set(names)) == len(names)
    for model in list_models():
        assert model.url.startswith("https://")
        assert model.url.endswith(f"/{model.name}")
        assert model.license
        assert set(model.needs) <= set(names)


@pytest.mark.parametrize(
    "name",
    [
        *(f"yolov8{size}-worldv2.pt" for size in "smlx"),
        *(f"sam_vit_{size}.pth" for size in ("b_01ec64", "l_0b3195", "h_4b8939")),
        *(f"sam2.1_{size}.pt" for size in "tsbl"),
        "yoloe-11l-seg.pt",
        "mobile_sam.pt",
        "sam3.pt",
    ],
)
def test_the_models_that_the_adapters_take_are_listed(name):
    assert find_model(name).name == name


def test_checksums_are_the_publishers_or_none():
    published = {model.name: model.checksum for model in list_models() if model.checksum}
    assert published == {
        "sam_vit_b_01ec64.pth": "md5:01ec64",
        "sam_vit_l_0b3195.pth": "md5:0b3195",
        "sam_vit_h_4b8939.pth": "md5:4b8939",
        "ViT-B-32.pt": "sha256:40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    }
    clip = find_model("ViT-B-32.pt")
    assert clip.checksum.removeprefix("sha256:") in clip.url


def test_find_model_when_there_is_none_names_the_nearest():
    with pytest.raises(ConfigError, match=r"no model 'yolov8x-world.pt'; did you mean yolov8"):
        find_model("yolov8x-world.pt")


@pytest.mark.parametrize("checksum", ["01ec64", "crc64:01", "md5:"])
def test_a_checksum_that_is_none_is_refused(checksum):
    with pytest.raises(ValueError, match=r"x\.pt: checksum .* is not ALGORITHM:START"):
        ModelFile("x.pt", "yolo", "detector", "MIT", "https://x/x.pt", checksum=checksum)


# --- where weights lie


def test_the_models_folder_is_named_or_in_the_cache_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert models_folder() == tmp_path / "cache" / "ilv_dataset"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert models_folder() == Path.home() / ".cache" / "ilv_dataset"
    monkeypatch.setenv("ILV_MODELS", "~/weights")
    assert models_folder() == Path.home() / "weights"


def test_a_bare_name_is_looked_for_beside_then_here_then_among_the_fetched(folder, tmp_path):
    (folder / "sam3.pt").touch()
    assert find_weights("sam3.pt") == folder / "sam3.pt"
    Path("sam3.pt").touch()
    assert find_weights("sam3.pt") == Path("sam3.pt")
    (tmp_path / "sam3.pt").touch()
    assert find_weights("sam3.pt", beside=tmp_path / "yoloe.pt") == tmp_path / "sam3.pt"


def test_a_program_is_looked_for_among_the_fetched_alone(folder, tmp_path):
    for place in (Path(), tmp_path):
        (place / "mobileclip_blt.ts").touch()
    expected = r"no weights mobileclip_blt\.ts in .*models, whence alone it is run, for it is a"
    with pytest.raises(ConfigError, match=expected) as caught:
        find_weights("mobileclip_blt.ts", beside=tmp_path / "yoloe.pt")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("; `ilv models fetch mobileclip_blt.ts` gets them")
    (folder / "mobileclip_blt.ts").touch()
    found = find_weights("mobileclip_blt.ts", beside=tmp_path / "yoloe.pt")
    assert found == folder / "mobileclip_blt.ts"


def test_a_path_is_what_it_says(folder, tmp_path):
    (folder / "mine.pt").touch()
    assert find_weights(str(folder / "mine.pt")) == folder / "mine.pt"
    assert locate_weights(str(tmp_path / "mine.pt")) is None
    (Path.home() / "mine.pt").touch()
    assert find_weights("~/mine.pt") == Path.home() / "mine.pt"
    (Path.home() / "mine.pt").unlink()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "yolov8x-worldv2.pt",
            r"no weights yolov8x-worldv2\.pt in the working folder or in .*models; "
            r"`ilv models fetch yolov8x-worldv2\.pt` gets them",
        ),
        (
            "weights/sam3.pt",
            r"no weights weights/sam3\.pt; `ilv models fetch sam3\.pt` gets them",
        ),
        ("mine.pt", r"no weights mine\.pt in .*, and none of that name to fetch \(`ilv models`"),
        ("yolov8x-world.pt", r"none of that name to fetch; did you mean yolov8x-worldv2\.pt\?"),
        ("weights/mine.pt", r"no weights weights/mine\.pt$"),
        (".", r"no weights \."),
    ],
)
def test_missing_weights_are_one_line_that_says_how_to_get_them(folder, name, expected):
    with pytest.raises(ConfigError, match=expected) as caught:
        find_weights(name)
    assert "\n" not in str(caught.value)


# --- checksums of first downloads


def test_weights_that_are_no_longer_what_was_fetched_are_refused(folder):
    path = folder / "sam3.pt"
    path.write_bytes(b"weights")
    digest = weights_digest(path, advice="")
    (folder / catalog.CHECKSUMS_NAME).write_text(json.dumps({"sam3.pt": digest}))
    assert weights_digest(path, advice="") == digest
    path.write_bytes(b"other weights")
    with pytest.raises(ConfigError, match=r"sam3\.pt is not the file that was fetched: its SHA"):
        weights_digest(path, advice="")


def test_weights_elsewhere_may_have_the_name_of_a_fetched_file(folder, tmp_path):
    (folder / catalog.CHECKSUMS_NAME).write_text(json.dumps({"sam3.pt": "0" * 64}))
    (tmp_path / "sam3.pt").write_bytes(b"weights")
    assert len(weights_digest(tmp_path / "sam3.pt", advice="")) == 64


@pytest.mark.parametrize("content", ["{", "[]", '{"a": '])
def test_a_damaged_list_of_checksums_is_one_line(folder, content):
    (folder / catalog.CHECKSUMS_NAME).write_text(content)
    with pytest.raises(ConfigError, match=r"checksums\.json is damaged.*; remove it"):
        read_checksums(folder)


# --- the command


def test_models_lists_every_file_and_where_it_is(folder):
    (folder / "sam_vit_b_01ec64.pth").touch()
    (folder / catalog.CHECKSUMS_NAME).write_text(json.dumps({"mobile_sam.pt": "ab" * 32}))
    Path("mobile_sam.pt").touch()
    done = run()
    assert done.exit_code == 0
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert {model.name for model in list_models()} <= rows.keys()
    sam = re.split(r"\s{2,}", rows["sam_vit_b_01ec64.pth"])
    assert sam == [
        "sam_vit_b_01ec64.pth",
        "sam",
        "segmenter",
        "375.0",
        "Apache-2.0",
        "dl.fbaipublicfiles.com",
        "md5:01ec64",
        str(folder / "sam_vit_b_01ec64.pth"),
    ]
    mobile = re.split(r"\s{2,}", rows["mobile_sam.pt"])
    assert mobile[-1] == "mobile_sam.pt"
    assert "sha256" not in rows["mobile_sam.pt"]  # of another file, the one that was fetched
    Path("mobile_sam.pt").rename(folder / "mobile_sam.pt")
    (line,) = [line for line in run().stdout.splitlines() if line.startswith("mobile_sam.pt")]
    expected = ["sha256:abababababab... *", str(folder / "mobile_sam.pt")]
    assert re.split(r"\s{2,}", line)[-2:] == expected
    assert "huggingface.co/facebook/sam3" in done.stdout.splitlines()[-1]


def test_models_as_json_says_null_where_nothing_is_known(folder):
    rows = [json.loads(line) for line in run("--json").stdout.splitlines()]
    fetchable = [row["name"] for row in rows if row["url"] is not None]
    assert fetchable == [model.name for model in list_models()]
    (row,) = [row for row in rows if row["name"] == "yoloe-11l-seg.pt"]
    assert row == {
        "name": "yoloe-11l-seg.pt",
        "backend": "yoloe",
        "kind": "detector, masks",
        "size_mb": None,
        "license": "AGPL-3.0",
        "checksum": None,
        "checksum_from": None,
        "url": "https://github.com/ultralytics/assets/releases/download/v8.4.0/yoloe-11l-seg.pt",
        "gated": None,
        "path": None,
    }


def test_fetch_of_a_gated_file_says_what_to_do_by_hand(folder):
    done = run("fetch", "sam3.pt")
    assert done.exit_code == 1
    assert done.stderr == (
        "Error: sam3.pt is behind a licence: accept it at https://huggingface.co/facebook/sam3, "
        f"download the file there and put it into {folder}\n"
    )
    assert done.stdout == ""


def test_fetch_of_what_is_not_known_is_one_line(folder):
    done = run("fetch", "yolov8x-wordv2.pt")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "did you mean yolov8x-worldv2.pt?" in done.stderr


def test_the_help_of_both_commands_has_an_example():
    for command in (models, *models.commands.values()):
        assert "Example:" in (command.help or "")
        assert "ilv models" in (command.help or "")
