"""The segmenter's training: its samples, its scores, and a small run that is killed and goes on."""

from __future__ import annotations

import csv
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from ilv_dataset.errors import ConfigError
from ilv_dataset.masks import mask_areas_px, mask_boxes_xyxy
from ilv_dataset.models.sam import SamSegmenter, mirror
from ilv_dataset.models.sam_network import SamSizes
from ilv_dataset.records import Masks
from ilv_dataset.training import segmenter
from ilv_dataset.training.scenes import SceneFolder, TrainingScene, masks_of, save_scenes
from ilv_dataset.training.segmenter import TrainingConfig, lr_at
from ilv_dataset.training.segmenter_samples import (
    draw_point,
    draw_sample,
    inner_point,
    jitter_box,
    paint,
    spoil,
)
from ilv_dataset.training.segmenter_scores import (
    measure_ious,
    measure_segmenter,
    summarise_ious,
)
from ilv_dataset.training.teams import Team

TINY = SamSizes(
    image_px=32,
    patch_px=4,
    width=32,
    depth=2,
    heads=2,
    mlp_ratio=2.0,
    window=0,
    global_blocks=(),
    prompt_width=32,
    mask_channels=4,
    num_masks=1,
    decoder_depth=1,
    decoder_mlp=48,
    quality_depth=2,
    quality_width=24,
)
CONFIG = TrainingConfig(depth=2, steps=30, batch=8, workers=1, lr=2e-3, warmup=3, average=0.9)


