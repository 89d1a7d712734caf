"""inspect: finding outputs and spans, what is shown of them, and the pictures that are drawn."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    CARROT_XYXY,
    convert,
    make_episode,
    make_object,
    make_row,
    scene,
    scene_jpeg,
    shard_path,
    write_tfds_folder,
)
from converted import ROOT, TRAIN_0, VAL_0, converted_once, copy_converted, run_ilv
from object_store import upload
from PIL import Image, ImageColor
from rich.console import Console

from ilv_dataset.canvases import COLOURS, HEIGHT_MAX, Mark, Word, draw_flow, draw_frame, words
from ilv_dataset.errors import ConfigError, StorageError
from ilv_dataset.formats import files
from ilv_dataset.inspecting import describe_output
from ilv_dataset.layout import Layout
from ilv_dataset.lookups import find_span, interleaved_spans
from ilv_dataset.outputs import (
    channel_orders,
    find_outputs,
    list_shards,
    parse_shard_name,
    read_json,
    read_schema,
)
from ilv_dataset.pictures import draw_sheet, draw_span, interleaved_items, original_items
from ilv_dataset.records import ShardKey
from ilv_dataset.span_frames import describe_steps, load_frames
from ilv_dataset.terminals import half_blocks, span_parts

TRAIN_1 = TRAIN_0.replace("00000-of", "00001-of")


@pytest.fixture(scope="module")
def layout() -> Layout:
    return Layout(str(converted_once()), "ilv_demo", "1.0.0")


def test_find_outputs_takes_out_a_dataset_and_a_version():
    out = str(converted_once())
    expected = [Layout(out, "ilv_demo", "1.0.0")]
    assert find_outputs(out) == expected
    assert find_outputs(f"{out}/ilv_demo") == expected
    assert find_outputs(f"{out}/ilv_demo/1.0.0/") == expected


def test_find_outputs_takes_a_relative_path(monkeypatch):
    monkeypatch.chdir(converted_once() / "ilv_demo")
    (found,) = find_outputs("1.0.0")
    assert Path(found.root) == converted_once() / ROOT


def test_find_outputs_ignores_foreign_folders(tmp_path):
    copy_converted(tmp_path)
    (tmp_path / "out" / "terraform" / "prod").mkdir(parents=True)
    (tmp_path / "out" / "terraform" / "prod" / "plan.json").write_text('{"a": 1}')
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert [found.dataset for found in find_outputs(str(tmp_path / "out"))] == ["ilv_demo"]


def test_find_outputs_knows_one_whose_plan_is_damaged(tmp_path):
    root = copy_converted(tmp_path)
    (root / "plan.json").write_text("{")
    (root / "run.json").unlink()
    assert len(find_outputs(str(root))) == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [("empty", "no converted"), ("none", "no such folder"), ("file", "a file, not a folder")],
)
def test_find_outputs_says_what_it_expected(tmp_path, name, says):
    (tmp_path / "empty" / "a").mkdir(parents=True)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=f"{says}.*; expected OUT or OUT/<dataset>/<version>"):
        find_outputs(str(tmp_path / name))


def test_parse_shard_name_takes_names_of_ours_only():
    assert parse_shard_name("a-b-00012-of-01024.parquet") == ShardKey("a-b", 12, 1024)
    assert parse_shard_name("train-00012-of-01024.index.parquet") == ShardKey("train", 12, 1024)
    assert parse_shard_name("train-012-of-01024.json") is None
    assert parse_shard_name("train-01024-of-01024.json") is None
    assert parse_shard_name("all.json") is None


def test_list_shards_falls_back_to_files_where_hidden_folders_were_left_out(tmp_path):
    root = copy_converted(tmp_path)
    shutil.rmtree(root / ".state")
    (found,) = find_outputs(str(root))
    names = ["train-00000-of-00002", "train-00001-of-00002", "val-00000-of-00001"]
    assert [shard.name for shard in list_shards(found)] == names


def test_channel_orders_go_by_the_name_of_the_tfds_folder():
    assert channel_orders(Layout("", "utaustin_mutex", ""))["observation/image"] == "bgr"
    # The short name bridge is bridge_dataset's, whose cameras are numbered.
    assert channel_orders(Layout("", "bridge", "")) == {"observation/image": "rgb"}
    assert channel_orders(Layout("", "nobody_knows", "")) == {}


def test_unreadable_files_are_one_line(tmp_path):
    (tmp_path / "a").write_bytes(b"[1]")
    with pytest.raises(StorageError, match="not a JSON object but list"):
        read_json(str(tmp_path / "a"))
    with pytest.raises(StorageError, match="not a readable Parquet file"):
        read_schema(str(tmp_path / "a"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("first", f"{TRAIN_0}__0#0"),
        (f"{TRAIN_0}__1", f"{TRAIN_0}__1#0"),
        (f"{TRAIN_0}__1#1", f"{TRAIN_0}__1#1"),
        ("train:0:1#1", f"{TRAIN_0}__1#1"),
        ("train:1:0", f"{TRAIN_1}__0#0"),
        ("00001-of-00002__1", f"{TRAIN_1}__1#0"),
        ("00000-of-00001__1", f"{VAL_0}__1#0"),
        ("val.tfrecord-00000-of-00001__0", f"{VAL_0}__0#0"),
    ],
)
def test_find_span_takes_whole_and_short_names(layout, name, expected):
    assert find_span([layout], name).row.span_id == expected


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("__0", f"'__0' fits 3 episodes, such as {TRAIN_0}__0, {TRAIN_1}__0, {VAL_0}__0"),
        ("train:0:1#2", f"{TRAIN_0}__1 has no span #2; spans: #0, #1"),
        ("train:0:1#x", "'train:0:1#x': a span is a number, such as train:0:1#0"),
        ("train:0:7", f"no episode 'train:0:7'; near it: {TRAIN_0}__1, {TRAIN_0}__0"),
        ("val:3:0", f"no episode 'val:3:0'; near it: {VAL_0}__0, {VAL_0}__1"),
        (f"{VAL_0}__9", f"no episode '{VAL_0}__9'; near it: {VAL_0}__1, {VAL_0}__0"),
        ("0000-of-00001__1", "no episode '0000-of-00001__1'; near it: "),
    ],
)
def test_find_span_names_what_is_near(layout, name, says):
    with pytest.raises(ConfigError) as error:
        find_span([layout], name)
    assert str(error.value).startswith(says)


def test_interleaved_spans_go_through_the_shards_up_to_the_limit(layout):
    ids = [found.row.span_id for found in interleaved_spans([layout], limit=9)]
    assert ids == [f"{TRAIN_0}__0#0", f"{TRAIN_0}__1#0", f"{TRAIN_0}__1#1", f"{VAL_0}__0#0"]
    assert len(list(interleaved_spans([layout], limit=2))) == 2


def test_describe_output_has_account_shards_columns_and_examples(layout):
    overview = describe_output(layout, limit=1)
    assert (overview["dataset"], overview["complete"], overview["num_shards"]) == (
        "ilv_demo",
        True,
        3,
    )
    (shard,) = overview["shards"]
    del shard["bytes"]
    assert shard == {
        "shard": "train-00000-of-00002",
        "episodes": 2,
        "spans": 3,
        "interleaved": 3,
        "text_only": 0,
        "rejected": 0,
        "failed": 0,
        "steps": 7,
        "records": 3,
    }
    assert overview["account"]["by_status"]["failed"] == 1
    assert overview["config"]["--detector"] == "source"
    assert overview["schema"]["episodes"]["images"] == "list<image>"
    assert overview["schema"]["steps"]["observation/state"] == "float32[7]"
    assert overview["schema"]["rlds"]["steps/observation/image"] == "image uint8[48, 64, 3]"
    assert overview["examples"][2] == {
        "id": f"{TRAIN_0}__1#1",
        "instruction": "lift the plate",
        "interleaved": "lift <image>",
    }


def test_describe_output_reads_as_little_with_many_shards(tmp_path, monkeypatch):
    root = copy_converted(tmp_path)
    for stage in ("parse", "ground", "steps", "rlds"):
        marker = root / ".state" / stage / "val-00000-of-00001.json"
        for index in range(1000):
            shutil.copy(marker, marker.with_name(f"zeta-{index:05d}-of-01000.json"))
    (found,) = find_outputs(str(root))
    opened: list[str] = []
    read = files.open_read
    monkeypatch.setattr(files, "open_read", lambda path: opened.append(path) or read(path))
    assert describe_output(found, limit=2)["num_shards"] == 1003
    assert len(opened) < 20


def test_describe_output_of_a_run_that_is_not_complete(tmp_path):
    root = copy_converted(tmp_path)
    (root / "run.json").unlink()
    shutil.rmtree(root / "steps")
    (found,) = find_outputs(str(root))
    overview = describe_output(found, limit=5)
    assert (overview["complete"], overview["account"], overview["formats"]) == (False, None, [])
    assert overview["config"]["--detector"] == "source"
    assert list(overview["schema"]) == ["instructions", "episodes", "rlds"]


def test_describe_output_after_the_first_step_has_the_shards_that_were_scanned(tmp_path):
    root = copy_converted(tmp_path)
    (root / "run.json").unlink()
    for name in ("episodes", "steps", "rlds"):
        shutil.rmtree(root / name)
    for name in ("ground", "steps", "rlds"):
        shutil.rmtree(root / ".state" / name)
    (found,) = find_outputs(str(root))
    overview = describe_output(found, limit=1)
    assert (overview["complete"], overview["damaged"], overview["num_shards"]) == (False, [], 3)
    (shard,) = overview["shards"]
    assert (shard["episodes"], shard["spans"], shard["interleaved"]) == (2, 3, None)


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_shard_whose_marker_is_damaged_is_not_complete(tmp_path, content):
    root = copy_converted(tmp_path)
    marker = root / ".state" / "ground" / "train-00000-of-00002.json"
    marker.write_text(content)
    lines = run_ilv("inspect", root).stdout.splitlines()
    assert lines[0] == "ilv_demo 1.0.0: not complete: run the same command again"
    assert lines[2] == f"{marker}: damaged, so its shard is not complete"
    assert run_ilv("inspect", root, "--episode", "first").exit_code == 0
    (root / "run.json").unlink()
    assert run_ilv("stats", root).exit_code == 0


def test_load_frames_come_from_the_steps_table(layout):
    frames, where = load_frames(find_span([layout], "train:0:1#1"))
    assert (list(frames), where) == ([("observation/image", 2)], "from the steps table")
    # make_episode(seed=2) draws step 2 with seed 4; JPEG changes a flat region by little.
    difference = np.abs(frames["observation/image", 2].astype(int) - scene(4)).mean()
    assert difference < 4


def test_load_frames_come_from_the_records_where_there_is_no_steps_table(tmp_path):
    root = copy_converted(tmp_path)
    (layout,) = find_outputs(str(root))
    found = find_span([layout], "train:0:1#1")
    of_steps, _ = load_frames(found)
    shutil.rmtree(root / "steps")
    of_record, where = load_frames(found)
    assert where == "from the RLDS shards"
    np.testing.assert_array_equal(
        of_record["observation/image", 2], of_steps["observation/image", 2]
    )
    shutil.rmtree(root / "rlds")
    assert load_frames(found) == (
        {},
        "its frames were not written; --data-dir says where the source is",
    )


def test_load_frames_corrects_bgr(layout, monkeypatch):
    found = find_span([layout], "first")
    rgb, _ = load_frames(found)
    monkeypatch.setattr(
        "ilv_dataset.span_frames.channel_orders", lambda _: {"observation/image": "bgr"}
    )
    bgr, _ = load_frames(found)
    key = ("observation/image", 0)
    np.testing.assert_array_equal(bgr[key], rgb[key][..., ::-1])


def test_load_frames_of_a_damaged_table_says_so(tmp_path):
    root = copy_converted(tmp_path)
    (layout,) = find_outputs(str(root))
    shutil.rmtree(root / "rlds")
    (root / "steps" / "train-00000-of-00002.parquet").write_bytes(b"PAR1")
    frames, reason = load_frames(find_span([layout], "first"))
    assert frames == {}
    assert "not a readable Parquet file" in reason


def test_load_frames_of_a_broken_span(layout):
    found = find_span([layout], f"{VAL_0}__1")
    assert load_frames(found) == ({}, "no frame of this span was looked at")


def test_load_frames_of_a_span_without_a_crop_has_the_first_of_the_source(layout, tmp_path):
    found = find_span([layout], f"{TRAIN_1}__1")
    assert found.row.status == "text_only"
    source = tmp_path / "source"
    shutil.copytree(converted_once().parent / "source", source)
    frames, where = load_frames(found, data_dir=str(source))
    assert (list(frames), where) == ([("observation/image", 0)], "from the source")
    # make_episode() draws step 0 with seed 0; JPEG changes a flat region by little.
    assert np.abs(frames["observation/image", 0].astype(int) - scene(0)).mean() < 4
    path = shard_path(source, index=1, count=2)
    path.write_bytes(path.read_bytes() + b"more")
    reason = f"{path} is not the file that was scanned"
    assert load_frames(found, data_dir=str(source)) == ({}, reason)
    path.unlink()
    nowhere = "its frames were not written; --data-dir says where the source is"
    assert load_frames(found, data_dir=str(source)) == ({}, nowhere)
    assert load_frames(found) == ({}, nowhere)  # the bundled sample has no shard of this name


@pytest.fixture(scope="module")
def unread(tmp_path_factory) -> Path:
    """OUT of a dataset with one shard that is missing."""
    folder = tmp_path_factory.mktemp("unread")
    data = write_tfds_folder(folder / "data", {"train": [[make_episode()], [make_episode()]]})
    shard_path(data, index=1, count=2).unlink()
    convert(data, folder / "out")
    return folder / "out"


def test_a_record_that_could_not_be_read_says_so(unread, tmp_path):
    png = tmp_path / "one.png"
    done = run_ilv("inspect", unread, "--episode", "train:1:0", "--png", png)
    lines = done.stdout.splitlines()
    why = "the record could not be read"
    assert lines[1] == f"span 0, its only one, {why}, failed (missing-shard)"
    assert f"({why})" in lines
    assert png.is_file()
    (layout,) = find_outputs(str(unread))
    found = find_span([layout], "train:1:0")
    assert load_frames(found) == ({}, why)
    assert texts(interleaved_items(found.row, {}, size=20, picture_size=50)) == f"({why})".split()
    assert describe_steps(dataclasses.replace(found.row, reason="no-steps")) == "no steps"


def texts(items: list[Any]) -> list[str]:
    return [item.text if isinstance(item, Word) else f"[{item.caption}]" for item in items]


def test_interleaved_items_have_the_pictures_in_reading_order():
    row = make_row(
        interleaved="put <image> on <image>, please",
        images=(scene_jpeg(), scene_jpeg(1)),
        objects=(make_object("carrot"), make_object("plate", start=22, end=27)),
    )
    items = interleaved_items(row, {8: "#111111", 22: "#222222"}, size=20, picture_size=50)
    assert texts(items) == ["put", "[carrot]", "on", "[plate]", ",", "please"]


def test_original_items_mark_the_phrases():
    row = make_row(objects=(make_object("carrot"),))
    items = original_items(row, {8: "#111111"}, size=20)
    assert texts(items) == ["put", "the", "carrot", "on", "the", "plate"]
    assert [item.is_marked for item in items if isinstance(item, Word)][2] is True
    # The phrases of a paragraph index its summary, which the row does not hold.
    other = dataclasses.replace(row, instruction="another text")
    assert texts(original_items(other, {}, size=20)) == ["another", "text"]


def test_draw_flow_breaks_lines_and_keeps_to_the_width():
    one = draw_flow(words("a short line", 20), 600)
    many = draw_flow(words("word " * 100, 20), 600)
    assert (one.width, one.height) == (600, 30)
    assert many.width == 600
    assert many.height > 90
    assert draw_flow([], 600).size == (600, 1)


def test_draw_frame_has_box_and_label_in_the_colour_of_the_object():
    mark = Mark(CARROT_XYXY, None, "carrot", COLOURS[1])
    # 64 x 48 into 640 x 640: ten times as large.
    picture = draw_frame(scene(), [mark], (640, 640))
    assert picture.size == (640, 480)
    colour = ImageColor.getrgb(COLOURS[1])
    assert picture.getpixel((8 * 10, 12 * 10)) == colour
    assert picture.getpixel((24 * 10, 12 * 10)) == colour
    assert picture.getpixel((16 * 10, 12 * 10)) == (255, 120, 0)
    assert picture.getpixel((300, 300)) == (40, 40, 40)


def test_draw_frame_takes_any_box_and_label():
    marks = [
        Mark((60.0, 40.0, 10.0, 5.0), np.ones((48, 64), bool), "x" * 99, "#000000"),
        Mark((-5.0, -5.0, 500.0, 500.0), np.ones((2, 2), bool), "", "#000000"),
    ]
    assert draw_frame(scene(), marks, (640, 640)).size == (640, 480)
    assert draw_frame(scene(), marks, (32, 32)).size == (32, 24)


def test_draw_span_shows_the_crop_in_the_instruction(layout):
    found = find_span([layout], "first")
    frames, where = load_frames(found)
    picture = draw_span(found.row, frames, frames_from=where, config={"--detector": "source"})
    pixels = np.asarray(picture).reshape(-1, 3)
    for colour in COLOURS[:2]:
        count = int((pixels == ImageColor.getrgb(colour)).all(axis=1).sum())
        assert count > 4 * 150 * 4  # at least the frame of the picture, four pixels wide
    bare = draw_span(found.row, {}, frames_from="not there", config={})
    assert bare.height < picture.height


def test_draw_span_takes_any_text_and_broken_pictures():
    row = make_row(
        interleaved="\x1b[31m<image>" + "x" * 500 + "\n<image>",
        images=(b"", scene_jpeg()),
        objects=(make_object("carrot", mask_rle="{}"),),
        message="two\nlines",
    )
    picture = draw_span(row, {}, frames_from="", config={})
    assert picture.width == 1260
    long = dataclasses.replace(row, interleaved="a " * 50_000)
    assert draw_span(long, {}, frames_from="", config={}).height == HEIGHT_MAX


def test_draw_sheet_has_a_row_a_span(layout):
    spans = [(found.row, load_frames(found)[0]) for found in interleaved_spans([layout], limit=9)]
    one, all_four = draw_sheet(spans[:1]), draw_sheet(spans)
    assert one.width == all_four.width == 1260
    assert all_four.height > 3 * (one.height - 80)


def test_half_blocks_has_two_pixels_a_character():
    image = np.zeros((2, 1, 3), np.uint8)
    image[0] = (255, 0, 0)
    image[1] = (0, 0, 255)
    text = half_blocks(image, columns=1)
    assert text.plain == "▀"
    style = text.spans[0].style
    assert str(style) == "#ff0000 on #0000ff"


@pytest.mark.parametrize(("width", "has_table"), [(200, True), (80, False)])
def test_span_parts_fit_the_width(layout, width, has_table):
    console = Console(width=width, file=io.StringIO(), markup=False, color_system=None)
    row = find_span([layout], "first").row
    for part in span_parts(console, row, num_spans=1, frames_from="here", config={}):
        console.print(part)
    shown = console.file.getvalue()
    assert ("mask px" in shown) is has_table
    assert ("box 8.0, 8.0, 24.0, 16.0, score 1.000" in shown) is not has_table
    assert "put the carrot on the plate" in shown
    assert "put <image> on <image>" in shown


def test_inspect_prints_plain_text_where_there_is_no_terminal():
    done = run_ilv("inspect", converted_once())
    lines = done.stdout.splitlines()
    assert lines[0] == "ilv_demo 1.0.0: complete"
    assert "7 spans = 4 interleaved + 1 text_only + 1 rejected + 1 failed" in lines
    assert "3 shards" in lines
    assert not [line for line in lines if line.endswith(" ")]
    assert "\x1b" not in done.stdout


def test_inspect_ends_with_a_command_that_can_be_typed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bin/ilv", "inspect"])
    root = copy_converted(tmp_path / "my data")
    lines = run_ilv("inspect", root).stdout.splitlines()
    assert f"bin/ilv inspect '{root}' --episode first" in lines


def test_inspect_json_is_one_object_a_line():
    (line,) = run_ilv("inspect", converted_once(), "--json").stdout.splitlines()
    assert json.loads(line)["num_shards"] == 3


def test_inspect_episode_prints_the_objects_and_draws_them(tmp_path):
    png = tmp_path / "one.png"
    done = run_ilv("inspect", converted_once(), "--episode", "train:0:0", "--png", png)
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"{TRAIN_0}__0#0", "span 0, its only one, steps 0 to 1, interleaved"]
    (carrot,) = (line for line in lines if line.startswith("carrot"))
    assert carrot.split()[:9] == [
        "carrot", "carrot", "object", "picture", "observation/image", "step", "0", "8.0", "8.0",
    ]  # fmt: skip
    assert "frames: from the steps table" in lines
    with Image.open(png) as picture:
        assert (picture.format, picture.width) == ("PNG", 1260)
    assert f"wrote {png} (1260 x " in done.stderr


def test_inspect_draws_before_it_prints(tmp_path, monkeypatch):
    """A reader such as `head -1` closes the pipe before all is printed."""
    png = tmp_path / "one.png"

    def close(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("ilv_dataset.views._print", close)
    run_ilv("inspect", converted_once(), "--episode", "first", "--png", png)
    assert png.is_file()


def test_inspect_episode_json_has_the_row_without_its_bytes():
    done = run_ilv("inspect", converted_once(), "--episode", "first", "--json")
    row = json.loads(done.stdout)
    assert row["interleaved"] == "put <image> on <image>"
    assert [image["num_bytes"] > 500 for image in row["images"]] == [True, True]
    # The label image shows the carrot on 16 x 8 pixels.
    assert row["objects"][0]["mask_area_px"] == 128


def test_inspect_png_alone_is_a_sheet(tmp_path):
    png = tmp_path / "sheet.png"
    done = run_ilv("inspect", converted_once(), "--png", png, "--limit", "2")
    assert done.stdout == ""
    with Image.open(png) as picture:
        assert picture.width == 1260


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--episode", "nobody"), "Error: no episode 'nobody'; near it: "),
        (("--png", "/nowhere/at/all.png"), "Error: /nowhere/at/all.png: No such file"),
        (("--png", "one.txt"), "Error: --png one.txt: expected a name that ends in .png"),
    ],
)
def test_inspect_fails_in_one_line(arguments, says):
    done = run_ilv("inspect", converted_once(), *arguments)
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(says)


def test_the_three_commands_read_a_bucket(bucket):
    upload(converted_once() / ROOT, f"mem://bucket/out/{ROOT}")
    assert "3 shards" in run_ilv("inspect", "mem://bucket/out").stdout
    shown = run_ilv("inspect", "mem://bucket/out/ilv_demo/1.0.0", "--episode", "first").stdout
    assert "frames: from the steps table" in shown
    assert run_ilv("stats", "mem://bucket/out").exit_code == 0
    assert "4 frames decoded, TFDS was not asked" in run_ilv("validate", "mem://bucket/out").stdout
    del bucket[f"mem://bucket/out/{ROOT}/steps/train-00000-of-00002.parquet"]
    assert run_ilv("validate", "mem://bucket/out").stdout.splitlines() == [
        "mem://bucket/out/ilv_demo/1.0.0/steps/train-00000-of-00002.parquet: missing"
    ]
    done = run_ilv("inspect", "mem://bucket/other")
    assert done.stderr.startswith("Error: mem://bucket/other: no such folder")
