from dataclasses import replace

import numpy as np
import pytest
from builders import (
    INSTRUCTION,
    decode,
    encode,
    make_episode,
    make_row,
    make_span,
    noise_png,
    scene,
    scene_jpeg,
    serialize,
)
from PIL import Image

from ilv_dataset.dataset_specs import VectorPart
from ilv_dataset.datasets import find_dataset
from ilv_dataset.errors import RecordError
from ilv_dataset.shards.interleave_vla import convert_span, resize_frame

DEMO = find_dataset("demo")


def convert(record, *, start=0, end=2, num_steps=2, spec=DEMO):
    span = make_span(start=start, end=end, num_steps=num_steps)
    row = make_row(step_start=start, step_end=end)
    payload = serialize(record)
    return convert_span(span, row, payload, text=INSTRUCTION, spec=spec, max_images=1)


def test_a_whole_episode():
    found = convert(make_episode(2, seed=3))
    assert found["steps/action"].tolist() == [[0] * 7, [0.125] * 7]
    assert found["steps/observation/state"].tolist() == [[3] * 7, [4] * 7]
    assert found["steps/observation/image"] == tuple(
        resize_frame(scene_jpeg(seed)) for seed in (3, 4)
    )
    flags = {
        name: found[f"steps/{name}"].tolist()
        for name in ("is_first", "is_last", "is_terminal", "reward", "discount")
    }
    assert flags == {
        "is_first": [True, False],
        "is_last": [False, True],
        "is_terminal": [False, True],
        "reward": [0, 1],
        "discount": [1, 1],
    }
    assert found["episode_metadata/file_path"] == [b"episode 3"]
    assert found["episode_metadata/state_kind"] == [b"pose"]


def test_a_part_of_an_episode_begins_and_ends_but_is_not_terminal():
    found = convert(make_episode(5), start=1, end=3, num_steps=5)
    assert found["steps/is_first"].tolist() == [True, False]
    assert found["steps/is_last"].tolist() == [False, True]
    assert found["steps/is_terminal"].tolist() == [False, False]
    assert found["steps/observation/state"].tolist() == [[1] * 7, [2] * 7]
    assert found["episode_metadata/step_start"].tolist() == [1]


def test_a_gripper_is_integrated_from_the_episodes_first_step():
    """It was closed before the span, and stays closed where the span has no move."""
    gripper = VectorPart("rel2abs", 1, "observation/half", 0, 1)
    spec = replace(DEMO, action=(VectorPart("zeros", 6), gripper))
    record = make_episode(5, steps__observation__half=np.array([0, 1, 0, 0, 0], np.float32))
    found = convert(record, start=2, end=4, num_steps=5, spec=spec)
    assert found["steps/action"][:, 6].tolist() == [0, 0]


def test_the_first_step_is_dropped_with_all_that_it_has():
    found = convert(make_episode(3), end=3, num_steps=3, spec=replace(DEMO, drop_first_step=True))
    assert found["steps/observation/state"].tolist() == [[1] * 7, [2] * 7]
    assert found["steps/observation/image"][0] == resize_frame(scene_jpeg(1))
    assert found["steps/is_first"].tolist() == [True, False]
    assert len(found["steps/interleaved_instruction/language_instruction"]) == 2
    assert found["episode_metadata/step_start"].tolist() == [1]


def test_what_a_source_does_not_say_is_as_in_demonstrations():
    nothing = dict.fromkeys(("steps__is_terminal", "steps__reward", "steps__discount"))
    nothing["episode_metadata__file_path"] = None
    found = convert(make_episode(3, **nothing), end=3, num_steps=3)
    assert found["steps/is_terminal"].tolist() == [False, False, True]
    assert found["steps/reward"].tolist() == [0, 0, 1]
    assert found["steps/discount"].tolist() == [1, 1, 1]
    assert found["episode_metadata/file_path"] == [b"ilv_demo-train.tfrecord-00000-of-00001__0"]


def test_a_source_that_says_it_does_not_end_is_believed():
    false = np.zeros(2, bool)
    found = convert(make_episode(2, steps__is_terminal=false, steps__is_last=false))
    assert found["steps/is_terminal"].tolist() == [False, False]
    assert found["steps/is_last"].tolist() == [False, True]


def test_channels_of_a_bgr_camera_are_turned_round():
    spec = replace(DEMO, cameras=(replace(DEMO.cameras[0], channel_order="bgr"),))
    frames = [encode(scene()[..., ::-1], "PNG")] * 2
    found = convert(make_episode(2, steps__observation__image=frames), spec=spec)
    picture = decode(found["steps/observation/image"][0])
    assert np.abs(picture[60, 60].astype(int) - (255, 120, 0)).max() < 8  # the orange carrot


def test_resize_frame_is_a_plain_bicubic_resize():
    pixels = decode(noise_png(1, 30, 60))
    found = decode(resize_frame(encode(pixels, "PNG")))
    expected = np.asarray(Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC))
    assert found.shape == (224, 224, 3)
    assert np.abs(found.astype(int) - expected).mean() < 12  # what a JPEG of noise loses


def test_resize_frame_of_one_colour_is_that_colour():
    green = np.full((48, 64, 3), (0, 200, 100), np.uint8)
    found = decode(resize_frame(encode(green, "PNG")))
    assert np.abs(found.astype(int) - (0, 200, 100)).max() <= 2


@pytest.mark.parametrize("name", ["observation/image", "observation/state"])
def test_an_optional_feature_that_is_missing_is_named(name):
    record = make_episode(2, **{f"steps/{name}": None})
    with pytest.raises(RecordError, match=f"the record has no steps/{name}") as caught:
        convert(record)
    assert caught.value.reason == "features-mismatch"


def test_a_frame_that_does_not_decode_is_named():
    frames = [scene_jpeg(), scene_jpeg()[:200] + scene_jpeg()[-2:]]
    with pytest.raises(RecordError, match="observation/image of step 1: image of 202 bytes"):
        convert(make_episode(2, steps__observation__image=frames))
