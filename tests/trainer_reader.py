"""Reads TFDS folders as the trainers of Interleave-VLA do, with TensorFlow in a process of its own.

    python trainer_reader.py FOLDER [FOLDER ...]

The steps come undecoded, the metadata are repeated once a step, episodes become frames, the
datasets are mixed, pictures are decoded, and frames batched; prints one JSON object of a batch.
Any difference in structure between the datasets, or in shape between steps, raises.

Source: Interleave-VLA/Interleave-VLA@5167583, open-pi-zero/src/data/interleaved_dataset.py and
interleaved_obs_transforms.py; dlimp's DLataset.from_rlds. Written anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

GROUP = "interleaved_instruction"
BATCH = 8


def read_as_trainers(*folders: str | Path) -> dict[str, Any]:
    """Runs this file."""
    command = [sys.executable, __file__, *map(str, folders)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    found = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr[-3000:]
    return json.loads(found.stdout)


def _frames(folder: str) -> Any:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def spread(episode: dict[str, Any]) -> dict[str, Any]:
        steps = episode.pop("steps")
        num_steps = tf.shape(tf.nest.flatten(steps)[0])[0]
        metadata = tf.nest.map_structure(lambda value: tf.repeat(value, num_steps), episode)
        return {**steps, "traj_metadata": metadata}

    def restructure(trajectory: dict[str, Any]) -> dict[str, Any]:
        assert isinstance(trajectory[GROUP], dict)
        observation = trajectory["observation"]
        return {
            "image_primary": observation["image"],
            "proprio": tf.cast(observation["state"], tf.float32),
            "action": tf.cast(trajectory["action"], tf.float32),
            GROUP: trajectory[GROUP],
        }

    builder = tfds.builder_from_directory(folder)
    decoders = {"steps": tfds.decode.SkipDecoding()}
    episodes = builder.as_dataset(split="train", decoders=decoders)
    trajectories = episodes.map(spread).map(restructure)
    return trajectories.flat_map(tf.data.Dataset.from_tensor_slices)


def _decode(frame: dict[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    def decode(data: Any) -> Any:
        return tf.io.decode_image(data, expand_animations=False, dtype=tf.uint8)

    instruction = frame[GROUP]
    images = tf.map_fn(decode, instruction["image_instruction"], fn_output_signature=tf.uint8)
    return {
        **frame,
        "image_primary": decode(frame["image_primary"]),
        GROUP: {**instruction, "image_instruction": images},
    }


def _read(folders: list[str]) -> dict[str, Any]:
    import tensorflow as tf

    mixed = tf.data.Dataset.sample_from_datasets([_frames(folder) for folder in folders], seed=0)
    batches = mixed.map(_decode).batch(BATCH, drop_remainder=True).as_numpy_iterator()
    for batch in batches:
        texts = [text.decode() for text in batch[GROUP]["language_instruction"]]
        mask = batch[GROUP]["image_mask"]
        assert [text.count("<image>") for text in texts] == mask.sum(axis=1).tolist()
    return {
        "texts": texts,
        "keys": sorted(batch[GROUP]),
        "mask": list(mask.shape),
        "images": list(batch[GROUP]["image_instruction"].shape),
        "frames": list(batch["image_primary"].shape),
        "action": list(batch["action"].shape),
        "proprio": list(batch["proprio"].shape),
    }


if __name__ == "__main__":
    json.dump(_read(sys.argv[1:]), sys.stdout)
