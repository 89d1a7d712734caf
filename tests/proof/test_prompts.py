import io

import numpy as np
import pytest
from PIL import Image

from ilv_dataset.formats.tables import EpisodeRow, GroundedObject
from ilv_dataset.proof.prompts import Told, say_colours, tell
from ilv_dataset.proof.trials import Trial
from ilv_dataset.simulation.tasks import Task
from tests.simulation.builders import make_scene


def jpeg(grey):
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), grey, np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


def row(instruction, interleaved, phrases, greys):
    objects = tuple(
        GroundedObject(phrase, 0, 1, phrase, "object", grounded=True) for phrase in phrases
    )
    images = tuple(jpeg(grey) for grey in greys)
    return EpisodeRow(
        "e", 0, "d", "s", "f", 0, 0, 1, instruction, interleaved, images, objects, "interleaved", ""
    )


@pytest.fixture
def trial():
    scene = make_scene(("red mug", (0.5, 0.1)), ("blue plate", (0.5, -0.1)))
    task = Task("onto", 0, 1, np.zeros(4))
    return Trial(scene, task, "put the mug on the plate", np.zeros(6), 0.25)


@pytest.fixture
def told():
    own = row("put the mug on the plate", "put <image> on <image>", ("mug", "plate"), (20, 200))
    other = row("", "", ("red mug",), (90,))
    return Told({0: own}, {0: other})


def greys(instruction):
    return [int(image[0, 0, 0]) for image in instruction[1]]


def test_text_has_no_pictures_and_says_colours_where_asked(trial, told):
    assert tell("text", trial, 0, told) == ("put the mug on the plate", ())
    assert say_colours(trial) == "put the red mug on the blue plate"
    assert tell("colours", trial, 0, told)[0] == "put the red mug on the blue plate"


def test_own_crops_are_the_conversion_s_in_its_order(trial, told):
    own = tell("own", trial, 0, told)
    assert own[0] == "put <image> on <image>"
    assert greys(own) == [20, 200]
    assert tell("images", trial, 0, told)[0] == "<image> <image>"


def test_bank_has_the_same_object_from_elsewhere_and_else_the_own_crop(trial, told):
    assert greys(tell("bank", trial, 0, told)) == [90, 200]


def test_renders_and_sketches_are_of_the_things_that_are_named(trial, told):
    pytest.importorskip("pybullet")
    mug, plate = tell("outside", trial, 0, told)[1]
    assert mug[112, 112, 0] > 2 * mug[112, 112, 2]
    assert plate[130, 112, 2] > 2 * plate[130, 112, 0]
    assert set(np.unique(tell("sketch", trial, 0, told)[1][0])) == {0, 255}


def test_another_prompt_is_refused(trial, told):
    with pytest.raises(ValueError, match="prompt must be one of"):
        tell("smell", trial, 0, told)
