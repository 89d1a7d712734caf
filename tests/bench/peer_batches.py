"""Measures TFDS on one core into the same batches as own_batches.py, in a process of its own.

    python tests/bench/peer_batches.py FOLDER

Prints one JSON object: steps a second of processor time, as Octo and OpenVLA read, that is by dlimp
(frames are decoded behind the shuffle buffer and resized with Lanczos' filter), and with the
cheapest of TensorFlow's resizings that does not alias. Texts stay texts, which spares TFDS work.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from timing import stay_on_one_core

stay_on_one_core()  # before TensorFlow counts the cores
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import tensorflow as tf  # noqa: E402
import tensorflow_datasets as tfds  # noqa: E402

BATCH, BUFFER = 64, 512  # as own_batches.py has them
CHUNK, IMAGE_PX, CROP_PX, MAX_IMAGES = 8, 96, 48, 2
STEPS_MAX = 10_000
CHEAPEST = "area"


def resize(image: Any, side_px: int, method: str) -> Any:
    """Shrinks (..., H, W, 3) uint8 without aliasing."""
    size = (side_px, side_px)
    found = tf.image.resize(image, size, method=method, antialias=method != CHEAPEST)
    return tf.cast(tf.clip_by_value(tf.round(found), 0, 255), tf.uint8)


def cut_episode(episode: Any) -> Any:
    """A dataset of the steps of an episode, with chunks of actions and the instruction."""
    steps = episode["steps"].batch(STEPS_MAX).get_single_element()
    num_steps = tf.shape(steps["action"])[0]
    numbers = tf.range(num_steps)[:, None] + tf.range(CHUNK)[None]
    instruction = episode["interleaved_instruction"]
    images = resize(instruction["image_instruction"], CROP_PX, CHEAPEST)[:MAX_IMAGES]
    images = tf.pad(images, [[0, MAX_IMAGES - tf.shape(images)[0]], [0, 0], [0, 0], [0, 0]])
    images = tf.ensure_shape(images, (MAX_IMAGES, CROP_PX, CROP_PX, 3))
    text = instruction["language_instruction"]
    return tf.data.Dataset.from_tensor_slices(
        {
            "frames": steps["observation"]["image"],
            "state": (steps["observation"]["state"] - 0.5) / 2.0,
            "actions": (tf.gather(steps["action"], tf.minimum(numbers, num_steps - 1)) - 0.5) / 2.0,
            "action_mask": numbers < num_steps,
        }
    ).map(lambda step: {**step, "images": images, "text": text})


def make_batches(builder: Any, method: str) -> Any:
    """One epoch of shuffled batches."""

    def decode(step: Any) -> Any:
        frame = tf.io.decode_jpeg(step["frames"], channels=3)
        return {**step, "frames": resize(frame, IMAGE_PX, method)}

    skip = {"steps": {"observation": {"image": tfds.decode.SkipDecoding()}}}
    episodes = builder.as_dataset(split="train", shuffle_files=True, decoders=skip)
    steps = episodes.flat_map(cut_episode).shuffle(BUFFER)
    return steps.map(decode, tf.data.AUTOTUNE).batch(BATCH).prefetch(2)


def steps_a_second(batches: Any) -> float:
    """The rate of a second pass; the first builds graphs and fills caches."""
    rate = 0.0
    for _ in range(2):
        begun = time.process_time()
        num_steps = sum(len(batch["frames"]) for batch in tfds.as_numpy(batches))
        rate = num_steps / (time.process_time() - begun)
    return rate


def main(folder: str) -> dict[str, float]:
    """Measures both."""
    builder = tfds.builder_from_directory(folder)
    methods = {"octo": "lanczos3", "cheapest": CHEAPEST}
    return {name: steps_a_second(make_batches(builder, m)) for name, m in methods.items()}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
