"""Turns robot datasets with text instructions into interleaved image-text instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ilv_dataset.dataset_reader import ConvertedDataset

__version__ = "0.1.0"


def open(path: str, split: str | None = None) -> ConvertedDataset:
    """Opens what was converted, OUT or OUT/<dataset>/<version>: episodes, spans and steps, lazily.

    Raises: ConfigError where there is no such dataset or split.
    """
    from ilv_dataset.dataset_reader import open_dataset

    return open_dataset(path, split)
