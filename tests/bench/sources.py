"""Generated RLDS datasets to measure on: the size of real ones, made of drawn, noisy frames."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ilv_dataset.formats.example import encode_example
from ilv_dataset.formats.tfrecord import frame_record

NAME, VERSION = "bench_robot", "1.0.0"
NUM_FRAMES = 61  # distinct ones of a size; prime, so that no two episodes show the same sequence
_NOISE = 7.3  # grey levels; makes a 256x256 frame at quality 95 about 30 kB, as real ones are
_QUALITY = 95
_FEATURES = "tensorflow_datasets.core.features"
_THINGS = ("orange", "apple", "banana", "carrot", "spoon", "fork", "knife", "bottle")
_PLACES = ("bowl", "cup", "vase", "wine glass")


@dataclass(frozen=True)
class EpisodeSize:
    """How much one episode holds."""

    num_steps: int
    side_px: int


@dataclass(frozen=True)
class Source:
    """One dataset in `data_dir`, as `--data-dir` takes it."""

    data_dir: Path
    num_episodes: int
    num_bytes: int

    @property
    def folder(self) -> Path:
        """The folder of dataset_info.json."""
        return self.data_dir / NAME / VERSION

    @property
    def shards(self) -> list[Path]:
        """Its TFRecord files."""
        return sorted(self.folder.glob("*.tfrecord-*"))


def generate_source(
    data_dir: Path, shards: Sequence[Sequence[EpisodeSize]], *, num_repeats: int = 1
) -> Source:
    """Writes a dataset with one shard for each list of episodes.

    Args:
        num_repeats: each shard is there so often, under names of its own (links to one file).
    """
    folder = data_dir / NAME / VERSION
    folder.mkdir(parents=True)
    sides_px = sorted({size.side_px for shard in shards for size in shard})
    frames = {side_px: _draw_frames(side_px) for side_px in sides_px}
    num_shards = len(shards) * num_repeats
    number = num_bytes = 0
    for index, sizes in enumerate(shards):
        path = folder / shard_name(index, num_shards)
        with path.open("wb") as file:
            for size in sizes:
                payload = make_record(number, size, frames[size.side_px])
                file.writelines(frame_record(payload))
                number += 1
            file.flush()
            os.fsync(file.fileno())
        num_bytes += path.stat().st_size
        for repeat in range(1, num_repeats):
            link = folder / shard_name(index + repeat * len(shards), num_shards)
            link.hardlink_to(path)
    lengths = [len(sizes) for sizes in shards] * num_repeats
    (folder / "features.json").write_text(json.dumps(_features_json(frames), indent=1))
    (folder / "dataset_info.json").write_text(json.dumps(_info_json(lengths, num_bytes), indent=1))
    return Source(data_dir, sum(lengths), num_bytes * num_repeats)


def shard_name(index: int, num_shards: int) -> str:
    """The name that TFDS gives a shard."""
    return f"{NAME}-train.tfrecord-{index:05d}-of-{num_shards:05d}"


def make_record(number: int, size: EpisodeSize, frames: Sequence[bytes]) -> bytes:
    """One episode, serialized; `number` decides its instruction, its frames and its numbers."""
    rng = np.random.default_rng(number)
    steps = np.arange(size.num_steps)
    last = steps == size.num_steps - 1
    vectors = rng.normal(size=(2, size.num_steps, 7)).astype(np.float32)
    stride = 1 + number % (NUM_FRAMES - 1)
    values = {
        "steps/observation/image": [frames[(number + i * stride) % NUM_FRAMES] for i in steps],
        "steps/observation/state": vectors[0],
        "steps/action": vectors[1],
        "steps/language_instruction": [instruction(number).encode()] * size.num_steps,
        "steps/is_first": steps == 0,
        "steps/is_last": last,
        "steps/is_terminal": last,
        "steps/reward": last.astype(np.float32),
        "steps/discount": np.ones(size.num_steps, np.float32),
        "episode_metadata/file_path": [f"episodes/{number:06d}.pkl".encode()],
    }
    return encode_example(values)


def instruction(number: int) -> str:
    """Names two things; each of them is a class that a COCO detector knows."""
    thing, place = _THINGS[number % len(_THINGS)], _PLACES[number // 8 % len(_PLACES)]
    return f"put the {thing} in the {place}"


def _draw_frames(side_px: int) -> list[bytes]:
    """JPEG frames of a table with blocks on it; sensor noise gives them the size of real ones."""
    return [_encode_frame(image) for image in _draw_scenes(side_px)]


def _draw_scenes(side_px: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(side_px)
    rows = np.linspace(70, 190, side_px)[:, None, None]
    for _ in range(NUM_FRAMES):
        image = np.broadcast_to(rows, (side_px, side_px, 3)) + rng.uniform(-30, 30, 3)
        image = np.ascontiguousarray(image.clip(0, 255).astype(np.uint8))
        for corner, size, colour in zip(
            rng.integers(0, side_px, (7, 2)),
            rng.integers(side_px // 16, side_px // 4, (7, 2)),
            rng.integers(0, 255, (7, 3)),
            strict=True,
        ):
            box = (*corner.tolist(), *size.tolist())
            cv2.rectangle(image, box, tuple(colour.tolist()), thickness=-1)
        noise = rng.normal(0, _NOISE, image.shape)
        yield (image + noise).clip(0, 255).astype(np.uint8)


def _encode_frame(image: np.ndarray) -> bytes:
    is_encoded, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert is_encoded
    return jpeg.tobytes()


def _info_json(lengths: Sequence[int], num_bytes: int) -> Mapping[str, object]:
    split = {
        "name": "train",
        "numBytes": str(num_bytes),
        "shardLengths": [str(length) for length in lengths],
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    }
    return {"fileFormat": "tfrecord", "name": NAME, "version": VERSION, "splits": [split]}


def _features_json(sides_px: Mapping[int, object]) -> Mapping[str, object]:
    side = str(next(iter(sides_px))) if len(sides_px) == 1 else "-1"
    image = {
        "pythonClassName": f"{_FEATURES}.image_feature.Image",
        "image": {
            "dtype": "uint8",
            "encodingFormat": "jpeg",
            "shape": {"dimensions": [side, side, "3"]},
        },
    }
    steps = {
        "observation": _dict_json({"image": image, "state": _tensor_json("float32", 7)}),
        "action": _tensor_json("float32", 7),
        "language_instruction": _text_json(),
        **{name: _tensor_json("bool") for name in ("is_first", "is_last", "is_terminal")},
        **{name: _tensor_json("float32") for name in ("reward", "discount")},
    }
    dataset = {
        "pythonClassName": f"{_FEATURES}.dataset_feature.Dataset",
        "sequence": {"feature": _dict_json(steps), "length": "-1"},
    }
    metadata = _dict_json({"file_path": _text_json()})
    return _dict_json({"steps": dataset, "episode_metadata": metadata})


def _dict_json(features: Mapping[str, object]) -> Mapping[str, object]:
    return {
        "pythonClassName": f"{_FEATURES}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }


def _text_json() -> Mapping[str, object]:
    return {"pythonClassName": f"{_FEATURES}.text_feature.Text", "text": {}}


def _tensor_json(dtype: str, *shape: int) -> Mapping[str, object]:
    dimensions = {"dimensions": [str(size) for size in shape]} if shape else {}
    return {
        "pythonClassName": f"{_FEATURES}.tensor_feature.Tensor",
        "tensor": {"dtype": dtype, "encoding": "none", "shape": dimensions},
    }
