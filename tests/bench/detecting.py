"""What `ground` costs around the detector, beside the detector alone on the same batches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import stages
import timing
from rows import Row
from sources import EpisodeSize, generate_source

from ilv_dataset.models.detector import load_detector
from ilv_dataset.models.protocols import Detector
from ilv_dataset.records import Detections, Frame, Phrase
from ilv_dataset.shards.ground import ground_rows

Batch = tuple[Sequence[Frame], Sequence[Sequence[Phrase]]]


class WatchedDetector:
    """Runs a detector, keeps its batches, and answers with a box and a mask for each phrase.

    Nothing is to be seen in generated frames; so the crops are cut that a real scene would give.
    """

    has_masks = True
    needs_source_objects = False

    def __init__(self, detector: Detector) -> None:
        self.spec, self.fingerprint = detector.spec, detector.fingerprint
        self._detector = detector
        self.batches: list[Batch] = []

    def __call__(
        self, frames: Sequence[Frame], queries: Sequence[Sequence[Phrase]]
    ) -> list[Detections]:
        self.batches.append((frames, queries))
        self._detector(frames, queries)
        fixed = stages.FixedDetector()
        return fixed(frames, queries)


def measure_overhead(
    folder: Path, weights: Path, *, num_spans: int, num_rounds: int
) -> Iterator[Row]:
    """The row of `ground` over one shard; only a note where the weights are missing."""
    what = "ground: time around the detector"
    if not weights.exists():
        yield Row(what, f"left out: no {weights.name}")
        return
    source = generate_source(
        folder / "data", [[EpisodeSize(num_steps=20, side_px=256)] * num_spans]
    )
    job = stages.make_job(source, folder / "out")
    stages.scan_shards(job, job.shards)
    detector = load_detector(f"yolo:{weights}")
    watched = WatchedDetector(detector)
    stages.use_detector(watched)

    def ground() -> None:
        watched.batches.clear()
        for _ in ground_rows(job.shards[0], job=job):
            pass

    def detect() -> None:
        for frames, queries in watched.batches:
            detector(frames, queries)

    actions = {"ground": timing.Action(ground), "detect": timing.Action(detect)}
    # Processor time of all threads: decoding ahead is not free, and other programs do not count.
    seconds = timing.time_in_turn(actions, num_rounds=num_rounds, clock=time.process_time)
    whole, bare = timing.median(seconds["ground"]), timing.median(seconds["detect"])
    yield Row(
        what,
        f"{1000 * whole / num_spans:.1f} ms a frame",
        f"the model alone {1000 * bare / num_spans:.1f} ms",
        100 * (whole / bare - 1),
        "%",
        at_most=10,
    )
