"""Measures TFDS on one core, in a process of its own: reading, and read-decode-encode-write.

    python tests/bench/peer_tfds.py FOLDER NUM_EPISODES OUT

Prints one JSON object: episodes a second of reading with and without decoding, and of copying.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from timing import stay_on_one_core

stay_on_one_core()  # before TensorFlow counts the cores
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import tensorflow_datasets as tfds  # noqa: E402


class Copy(tfds.core.GeneratorBasedBuilder):
    """Decodes the first episodes of a dataset and writes them as a new one."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, source: Any, num_episodes: int, **options: Any) -> None:
        self._source = source
        self._num_episodes = num_episodes
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=self._source.info.features)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, episode in enumerate(read_episodes(self._source, self._num_episodes)):
            yield number, {**episode, "steps": list(episode["steps"])}


def read_episodes(builder: Any, num_episodes: int, **options: Any) -> Iterator[dict[str, Any]]:
    """The first episodes, as NumPy values; `steps` is still to be iterated."""
    dataset = builder.as_dataset(split=f"train[:{num_episodes}]", **options)
    return iter(tfds.as_numpy(dataset))


def count_steps(builder: Any, num_episodes: int, **options: Any) -> int:
    """Reads every step of the first episodes."""
    episodes = read_episodes(builder, num_episodes, **options)
    return sum(1 for episode in episodes for _ in episode["steps"])


def main(folder: str, num_episodes: int, out: str) -> dict[str, float]:
    """Measures the three, each after a run over one episode, which builds TensorFlow's graphs."""
    source = tfds.builder_from_directory(folder)
    skip = {"steps": {"observation": {"image": tfds.decode.SkipDecoding()}}}

    def copy(number: int) -> None:
        Copy(source, number, data_dir=Path(out, str(number))).download_and_prepare()

    rates = {}
    for name, action, number in (
        ("decode", lambda n: count_steps(source, n), num_episodes),
        ("skip", lambda n: count_steps(source, n, decoders=skip), num_episodes),
        ("copy", copy, max(2, num_episodes // 4)),
    ):
        action(1)
        begun = time.perf_counter()
        action(number)
        rates[name] = number / (time.perf_counter() - begun)
    return rates


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
