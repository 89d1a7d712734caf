"""What a policy is told in a test: text, or pictures from the scene, a bank, a render, a sketch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ilv_dataset.crops import decode_image
from ilv_dataset.dataset_reader import open_dataset
from ilv_dataset.fields import IMAGE_PLACEHOLDER, PROOF_PROMPTS
from ilv_dataset.formats.tables import EpisodeRow
from ilv_dataset.proof.demonstrations import BANK_SUFFIX
from ilv_dataset.proof.pictures import render_outside, sketch
from ilv_dataset.proof.rollouts import Instruction
from ilv_dataset.proof.trials import WORDS, Trial
from ilv_dataset.simulation.scenes import Thing


@dataclass(frozen=True)
class Told:
    """What the conversion made of the instructions of one test, by the number of the trial."""

    rows: Mapping[int, EpisodeRow]
    bank: Mapping[int, EpisodeRow]


def read_told(converted: Path, test: str) -> Told:
    """The converted first frames of a test and of the scenes that its bank is cut from.

    Raises: ConfigError or StorageError where they are not there.
    """
    return Told(_read_rows(converted, test), _read_rows(converted, test + BANK_SUFFIX))


def _read_rows(converted: Path, split: str) -> dict[int, EpisodeRow]:
    rows: list[EpisodeRow] = []
    for shard in open_dataset(str(converted), split).shards:
        rows += shard.spans()
    return dict(enumerate(rows))


def tell(prompt: str, trial: Trial, index: int, told: Told) -> Instruction:
    """The instruction of a trial; what the conversion found no crop of stays text.

    Raises: ValueError for a prompt that is not one of PROOF_PROMPTS.
    """
    row = told.rows[index]
    if prompt == "text":
        return row.instruction, ()
    if prompt == "colours":
        return say_colours(trial), ()
    crops = [decode_image(jpeg) for jpeg in row.images]
    things = [trial.scene.things[number] for number in _pictured(row, trial)]
    if prompt == "images":
        return " ".join([IMAGE_PLACEHOLDER] * len(crops)) or row.instruction, crops
    if prompt == "bank":
        return row.interleaved, _other_crops(crops, things, told.bank[index])
    if prompt == "outside":
        return row.interleaved, [render_outside(thing) for thing in things]
    if prompt == "sketch":
        return row.interleaved, [sketch(render_outside(thing)) for thing in things]
    if prompt == "own":
        return row.interleaved, crops
    raise ValueError(f"prompt must be one of {PROOF_PROMPTS}, got {prompt!r}")


def say_colours(trial: Trial) -> str:
    """The instruction with the colours of both things, needed or not."""
    mover, target = (trial.scene.things[row] for row in (trial.task.mover, trial.task.target))
    relation = WORDS[trial.task.relation]
    return f"put the {mover.name} {relation} the {target.name}"


def _pictured(row: EpisodeRow, trial: Trial) -> list[int]:
    """Which things of the trial the row's pictures are said to show, in their order."""
    numbers = (trial.task.mover, trial.task.target)
    found = []
    for phrase in (one.phrase for one in row.objects if one.grounded):
        nouns = [number for number in numbers if trial.scene.things[number].noun in phrase.split()]
        found.append(nouns[0])
    return found


def _other_crops(
    crops: Sequence[np.ndarray], things: Sequence[Thing], row: EpisodeRow
) -> list[np.ndarray]:
    """The crops of the same things from another scene; the own one where that has none."""
    names = [one.phrase for one in row.objects if one.grounded]
    others = dict(zip(names, row.images, strict=True))
    return [
        decode_image(others[thing.name]) if thing.name in others else crop
        for crop, thing in zip(crops, things, strict=True)
    ]
