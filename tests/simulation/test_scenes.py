import numpy as np
import pytest
from simulation.builders import LOOK

from ilv_dataset.simulation.scenes import Scene, Thing, draw_look, draw_places, is_free
from ilv_dataset.simulation.textures import TABLE_KINDS, TEXTURE_PX, paint_table


def test_name_says_what_tells_things_apart():
    assert Thing("mug", "red").name == "red mug"
    assert Thing("block", "blue", 0.7, "small").name == "small blue block"


def test_is_free_keeps_a_gap_of_12_mm():
    others = [(np.array([0.5, 0.0]), 0.05)]
    assert is_free(np.array([0.6, 0.0]), 0.0379, others)
    assert not is_free(np.array([0.6, 0.0]), 0.0381, others)
    assert is_free(np.array([0.5, 0.0]), 1.0, [])


def test_draw_places_keeps_footprints_apart():
    things = [Thing("plate", "red"), Thing("mug", "blue"), Thing("can", "green")]
    poses = draw_places(things, np.random.default_rng(0))
    assert poses is not None
    assert poses.shape == (3, 4)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        apart = np.hypot(*(poses[one, :2] - poses[other, :2]))
        assert apart >= things[one].radius_m + things[other].radius_m + 0.012
    assert (np.abs(poses[:, 1]) <= 0.23).all()


def test_draw_places_without_room_is_none():
    assert draw_places([Thing("tray", "red")] * 9, np.random.default_rng(0)) is None


def test_draw_look_repeats_for_a_seed_and_varies():
    one, again, other = (draw_look(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == again
    assert one.camera != other.camera


def test_scene_of_unequal_arrays_raises():
    with pytest.raises(ValueError, match=r"poses must be \(1, 4\)"):
        Scene((Thing("mug", "red"),), np.zeros((2, 4)), LOOK)


@pytest.mark.parametrize("kind", TABLE_KINDS)
def test_paint_table_is_a_dull_picture(kind: str):
    texture = paint_table(kind, 3)
    assert texture.shape == (TEXTURE_PX, TEXTURE_PX, 3)
    assert texture.min() >= 0.15
    assert texture.max() <= 0.9
    spread = texture.max(axis=2) - texture.min(axis=2)
    assert spread.max() < 0.35  # no colour of an object
    assert np.array_equal(texture, paint_table(kind, 3))
