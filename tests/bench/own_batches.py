"""Measures our batches on one core, and a plain PyTorch loop over images decoded before.

    python tests/bench/own_batches.py OUT/DATASET/VERSION

Prints one JSON object: steps a second of processor time of each, for what else the machine does
takes none of it, and the memory that ours took in MB.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from itertools import islice

import timing
import torch
from torch.utils.data import DataLoader

from ilv_dataset.train.data import DataConfig, open_batches

BATCH, BUFFER = 64, 512


class Decoded(torch.utils.data.Dataset):
    """Samples that lie in memory, as tensors."""

    def __init__(self, batches: Iterable[dict[str, torch.Tensor]]) -> None:
        self._samples = [
            {name: values[row].clone() for name, values in batch.items()}
            for batch in batches
            for row in range(len(batch["state"]))
        ]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self._samples[index]


def count_steps(batches: Iterable[dict[str, torch.Tensor]]) -> int:
    """Takes all batches."""
    return sum(len(batch["frames"]) for batch in batches)


def steps_a_second(batches: Iterable[dict[str, torch.Tensor]]) -> float:
    """The rate of a second pass; the first opens files and fills caches."""
    count_steps(batches)
    begun = time.process_time()
    return count_steps(batches) / (time.process_time() - begun)


class Epochs:
    """One epoch of our batches each time it is iterated."""

    def __init__(self, place: str, **options: object) -> None:
        config = DataConfig(batch=BATCH, shuffle_buffer=BUFFER, **options)
        self._again = lambda: open_batches(place, config, epochs=1)

    def __iter__(self):
        return iter(self._again())


def main(place: str) -> dict[str, float]:
    """Measures both formats, with frames that were kept, and then the loop."""
    count_steps(islice(Epochs(place), 1))
    before = timing.peak_memory_mb()
    rates = {name: steps_a_second(Epochs(place, format=name)) for name in ("parquet", "rlds")}
    rates["memory_mb"] = timing.peak_memory_mb() - before
    rates["kept"] = steps_a_second(Epochs(place, keep_frames=True))
    decoded = Decoded(Epochs(place))
    rates["loop"] = steps_a_second(DataLoader(decoded, batch_size=BATCH, shuffle=True))
    return rates


if __name__ == "__main__":
    timing.stay_on_one_core()
    torch.set_num_threads(1)
    print(json.dumps(main(sys.argv[1])))
