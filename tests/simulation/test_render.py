import sys

import numpy as np
import pytest
from simulation.builders import make_scene

from ilv_dataset.errors import ConfigError
from ilv_dataset.simulation.motion import Arrangement, begin
from ilv_dataset.simulation.render import FRAME_PX, World
from ilv_dataset.simulation.shading import label_boxes
from ilv_dataset.simulation.stage import import_pybullet

needs_pybullet = pytest.mark.skipif(
    "pybullet" not in sys.modules
    and __import__("importlib.util").util.find_spec("pybullet") is None,
    reason="pybullet is not installed",
)
RED_BALL_BLUE_BOX = make_scene(("red ball", (0.55, -0.15)), ("blue box", (0.55, 0.12)))


def test_import_pybullet_where_it_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pybullet", None)
    with pytest.raises(ConfigError, match=r"pip install 'ilv-dataset\[sim\]'"):
        import_pybullet()


@needs_pybullet
def test_picture_shows_things_where_they_are_in_their_colours():
    with World(RED_BALL_BLUE_BOX) as world:
        world.arrange(begin(RED_BALL_BLUE_BOX))
        picture = world.picture()
    assert picture.rgb.shape == (FRAME_PX, FRAME_PX, 3)
    assert set(np.unique(picture.labels)) == {0, 1, 2}
    boxes, counts = label_boxes(picture.labels, 2)
    # The camera looks along -x, so what is at y < 0 is left of the middle of the picture.
    assert boxes[0, 3] < 0.5 < boxes[1, 1]
    assert 400 < counts[0] < 1200
    red, blue = (picture.rgb[picture.labels == label].mean(0) for label in (1, 2))
    assert red[0] > 2 * red[2]
    assert blue[2] > 2 * blue[0]


@needs_pybullet
def test_picture_repeats_byte_for_byte():
    def take() -> np.ndarray:
        with World(RED_BALL_BLUE_BOX, supersample=1) as world:
            world.arrange(begin(RED_BALL_BLUE_BOX))
            return world.picture().rgb

    assert np.array_equal(take(), take())


@needs_pybullet
def test_a_thing_casts_a_shadow_on_the_table():
    scene = make_scene(("white can", (0.55, 0.0)))
    with World(scene, supersample=1) as world:
        world.arrange(begin(scene))
        with_can = world.picture()
        away = begin(scene)
        world.arrange(Arrangement(away.gripper_pose, True, np.array([[0.55, 0.9, -5.0, 0.0]])))
        without = world.picture()
    table = (with_can.labels == 0) & (without.labels == 0)
    darker = without.rgb[table].astype(int) - with_can.rgb[table]
    assert (darker.mean(1) > 20).sum() > 100


@needs_pybullet
def test_arm_out_of_reach_raises():
    now = begin(RED_BALL_BLUE_BOX)
    far = Arrangement(np.array([3.0, 0, 0.2, 0, 0, 0]), True, now.poses)
    with World(RED_BALL_BLUE_BOX) as world, pytest.raises(ValueError, match="does not reach"):
        world.arrange(far)
