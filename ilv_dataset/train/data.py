"""Converted shards as batches of tensors: shuffled, split over ranks and workers, resumable.

Shards are streamed. A worker holds one row group (16 MB) or record and the span that is read, with
`weights` one of each dataset, and the shuffle buffer: `shuffle_buffer` samples, shared evenly by
datasets with `weights`, and at most a span more of each. A sample has its `window` frames as
encoded bytes (4,096 frames of 30 kB are 123 MB), which are decoded when they leave the buffer, or
as squares that stay on the disk (`keep_frames`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, IterableDataset

from ilv_dataset.bank import Bank, ImageMix
from ilv_dataset.dataset_reader import (
    ConvertedShard,
    StepColumns,
    find_columns,
    open_dataset,
    stack_numbers,
)
from ilv_dataset.errors import ConfigError, IlvError, RecordError
from ilv_dataset.formats.tables import EpisodeRow
from ilv_dataset.instruction_tokens import EncodedInstruction, encode_instruction, pick_images
from ilv_dataset.layout import Layout
from ilv_dataset.small_frames import EncodedImage, encoded_frames, open_small_frames
from ilv_dataset.step_statistics import StepStatistics, data_digest, statistics_by_dataset
from ilv_dataset.step_streams import Consumer, StepStream, begin, make_streams, mix_streams

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class DataConfig:
    """Which steps are read and what becomes of them; plain values, so it goes into a checkpoint."""

    split: str = "train"
    format: str = ""  # "parquet" or "rlds"; "" takes Parquet where it is there
    include_text_only: bool = True  # of the spans that were written
    camera: str = ""  # "" takes the one that the conversion looked at first
    state_key: str = "observation/state"  # several, joined in order, with commas; "" for none
    action_key: str = "action"  # likewise
    image_px: int = 96
    crop_px: int = 48
    window: int = 1  # frames and states up to the step; the first is repeated before it
    chunk: int = 8  # actions from the step on
    batch: int = 64
    seed: int = 0
    shuffle_buffer: int = 4096  # samples a worker, of all datasets together
    keep_frames: bool = False  # decoded once and kept as squares beside the data
    instruction: str = "interleaved"  # or "text"
    max_images: int = 2  # of an instruction; further ones are spelt out
    max_tokens: int = 24
    mix: str = "own=1"  # where instruction images come from, as `ImageMix.parse` reads it
    bank: str = ""  # the bank's folder, where the mix needs one
    weights: Mapping[str, float] = field(default_factory=dict)  # by dataset; {}: by steps

    def __post_init__(self) -> None:
        if self.instruction not in ("interleaved", "text"):
            raise ConfigError(f"instruction is interleaved or text, got {self.instruction!r}")
        for name in ("image_px", "crop_px", "window", "chunk", "batch", "max_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.max_images < 0 or any(weight <= 0 for weight in self.weights.values()):
            raise ConfigError("max_images must be 0 or more, and weights above 0")
        if not self.action_key.replace(",", " ").split():
            raise ConfigError("no actions: action_key names no column")
        if ImageMix.parse(self.mix).needs_bank != bool(self.bank):
            missing = "no bank is named: ilv bank build" if not self.bank else "needs no bank"
            raise ConfigError(f"the mix {self.mix!r}: {missing}")

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`; what an older one lacks is as the defaults are."""
        unknown = content.keys() - {known.name for known in fields(cls)}
        if unknown:
            raise ConfigError(f"unknown settings of data: {', '.join(sorted(unknown))}")
        return cls(**content)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class _Sample(NamedTuple):
    frames: Sequence[EncodedImage | np.ndarray]  # window of them; squares are on the disk
    state: np.ndarray  # (window, S)
    actions: np.ndarray  # (N <= chunk, A)
    instruction: EncodedInstruction


