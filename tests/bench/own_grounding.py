"""Grounds simulated episodes, as long as real ones, with the bundled models; a process of its own.

Prints, as JSON, how many frames were looked at, how many there are, and the memory it took.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import stages
import timing

from ilv_dataset.models.loading import detector_of_process
from ilv_dataset.planning import ConvertOptions, plan_job
from ilv_dataset.records import Detections, Frame, Phrase
from ilv_dataset.shards import ground
from ilv_dataset.shards.scan import read_index
from ilv_dataset.simulation.dataset import simulate

STEP_M = 0.03  # episodes about as long as Bridge's, of 38 steps; the row says how long they are


class CountingDetector:
    """A detector, and how many frames it was asked about."""

    has_masks = needs_source_objects = False

    def __init__(self, spec: str) -> None:
        self._detector = detector_of_process(spec)
        self.spec, self.fingerprint = self._detector.spec, self._detector.fingerprint
        self.num_frames = 0

    def __call__(
        self, frames: Sequence[Frame], queries: Sequence[Sequence[Phrase]]
    ) -> list[Detections]:
        self.num_frames += len(frames)
        return self._detector(frames, queries)


def main(folder: Path, num_episodes: int) -> dict[str, float]:
    """Simulates episodes in `folder`, grounds every shard of them, and counts."""
    simulate(folder / "data", episodes=num_episodes, seed=1, step_m=STEP_M)
    job = plan_job(ConvertOptions("demo", str(folder / "out"), data_dir=str(folder / "data")))
    stages.scan_shards(job, job.shards)
    counting = CountingDetector(job.detector)
    ground.detector_of_process = lambda _: counting
    num_spans = num_probes = num_steps = 0
    for shard in job.shards:
        searched = {
            (row.record_index, row.span)
            for row in ground.ground_rows(shard, job=job)
            if row.status in ("interleaved", "text_only")
        }
        spans = [
            indexed
            for indexed in read_index(shard, job=job)
            if (indexed.record_index, indexed.span.number) in searched
        ]
        num_spans += len(spans)
        num_steps += sum(each.span.step_end - each.span.step_start for each in spans)
        num_probes += sum(len(indexed.probes) for indexed in spans)
    return {
        "spans": num_spans,
        "frames": counting.num_frames,
        "probes": num_probes,
        "steps": num_steps,
        "memory_mb": timing.peak_memory_mb(),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
