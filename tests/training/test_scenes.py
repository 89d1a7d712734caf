"""Stills on disk: what comes back is what was written, and what is there is not rendered again."""

from functools import partial

import numpy as np
import pytest

from ilv_dataset.errors import ConfigError
from ilv_dataset.training import scenes
from ilv_dataset.training.scenes import SceneFolder, TrainingScene, masks_of, save_scenes


def make_scene(seed: int, *names: str) -> TrainingScene:
    """Grey, with a square of 4 px for each thing, in a row from (0, 0)."""
    labels = np.zeros((16, 32), np.uint8)
    for number in range(len(names)):
        labels[:4, 4 * number : 4 * number + 4] = number + 1
    return TrainingScene(
        seed=seed,
        rgb=np.full((16, 32, 3), 90 + seed, np.uint8),
        labels=labels,
        names=names,
        nouns=tuple(name.split()[1] for name in names),
        colours=tuple(name.split()[0] for name in names),
        boxes_xyxy=np.array([[4 * n, 0, 4 * n + 4, 4] for n in range(len(names))], np.float32),
        visible_px=np.full(len(names), 16),
    )


def test_a_folder_gives_back_what_was_saved_in_the_order_of_the_seeds(tmp_path):
    save_scenes(tmp_path / "scenes-000000002.npz", [make_scene(2, "red mug")])
    save_scenes(
        tmp_path / "scenes-000000000.npz",
        [make_scene(0, "red mug", "blue ball"), make_scene(1, "grey pot")],
    )
    folder = SceneFolder(tmp_path)
    assert [folder[row].seed for row in range(len(folder))] == [0, 1, 2]
    scene = folder[0]
    assert (scene.names, scene.nouns) == (("red mug", "blue ball"), ("mug", "ball"))
    assert scene.boxes_xyxy.tolist() == [[0, 0, 4, 4], [4, 0, 8, 4]]
    assert scene.masks().sum(axis=(1, 2)).tolist() == [16, 16]
    assert np.abs(scene.rgb.astype(int) - 90).max() <= 2  # JPEG
    assert folder[1].colours == ("grey",)
    assert folder.pairs() == (("blue", "ball"), ("grey", "pot"), ("red", "mug"))
    assert len(SceneFolder(tmp_path, limit=2)) == 2


def test_an_empty_folder_says_how_to_fill_it(tmp_path):
    with pytest.raises(ConfigError, match=r"no scenes-\*\.npz in .*; python -m ilv_dataset\.tr"):
        SceneFolder(tmp_path)


def test_channels_stay_in_the_order_of_rgb(tmp_path):
    red = make_scene(0, "red mug")
    red.rgb[:] = (200, 40, 10)
    save_scenes(tmp_path / "scenes-000000000.npz", [red])
    assert np.abs(SceneFolder(tmp_path)[0].rgb[8, 16].astype(int) - [200, 40, 10]).max() <= 4


def test_a_file_that_is_there_is_not_rendered_again(tmp_path, monkeypatch):
    drawn = []

    def draw(seed: int, *, held_out: bool) -> TrainingScene:
        drawn.append((seed, held_out))
        return make_scene(seed, "red mug")

    monkeypatch.setattr(scenes, "draw_scene", draw)
    for _ in range(2):
        assert scenes.render_file(10, folder=tmp_path, num_scenes=2, held_out=True) == 2
    assert drawn == [(10, True), (11, True)]
    assert [path.name for path in tmp_path.iterdir()] == ["scenes-000000010.npz"]


def test_a_file_of_other_names_is_not_taken_for_what_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "draw_scene", lambda seed, **_: make_scene(seed, "red mug"))
    render = partial(scenes.render_file, 0, folder=tmp_path, num_scenes=1)
    render(held_out=False)
    with pytest.raises(ConfigError, match=r"000\.npz was rendered without --held-out; remove it"):
        render(held_out=True)
    path = tmp_path / "scenes-000000000.npz"
    with np.load(path) as stored:
        older = {name: stored[name] for name in stored.files if name != "held_out"}
    np.savez(path, **older)
    assert render(held_out=True) == 1
    assert SceneFolder(tmp_path)[0].names == ("red mug",)


def test_a_folder_without_stills_is_apart_from_nothing(tmp_path):
    with pytest.raises(ConfigError, match=r"no scenes-\*\.npz in"):
        scenes.check_apart([tmp_path])


def test_masks_of_a_picture_without_things():
    assert masks_of(np.zeros((2, 3), np.uint8), 0).shape == (0, 2, 3)


def test_a_still_of_the_simulation_has_boxes_around_its_labels():
    pytest.importorskip("pybullet")
    scene = scenes.draw_scene(5, size_px=64)
    assert scene.rgb.shape == (64, 64, 3)
    assert len(scene.names) == len(scene.boxes_xyxy) >= 3
    for mask, (x0, y0, x1, y1), count in zip(
        scene.masks(), scene.boxes_xyxy.astype(int), scene.visible_px, strict=True
    ):
        assert mask.sum() == mask[y0:y1, x0:x1].sum() == count


@pytest.mark.parametrize(
    ("boxes", "is_stacked"),
    [
        ([], False),
        ([(0, 0, 10, 10)], False),
        ([(0, 0, 10, 10), (2, 2, 6, 6)], True),
        ([(2, 2, 6, 6), (0, 0, 10, 10)], True),
        ([(0, 0, 10, 10), (8, 2, 14, 6)], False),  # its middle is outside
        ([(0, 0, 10, 10), (0, 0, 10, 10)], False),  # neither is larger
        ([(0, 0, 10, 10), (5, 5, 5, 5)], False),  # wholly hidden
    ],
)
def test_a_thing_is_stacked_where_its_middle_is_in_a_larger_box(boxes, is_stacked):
    assert scenes.has_stacked(np.array(boxes, np.float32).reshape(-1, 4)) is is_stacked


def test_stacked_stills_are_found_or_all_stand_in_for_them(tmp_path):
    plain, stacked = make_scene(0, "red mug"), make_scene(1, "red mug", "blue tray")
    stacked.boxes_xyxy[1] = (0, 0, 16, 16)
    save_scenes(tmp_path / "scenes-000000000.npz", [plain, stacked])
    assert SceneFolder(tmp_path).stacked == (1,)
    assert SceneFolder(tmp_path, limit=1).stacked == (0,)
