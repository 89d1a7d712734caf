"""The proof as a TFDS folder `ilv_proof`: whole episodes to learn from, first frames to test.

What `ilv convert` then makes of it are the instruction images, of training and of the tests.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from ilv_dataset.child_processes import open_pool
from ilv_dataset.formats.example import encode_example
from ilv_dataset.formats.tfrecord import frame_record
from ilv_dataset.proof.experts import begin_trial, plan_course
from ilv_dataset.proof.studio import Studio
from ilv_dataset.proof.trials import KINDS, Trial, draw_trial, move_trial
from ilv_dataset.simulation.features import features_json
from ilv_dataset.simulation.shading import label_boxes
from ilv_dataset.simulation.stage import Picture

DATASET_NAME, DATASET_VERSION = "ilv_proof", "1.0.0"
FRAME_PX = 192
JPEG_QUALITY = 90
EPISODES_PER_SHARD = 50
CLEAR_PX = 40  # of the mover and of the target in the first frame
DRAWS = 200
# A split is named by the kind of its trials; `<kind>_bank` shows the same two objects elsewhere.
BANK_SUFFIX = "_bank"

Columns = Mapping[str, Sequence[bytes] | np.ndarray]


@dataclass(frozen=True)
class ShardPlan:
    """Some episodes of one split."""

    split: str
    shard: int
    num_shards: int
    start: int
    stop: int

    @property
    def file_name(self) -> str:
        """As TFDS names it."""
        numbers = f"{self.shard:05d}-of-{self.num_shards:05d}"
        return f"{DATASET_NAME}-{self.split}.tfrecord-{numbers}"


def dataset_folder(out: Path) -> Path:
    """Where the dataset is written below a folder."""
    return out / DATASET_NAME / DATASET_VERSION


def write_demonstrations(
    out: Path,
    sizes: Mapping[str, int],
    *,
    seed: int,
    workers: int = 1,
    on_shard: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes OUT/ilv_proof/1.0.0; a shard that is there is kept, so a killed run goes on.

    Args:
        sizes: episodes of each split: `train`, names of PROOF_TESTS, and those with BANK_SUFFIX.
        on_shard: called after each shard with how many are there, and of how many.

    Raises: ConfigError if pybullet is not installed.
    """
    folder = dataset_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    plans = [plan for split, size in sizes.items() for plan in plan_shards(split, size)]
    missing = [plan for plan in plans if not (folder / plan.file_name).exists()]
    write = partial(_write_shard, folder=folder, seed=seed)
    done = len(plans) - len(missing)
    with open_pool(workers) as pool:
        for _ in pool.imap_unordered(write, missing):
            done += 1
            if on_shard is not None:
                on_shard(done, len(plans))
    (folder / "features.json").write_text(_features_json(), encoding="utf-8")
    (folder / "dataset_info.json").write_text(_info_json(folder, sizes), encoding="utf-8")
    return folder


def plan_shards(split: str, size: int) -> list[ShardPlan]:
    """The shards of a split.

    >>> [(plan.start, plan.stop) for plan in plan_shards("train", 120)]
    [(0, 50), (50, 100), (100, 120)]
    """
    starts = range(0, size, EPISODES_PER_SHARD)
    return [
        ShardPlan(split, number, len(starts), start, min(size, start + EPISODES_PER_SHARD))
        for number, start in enumerate(starts)
    ]


def find_trial(split: str, index: int, *, seed: int) -> tuple[Trial, Picture]:
    """The trial of an episode, and the picture that it begins with.

    It is the first of those drawn whose mover and target can be seen when it begins.

    Raises: ConfigError if pybullet is not installed.
    """
    studio = open_studio()
    is_bank = split.endswith(BANK_SUFFIX)
    kind = split.removesuffix(BANK_SUFFIX)
    same = find_trial(kind, index, seed=seed)[0] if is_bank else None
    for draw in range(DRAWS):
        rng = np.random.default_rng([seed, _number_of(split), index, draw])
        trial = draw_trial(kind, rng) if same is None else move_trial(kind, same, rng)
        picture = studio.take(trial.scene, begin_trial(trial))
        counts = label_boxes(picture.labels, len(trial.scene.things))[1]
        if counts[[trial.task.mover, trial.task.target]].min() >= CLEAR_PX:
            return trial, picture
    raise RuntimeError(f"no {split} trial in {DRAWS} draws of seed {seed}, episode {index}")


def _number_of(split: str) -> int:
    return KINDS.index(split.removesuffix(BANK_SUFFIX)) * 2 + split.endswith(BANK_SUFFIX)


@cache
def open_studio() -> Studio:
    """The studio of this process."""
    return Studio(frame_px=FRAME_PX)


def _write_shard(plan: ShardPlan, *, folder: Path, seed: int) -> None:
    records = [
        encode_example(_encode_episode(plan.split, index, seed))
        for index in range(plan.start, plan.stop)
    ]
    unfinished = folder / f".{plan.file_name}"
    with unfinished.open("wb") as file:
        for record in records:
            file.writelines(frame_record(record))
    unfinished.rename(folder / plan.file_name)


def _encode_episode(split: str, index: int, seed: int) -> Columns:
    trial, picture = find_trial(split, index, seed=seed)
    pictures = [picture]
    course, actions = plan_course(trial)
    if split == "train":
        pictures += [open_studio().take(trial.scene, now) for now in course[1:-1]]
    count = len(pictures)
    at_end = np.arange(count) == count - 1
    return {
        "steps/observation/image": [_jpeg(picture.rgb) for picture in pictures],
        "steps/observation/state": np.stack([now.state for now in course[:count]]),
        "steps/language_instruction": [trial.text.encode()] * count,
        "steps/action": actions[:count],
        "steps/reward": at_end.astype(np.float32),
        "steps/discount": np.ones(count, np.float32),
        "steps/is_first": np.arange(count) == 0,
        "steps/is_last": at_end,
        "steps/is_terminal": at_end,
        "episode_metadata/episode_id": np.array([index]),
        "episode_metadata/seed": np.array([seed]),
        "episode_metadata/case": [split.encode()],
    }


def _jpeg(rgb: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _features_json() -> str:
    """The simulation's features without the truth about objects, and with smaller frames."""
    features = json.loads(features_json())
    parts = features["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]
    observation = parts["features"]["observation"]["featuresDict"]["features"]
    image = observation["image"]
    image["image"]["shape"]["dimensions"] = [str(FRAME_PX), str(FRAME_PX), "3"]
    parts["features"]["observation"]["featuresDict"]["features"] = {
        "image": image,
        "state": observation["state"],
    }
    return json.dumps(features, indent=1, sort_keys=True) + "\n"


def _info_json(folder: Path, sizes: Mapping[str, int]) -> str:
    splits = []
    for split, size in sizes.items():
        plans = plan_shards(split, size)
        num_bytes = sum((folder / plan.file_name).stat().st_size for plan in plans)
        splits.append(
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": split,
                "numBytes": str(num_bytes),
                "shardLengths": [str(plan.stop - plan.start) for plan in plans],
            }
        )
    content = {
        "citation": "",
        "description": "A simulated arm puts one thing in or on another. Written by `make proof`.",
        "fileFormat": "tfrecord",
        "name": DATASET_NAME,
        "redistributionInfo": {"license": "Apache-2.0"},
        "releaseNotes": {DATASET_VERSION: "First version."},
        "splits": splits,
        "version": DATASET_VERSION,
    }
    return json.dumps(content, indent=1) + "\n"