@dataclass(frozen=True)
class _Maker:
    """Turns the steps of a span into samples."""

    config: DataConfig
    columns: Mapping[Layout, StepColumns]
    statistics: Mapping[str, StepStatistics]
    bank: Bank | None

    def __call__(
        self, shard: ConvertedShard, epoch: int, row: EpisodeRow, table: pa.Table
    ) -> list[_Sample]:
        config, columns = self.config, self.columns[shard.layout]
        statistics = self.statistics[shard.layout.dataset]
        states = statistics.normalize_states(stack_numbers(table, columns.state))
        actions = statistics.normalize_actions(stack_numbers(table, columns.action))
        if config.keep_frames:
            frames: list[Any] = open_small_frames(shard, columns, config.image_px).of(row)
        else:
            frames = encoded_frames(shard, columns, row, table)
        instruction = self._encode(shard, row, epoch)
        # Behind copies of the first step, for windows do not reach into another span.
        before = config.window - 1
        frames = [frames[0]] * before + frames
        states = np.concatenate([states[:1].repeat(before, axis=0), states])
        return [
            _Sample(
                frames[step : step + config.window],
                states[step : step + config.window],
                actions[step : step + config.chunk],
                instruction,
            )
            for step in range(len(actions))
        ]

    def _encode(self, shard: ConvertedShard, row: EpisodeRow, epoch: int) -> EncodedInstruction:
        config = self.config
        if config.instruction == "text":
            return encode_instruction(row.instruction, (), config)
        mix = ImageMix.parse(config.mix)
        text, jpegs = pick_images(
            row, mix, self.bank, seed=config.seed, epoch=epoch, max_images=config.max_images
        )
        name = f"{shard.layout.root}: picture in the instruction of {row.span_id}"
        images = [EncodedImage(jpeg, False, name).decode(config.crop_px) for jpeg in jpegs]
        return encode_instruction(text, images, config)


@dataclass(eq=False)
class _Workers(IterableDataset):
    """What each worker process iterates: (its number, its position behind the batch, batch)."""

    streams: Sequence[StepStream]
    maker: _Maker
    rank: int
    world: int
    epochs: int | None
    positions: list[dict[str, Any]]  # of each worker
    turn: int = 0  # whose batch is next

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any], Batch | partial[IlvError]]]:
        config, total, number = self.maker.config, len(self.positions), self.turn
        if (info := torch.utils.data.get_worker_info()) is not None:
            number = (self.turn + info.id) % total
            cv2.setNumThreads(0)  # its threads do not outlive a fork
        position = deepcopy(self.positions[number])
        weights = [config.weights.get(stream.name, 1.0) for stream in self.streams]
        consumer = Consumer(self.rank * total + number, self.world * total)
        samples = mix_streams(
            self.streams, weights, consumer, self.maker, position=position, epochs=self.epochs
        )
        try:
            while some := list(islice(samples, config.batch)):
                yield number, deepcopy(position), _make_batch(some, config)
        except IlvError as error:  # out of a worker, torch would raise another one
            reason = (error.reason,) if isinstance(error, RecordError) else ()
            yield number, position, partial(type(error), *reason, str(error))