def make_scene(seed: int = 0) -> TrainingScene:
    """A bright block of 40 x 20 pixels and a dot of 4 on a dark table, and a hidden thing."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(20, 60, (96, 120, 3), dtype=np.uint8)
    labels = np.zeros((96, 120), np.uint8)
    x, y = rng.integers(0, 80), rng.integers(0, 70)
    labels[y : y + 20, x : x + 40] = 1
    labels[0:2, 0:2] = 2
    rgb[labels == 1] = rng.integers(150, 255, 3)
    masks = masks_of(labels, 3)
    words = ("block", "dot", "ghost")
    return TrainingScene(
        seed, rgb, labels, words, words, words, mask_boxes_xyxy(masks), mask_areas_px(masks)
    )


# --- samples


def test_jitter_box_moves_each_edge_by_up_to_its_share():
    rng = np.random.default_rng(0)
    box = np.array([10, 20, 50, 30], np.float32)
    assert jitter_box(box, 0, rng, size_wh=(100, 100)).tolist() == [10, 20, 50, 30]
    moved = np.stack([jitter_box(box, 0.05, rng, size_wh=(100, 100)) for _ in range(500)]) - box
    np.testing.assert_allclose(np.abs(moved).max(axis=0), [2, 0.5, 2, 0.5], rtol=0.05)
    assert (np.abs(moved).max(axis=0) <= [2, 0.5, 2, 0.5]).all()


def test_jitter_box_stays_inside_the_frame():
    rng = np.random.default_rng(0)
    boxes = [jitter_box(np.array([0, 0, 100, 50]), 0.2, rng, size_wh=(100, 50)) for _ in range(50)]
    assert np.min(boxes) == 0
    assert np.max(boxes, axis=0)[2:].tolist() == [100, 50]


def test_points_of_a_mask():
    mask = np.zeros((9, 12), bool)
    mask[2:7, 4:9] = True
    assert inner_point(mask).tolist() == [6.5, 4.5]
    rng = np.random.default_rng(0)
    drawn = np.array([draw_point(mask, rng) for _ in range(200)])
    assert mask[drawn[:, 1].astype(int), drawn[:, 0].astype(int)].all()
    assert len(np.unique(drawn.astype(int), axis=0)) == 25


def test_mirror_of_a_point_and_of_a_box():
    assert mirror(np.array([1.0, 2.0]), width=10).tolist() == [9, 2]
    assert mirror(np.array([1, 2, 4, 6]), width=10).tolist() == [6, 2, 9, 6]


def test_the_mask_of_a_sample_lies_where_its_prompt_says():
    rng = np.random.default_rng(0)
    kinds = set()
    for seed in range(60):
        sample = draw_sample(make_scene(seed), 0, rng, side=64)
        kinds.add(len(sample.prompt))
        assert sample.pixels.dtype == np.uint8
        assert sample.pixels.shape[0] == 3
        assert max(sample.pixels.shape) == 64
        found = sample.mask > 0.5
        if len(sample.prompt) == 2:
            column, row = np.minimum(sample.prompt.astype(int), 63)
            assert sample.mask[row, column] > 0.2  # a quarter of the pixel at a corner
            continue
        (box,) = mask_boxes_xyxy(found[None])
        sides = np.tile(box[2:] - box[:2], 2)
        assert (np.abs(box - sample.prompt) <= 0.4 * sides + 1).all()  # jitter up to a quarter
        assert found[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])].mean() > 0.95
    assert kinds == {2, 4}


def test_a_sample_shows_the_thing_under_its_mask():
    rng = np.random.default_rng(1)
    brighter = 0
    for seed in range(40):
        sample = draw_sample(make_scene(seed), 0, rng, side=64)
        _, height, width = sample.pixels.shape
        mask, pixels = sample.mask[:height, :width], sample.pixels.mean(axis=0)
        brighter += pixels[mask > 0.9].mean() > pixels[mask < 0.1].mean()
    assert brighter >= 36  # a pattern or a strong change of light may hide it


def test_paint_leaves_the_rest_alone():
    pixels = np.full((20, 30, 3), 100, np.float32)
    thing = np.zeros((20, 30), np.float32)
    thing[5:10, 5:10] = 1
    changed = []
    for seed in range(30):
        painted = paint(pixels, thing, np.random.default_rng(seed))
        differs = (painted != 100).any(axis=2)
        changed.append((bool(differs[thing == 1].any()), bool(differs[thing == 0].any())))
    assert set(changed) == {(True, False), (False, True), (False, False)}


def test_spoil_gives_another_picture_of_the_same_size():
    pixels = np.full((17, 30, 3), 100, np.float32)
    first, again, other = (spoil(pixels, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (17, 30, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


# --- scores


class BoxSegmenter:
    """Takes the whole box; of a point, four pixels."""

    spec = fingerprint = "box"

    def __call__(self, images, boxes_xyxy):
        return [self._fill(*pair) for pair in zip(images, boxes_xyxy, strict=True)]

    def segment_points(self, images, points_xy):
        boxes = [np.concatenate([each - 1, each + 1], axis=1) for each in points_xy]
        return self(images, boxes)

    def _fill(self, image, boxes):
        masks = np.zeros((len(boxes), *image.shape[:2]), bool)
        for mask, (x0, y0, x1, y1) in zip(masks, np.round(boxes).astype(int), strict=True):
            mask[y0:y1, x0:x1] = True
        return Masks(masks, np.ones(len(boxes), np.float32))


def test_measure_ious_asks_for_what_is_large_enough_to_crop():
    scenes = [make_scene(seed) for seed in range(3)]
    ious, sides = measure_ious(BoxSegmenter(), scenes, "exact box")
    assert ious.tolist() == [1, 1, 1]  # the dot of 4 pixels and the hidden thing are left out
    assert sides.tolist() == [40, 40, 40]
    ious, _ = measure_ious(BoxSegmenter(), scenes, "innermost point")
    np.testing.assert_allclose(ious, 4 / 800)
    ious, _ = measure_ious(BoxSegmenter(), scenes, "box jittered by 5 %")
    assert (ious > 0.8).all()
    assert (ious < 1).any()
    assert set(measure_segmenter(BoxSegmenter(), scenes)) == {
        "exact box", "box jittered by 5 %", "innermost point", "any point",
    }  # fmt: skip


def test_summarise_ious():
    summary = summarise_ious(np.array([0.4, 0.6, 0.92, 1.0]), np.array([5, 12, 100, 59.0]))
    assert summary["objects"] == 4
    assert summary["mean_iou"] == 0.73
    # Variance (0.33^2 + 0.13^2 + 0.19^2 + 0.27^2) / 4 = 0.0587, and 1.96 * 0.2423 / 2 = 0.2374.
    assert summary["interval_95"] == [0.4926, 0.9674]
    assert (summary["share_over_0.5"], summary["share_over_0.9"]) == (0.75, 0.5)
    assert summary["mean_iou_by_side_px"] == {"0+": 0.4, "12+": 0.6, "30+": 1.0, "60+": 0.92}


# --- the run


def test_lr_at_rises_stays_and_falls():
    config = TrainingConfig(steps=100, lr=1.0, warmup=10)
    steps = [0, 9, 65, 72, 93, 100]  # it falls over the last 35
    assert [lr_at(step, config) for step in steps] == pytest.approx([0.1, 1, 1, 0.8, 0.2, 0])


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(segmenter, "SIZES", TINY)
    monkeypatch.setattr(segmenter, "LOG_EVERY", 5)
    monkeypatch.setattr(segmenter, "SAVE_EVERY", 10)
    save_scenes(tmp_path / "scenes-000000000.npz", [make_scene(seed) for seed in range(6)])
    return tmp_path


def losses(run, scenes, config, num: int) -> list[float]:
    return [loss for loss, _ in islice(segmenter.train(run, scenes, config), num)]


def test_training_learns(folder):
    config = replace(CONFIG, steps=60)
    found = losses(segmenter.start_run(config), SceneFolder(folder), config, 60)
    assert np.mean(found[-10:]) < 0.7 * np.mean(found[:10])


def test_two_workers_see_different_samples_and_keep_equal_weights(folder):
    import torch

    config = replace(CONFIG, workers=2)
    scenes = SceneFolder(folder)
    alone, *members = (segmenter.start_run(config) for _ in range(3))
    sums = torch.zeros(2, 2, sum(weight.numel() for weight in alone.model.parameters()))
    barrier = threading.Barrier(2)

    def work(rank: int) -> list[float]:
        team = Team(rank, 2, sums, barrier)
        steps = segmenter.train(members[rank], scenes, config, team=team)
        return [loss for loss, _ in islice(steps, 4)]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, range(2))
    assert first != second
    own, others = members[0].averaged, members[1].averaged
    for name, weight in own.items():
        torch.testing.assert_close(weight, others[name], rtol=0, atol=0)
    by_itself = losses(alone, scenes, config, 4)
    assert by_itself[0] == first[0]
    assert by_itself[1:] != first[1:]  # it learned from its own samples alone


def test_a_killed_run_goes_on_as_if_nothing_had_happened(folder):
    scenes, path = SceneFolder(folder), folder / "run.pt"
    whole = losses(segmenter.start_run(CONFIG), scenes, CONFIG, 12)
    run = segmenter.start_run(CONFIG)
    losses(run, scenes, CONFIG, 8)
    segmenter.save_run(path, run, CONFIG)
    (folder / "run.unfinished").write_bytes(b"killed while it was being written")
    resumed = segmenter.load_run(path, CONFIG)
    assert resumed.step == 8
    assert losses(resumed, scenes, CONFIG, 4) == whole[8:]


def test_a_run_begins_with_the_weights_of_an_earlier_one(folder):
    import torch

    first = segmenter.start_run(replace(CONFIG, seed=1))
    path = segmenter.export_run(first, folder / "out")
    run = segmenter.start_run(replace(CONFIG, start=str(path)))
    for name, weight in run.model.state_dict().items():
        torch.testing.assert_close(weight, first.averaged[name].half().float(), rtol=0, atol=0)
    with pytest.raises(ConfigError, match=r"no weights at none\.safetensors"):
        segmenter.start_run(replace(CONFIG, start="none.safetensors"))


def test_blocks_that_the_earlier_weights_lack_change_nothing_until_they_are_trained(folder):
    import torch

    few = segmenter.start_run(CONFIG)
    path = segmenter.export_run(few, folder / "out")
    few = segmenter.start_run(replace(CONFIG, start=str(path)))
    run = segmenter.start_run(replace(CONFIG, start=str(path), depth=4))
    pixels = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        before = few.model.image_encoder(pixels)
        torch.testing.assert_close(run.model.image_encoder(pixels), before, rtol=0, atol=0)
    losses(run, SceneFolder(folder), CONFIG, 3)
    with torch.inference_mode():
        blocks = run.model.image_encoder.blocks
        lasts = [last.weight for block in blocks for last in (block.attn.proj, block.mlp.lin2)]
        assert all(weight.abs().max() > 0 for weight in lasts)
        assert not torch.equal(run.model.image_encoder(pixels), before)


@pytest.mark.parametrize(("width", "depth"), [(16, 2), (32, 1)])
def test_weights_of_another_size_to_begin_with_are_refused(folder, monkeypatch, width, depth):
    path = segmenter.export_run(segmenter.start_run(CONFIG), folder / "out")
    monkeypatch.setattr(segmenter, "SIZES", replace(TINY, width=width))
    with pytest.raises(ConfigError, match=r"safetensors is not a SAM that can grow") as caught:
        segmenter.start_run(replace(CONFIG, start=str(path), depth=depth))
    assert "\n" not in str(caught.value)


def test_a_run_that_goes_on_needs_no_weights_to_begin_with(folder):
    path = segmenter.export_run(segmenter.start_run(CONFIG), folder / "out")
    config = replace(CONFIG, start=str(path))
    segmenter.save_run(folder / "run.pt", segmenter.start_run(config), config)
    path.unlink()
    assert segmenter.load_run(folder / "run.pt", config).step == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch": 1, "workers": 2}, "--batch must be a multiple of --workers, got 1 and 2"),
        ({"batch": 33, "workers": 2}, "--batch must be a multiple of --workers, got 33 and 2"),
        ({"batch": 0}, "--batch must be a multiple of --workers, got 0 and 2"),
        ({"workers": 0}, "--workers must be at least 1, got 0"),
        ({"warmup": 0}, "--warmup must be at least 1, got 0"),
        ({"depth": 0}, "--depth must be at least 1, got 0"),
        ({"steps": 0}, "--steps must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_be_trained_with_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        TrainingConfig(**options)


def test_stills_that_were_learned_from_are_no_measure(folder):
    paths = ["--scenes", folder, "--held-out", folder, "--work", folder / "w", "--out", folder]
    with pytest.raises(ConfigError, match="share 6 stills, the first of seed 0"):
        segmenter.main([*map(str, paths)])
    assert not (folder / "w").exists()


def test_a_run_of_another_config_is_refused(folder):
    segmenter.save_run(folder / "run.pt", segmenter.start_run(CONFIG), CONFIG)
    with pytest.raises(ConfigError, match=r"run\.pt was made with .*seed=0.*; go on with that"):
        segmenter.load_run(folder / "run.pt", replace(CONFIG, seed=1))


def test_the_number_of_steps_may_change_until_the_learning_rate_falls(folder):
    run = segmenter.start_run(CONFIG)
    for step, steps, is_fit in [(19, 60, True), (6, 10, True), (7, 10, False), (20, 60, False)]:
        run.step = step  # of 30, the last 10.5 of them with a falling rate
        segmenter.save_run(folder / "run.pt", run, CONFIG)
        if is_fit:
            assert segmenter.load_run(folder / "run.pt", replace(CONFIG, steps=steps)).step == step
        else:
            with pytest.raises(ConfigError, match=r"steps=30"):
                segmenter.load_run(folder / "run.pt", replace(CONFIG, steps=steps))


def test_the_command_leaves_weights_that_load_a_log_and_scores(folder):
    out = folder / "out"
    options = {"steps": 20, "batch": 4, "workers": 1, "warmup": 2, "average": 0.5}
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    measured = folder / "measured"
    measured.mkdir()
    save_scenes(measured / "scenes-000000006.npz", [make_scene(seed) for seed in (6, 7, 8)])
    paths = ["--scenes", folder, "--held-out", measured, "--work", folder / "work", "--out", out]
    segmenter.main([*map(str, paths), "--limit", "2", *flags])
    with (out / "sam-tabletop.log.csv").open() as file:
        log = list(csv.DictReader(file))
    assert [row["step"] for row in log] == ["5", "10", "15", "20"]
    told = json.loads((out / "sam-tabletop.scores.json").read_text())
    assert told["config"]["steps"] == 20
    by_segmenter = told["scores"]["measured"]
    assert by_segmenter["grabcut"]["exact box"]["objects"] == 2
    assert by_segmenter["sam:tabletop"]["any point"]["objects"] == 2
    loaded = SamSegmenter(out / "sam-tabletop.safetensors", spec="sam", device="cpu")
    (found,) = loaded([make_scene().rgb], [np.array([[10, 10, 60, 40]], np.float32)])
    assert found.masks.shape == (1, 96, 120)
