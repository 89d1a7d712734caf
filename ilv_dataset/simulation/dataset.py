"""A whole simulated dataset: episodes rendered one by one and written as a TFDS folder.

The sample that is committed in ilv_dataset/demo is
`simulate(Path("ilv_dataset/demo"), episodes=20, seed=365, episodes_per_shard=6)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

from ilv_dataset.child_processes import open_pool
from ilv_dataset.errors import ConfigError
from ilv_dataset.formats import files
from ilv_dataset.formats.example import encode_example
from ilv_dataset.formats.tfrecord import frame_record
from ilv_dataset.simulation.episodes import render_episode
from ilv_dataset.simulation.expert import STEP_M
from ilv_dataset.simulation.features import encode_features, features_json
from ilv_dataset.simulation.stage import import_pybullet

DATASET_NAME, DATASET_VERSION = "ilv_demo", "1.0.0"
EPISODES_PER_SHARD = 16  # some 3 MB a file
VAL_DIVISOR = 6  # one episode in six is kept for validation
DESCRIPTION = (
    "A simulated arm moves named, coloured objects on a table. Frames carry the true boxes and"
    " masks of all objects. Written by `ilv simulate`."
)


def simulate(
    out: Path,
    *,
    episodes: int,
    seed: int = 0,
    workers: int = 1,
    episodes_per_shard: int = EPISODES_PER_SHARD,
    step_m: float = STEP_M,
    on_episode: Callable[[int], None] | None = None,
) -> Path:
    """Writes OUT/ilv_demo/1.0.0, which `tfds.builder_from_directory` opens; returns that folder.

    The same episodes, seed and episodes_per_shard give the same bytes, however many workers
    there are. The folder appears when it is complete.

    Args:
        episodes: in all splits together; the last sixth are `val`, the others `train`.
        step_m: what the gripper moves in a step at most, metres; 0.04 gives some 45 steps.
        on_episode: called after each episode with how many are rendered.

    Raises:
        ConfigError: a number is not positive, the folder exists, or pybullet is not installed.
        StorageError: it cannot be written.
    """
    if min(episodes, workers, episodes_per_shard) < 1 or seed < 0:
        raise ConfigError(
            "episodes, workers and episodes_per_shard are at least 1, seed at least 0"
        )
    import_pybullet()
    folder = out / DATASET_NAME / DATASET_VERSION
    with files.naming_path(str(folder)):
        if folder.exists():
            raise ConfigError(f"{folder} already exists; name another folder or remove it")
        unfinished = folder.with_name(f".{DATASET_VERSION}.unfinished")
        _clear(unfinished)
        splits = plan_splits(episodes, episodes_per_shard)
        with _render_records(episodes, seed, workers, step_m) as records:
            sizes = _write_splits(unfinished, splits, _count(records, on_episode))
        (unfinished / "features.json").write_text(features_json(), encoding="utf-8")
        (unfinished / "dataset_info.json").write_text(_info_json(splits, sizes), encoding="utf-8")
        unfinished.rename(folder)
    return folder


def plan_splits(episodes: int, episodes_per_shard: int) -> dict[str, tuple[int, ...]]:
    """How many episodes each shard of each split holds, in the order they are written.

    >>> plan_splits(13, 6)
    {'train': (6, 5), 'val': (2,)}
    """
    num_val = episodes // VAL_DIVISOR
    counts = {"train": episodes - num_val, "val": num_val}
    return {
        split: tuple(
            min(episodes_per_shard, count - start) for start in range(0, count, episodes_per_shard)
        )
        for split, count in counts.items()
        if count
    }


def render_record(index: int, *, seed: int, step_m: float = STEP_M) -> bytes:
    """One episode as a serialized Example."""
    return encode_example(encode_features(render_episode(index, seed=seed, step_m=step_m)))


@contextmanager
def _render_records(
    episodes: int, seed: int, workers: int, step_m: float
) -> Iterator[Iterator[bytes]]:
    """All records in order, from this process or from several of their own."""
    render = partial(render_record, seed=seed, step_m=step_m)
    if workers == 1:
        yield map(render, range(episodes))
        return
    with open_pool(min(workers, episodes)) as pool:
        yield pool.imap(render, range(episodes))


def _count(records: Iterator[bytes], on_episode: Callable[[int], None] | None) -> Iterator[bytes]:
    for done, record in enumerate(records, start=1):
        if on_episode is not None:
            on_episode(done)
        yield record


def _write_splits(
    folder: Path, splits: Mapping[str, Sequence[int]], records: Iterator[bytes]
) -> dict[str, int]:
    """Writes all shards as their records come; returns the bytes of each split's records."""
    sizes = dict.fromkeys(splits, 0)
    for split, lengths in splits.items():
        for shard, length in enumerate(lengths):
            name = f"{DATASET_NAME}-{split}.tfrecord-{shard:05d}-of-{len(lengths):05d}"
            with (folder / name).open("wb") as file:
                for record in islice(records, length):
                    file.writelines(frame_record(record))
                    sizes[split] += len(record)
    return sizes


def _info_json(splits: Mapping[str, Sequence[int]], sizes: Mapping[str, int]) -> str:
    content = {
        "citation": "",
        "description": DESCRIPTION,
        "fileFormat": "tfrecord",
        "name": DATASET_NAME,
        "redistributionInfo": {"license": "Apache-2.0"},
        "releaseNotes": {DATASET_VERSION: "First version."},
        "splits": [
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": split,
                "numBytes": str(sizes[split]),
                "shardLengths": [str(length) for length in lengths],
            }
            for split, lengths in splits.items()
        ],
        "version": DATASET_VERSION,
    }
    return json.dumps(content, indent=1) + "\n"


def _clear(folder: Path) -> None:
    """Makes the folder, empty: what an interrupted run left in it goes."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