class Batches:
    """Batches without end, or of so many epochs; iterating again goes on where it was left.

    frames (B, window, 3, image_px, image_px) uint8 RGB, channels last in memory; state
    (B, window, S) and actions (B, chunk, A) float32, normalised; action_mask (B, chunk), False
    behind the span's end; tokens (B, max_tokens) int64; images (B, max_images, 3, crop_px, crop_px)
    uint8 RGB in the order of the tokens that name one; image_mask (B, max_images).
    """

    def __init__(self, dataset: _Workers, workers: int, identity: Mapping[str, Any]) -> None:
        self.statistics = dataset.maker.statistics  # by dataset
        self._dataset, self._workers, self._identity = dataset, workers, identity

    def __iter__(self) -> Iterator[Batch]:
        # Each batch comes with the place behind it, for workers are ahead of what was taken.
        for number, position, batch in DataLoader(
            self._dataset, batch_size=None, num_workers=self._workers, collate_fn=tuple
        ):
            if isinstance(batch, partial):
                raise batch()
            self._dataset.positions[number] = position
            self._dataset.turn = (number + 1) % len(self._dataset.positions)
            yield batch

    def state(self) -> dict[str, Any]:
        """Where this rank is, as plain values: what `open_batches` goes on from, bit by bit."""
        positions = deepcopy(self._dataset.positions)
        return {**self._identity, "turn": self._dataset.turn, "positions": positions}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from where a `state` was taken.

        Raises: ConfigError where it is of other data, settings, ranks or workers.
        """
        for name, here in self._identity.items():
            if (was := state.get(name)) != here:
                raise ConfigError(f"the state is of {name} {was!r}, and here it is {here!r}")
        self._dataset.turn = state["turn"]
        self._dataset.positions = deepcopy(list(state["positions"]))


def open_batches(
    paths: str | Sequence[str],
    config: DataConfig,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    state: Mapping[str, Any] | None = None,
    epochs: int | None = None,
) -> Batches:
    """Batches of the converted datasets at some places; the ranks' are disjoint, and complete.

    Args:
        workers: processes that read and decode; 0 does so in this one.
        state: what `Batches.state` gave of the same data, settings, ranks and workers.
        epochs: None never ends.

    Raises: ConfigError; StorageError; RecordError, as batches are taken, for a broken image.
    """
    if not 0 <= rank < world or workers < 0:
        raise ConfigError(f"no rank {rank} of {world}, or no number of workers: {workers}")
    places = [paths] if isinstance(paths, str) else paths
    opened = [open_dataset(path, config.split, format=config.format).shards for path in places]
    shards = tuple(dict.fromkeys(shard for found in opened for shard in found))
    columns = find_columns(
        shards, camera=config.camera, state_key=config.state_key, action_key=config.action_key
    )
    names = {at: one.names(has_camera=not config.keep_frames) for at, one in columns.items()}
    order = (config.seed, config.shuffle_buffer, config.include_text_only)
    streams = make_streams(shards, names, config.weights, *order)
    statistics = statistics_by_dataset(shards, columns, has_text_only=config.include_text_only)
    bank = Bank.open(config.bank) if ImageMix.parse(config.mix).needs_bank else None
    maker = _Maker(config, columns, statistics, bank)
    digest = data_digest(config.to_json(), shards, columns, bank)
    identity = {"rank": rank, "world": world, "workers": workers, "data": digest}
    positions = [begin(streams) for _ in range(max(1, workers))]
    dataset = _Workers(streams, maker, rank, world, epochs, positions)
    batches = Batches(dataset, workers, identity)
    if state is not None:
        batches.restore(state)
    return batches


def _make_batch(samples: Sequence[_Sample], config: DataConfig) -> Batch:
    """Decodes the frames of some samples, and stacks all they hold."""
    size, side = len(samples), config.image_px
    frames = np.empty((size, config.window, side, side, 3), np.uint8)
    actions = np.zeros((size, config.chunk, samples[0].actions.shape[1]), np.float32)
    mask = np.zeros((size, config.chunk), np.bool_)
    for row, sample in enumerate(samples):
        for column, frame in enumerate(sample.frames):
            if isinstance(frame, EncodedImage):
                frame.decode(side, out=frames[row, column])
            else:
                frames[row, column] = frame
        actions[row, : len(sample.actions)] = sample.actions
        mask[row, : len(sample.actions)] = True
    tokens, images, image_mask = map(np.stack, zip(*(s.instruction for s in samples), strict=True))
    return {
        "frames": torch.from_numpy(frames).permute(0, 1, 4, 2, 3),
        "state": torch.from_numpy(np.stack([sample.state for sample in samples])),
        "actions": torch.from_numpy(actions),
        "action_mask": torch.from_numpy(mask),
        "tokens": torch.from_numpy(tokens),
        "images": torch.from_numpy(images),
        "image_mask": torch.from_numpy(image_mask),
    }
