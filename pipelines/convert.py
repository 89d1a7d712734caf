"""Runs parse, ground and write in order over one dataset, and closes the account."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ilv_dataset.errors import ConfigError, IlvError
from ilv_dataset.formats import atomic, files
from ilv_dataset.formats.markers import Marker
from ilv_dataset.formats.rlds import interleaved_features_json, interleaved_info_json
from ilv_dataset.jobs import Job
from ilv_dataset.pipelines import ground_objects, parse_instructions, write_shards
from ilv_dataset.pipelines.runs import run_graph
from ilv_dataset.progress import showing_progress
from ilv_dataset.reports import Account, make_account, run_summary
from ilv_dataset.selection import ShardPlan
from ilv_dataset.shards.commits import read_commit
from ilv_dataset.shards.instructions import read_instructions_marker

STAGE_OF_FORMAT = {"parquet": "steps", "rlds": "rlds"}


@dataclass(frozen=True)
class Run:
    """One job in progress; each method does one step, and nothing where it is done already."""

    job: Job
    formats: tuple[str, ...]
    beam_args: tuple[str, ...]

    def parse(self) -> None:
        """Scans the shards and writes the instructions table."""
        waiting = self._waiting("parse")
        if waiting or read_instructions_marker(self.job) is None:
            self._run(
                "parse",
                ["parse"],
                lambda root: parse_instructions.build(root, self.job, self.job.shards),
            )

    def ground(self) -> None:
        """Finds and cuts out the objects; needs `parse`."""
        self._need("parse")
        waiting = self._waiting("ground")
        if waiting:
            self._run(
                "ground", ["ground"], lambda root: ground_objects.build(root, self.job, waiting)
            )

    def write(self) -> None:
        """Writes steps and rlds as the formats ask; needs `ground`."""
        self._need("ground")
        stages = [STAGE_OF_FORMAT[name] for name in self.formats]
        waiting = {
            stage: self._waiting(stage) if stage in stages else [] for stage in ("steps", "rlds")
        }
        if any(waiting.values()):
            self._run("write", stages, lambda root: write_shards.build(root, self.job, waiting))
        if "rlds" in self.formats:
            self._write_rlds_metadata()

    def account(self) -> Account:
        """What became of every span; raises where that does not add up."""
        return make_account(self._markers("parse"), self._markers("ground"))

    def finish(self, fingerprint: Mapping[str, object]) -> None:
        """Writes run.json, whose presence means complete, where it does not say so already."""
        formats = [name for name, stage in STAGE_OF_FORMAT.items() if not self._waiting(stage)]
        instructions = read_instructions_marker(self.job)
        markers = {
            "instructions": [instructions] if instructions else [],
            "episodes": self._markers("ground"),
            **{STAGE_OF_FORMAT[name]: self._markers(STAGE_OF_FORMAT[name]) for name in formats},
        }
        summary = run_summary(fingerprint, self.account(), markers, formats=formats)
        path = self.job.layout.run
        if not files.exists(path) or json.loads(files.read_bytes(path)) != summary:
            atomic.write_json(path, summary, out=self.job.layout.out)

    def _run(self, label: str, stages: Sequence[str], build: Callable[..., object]) -> None:
        with showing_progress(self.job, stages, label):
            run_graph(build, self.beam_args)

    def _waiting(self, stage: str) -> list[ShardPlan]:
        return [
            shard for shard in self.job.shards if read_commit(stage, shard, job=self.job) is None
        ]

    def _markers(self, stage: str) -> list[Marker]:
        found = [read_commit(stage, shard, job=self.job) for shard in self.job.shards]
        return [marker for marker in found if marker is not None]

    def _need(self, stage: str) -> None:
        waiting = self._waiting(stage)
        if waiting:
            raise ConfigError(
                f"{len(waiting)} of {len(self.job.shards)} shards are not through "
                f"`ilv {stage}` yet, such as {waiting[0].key.name}; run that first"
            )

    def _write_rlds_metadata(self) -> None:
        """The two JSON files that make the shards a TFDS dataset."""
        layout = self.job.layout
        splits: dict[str, list[tuple[int, int]]] = {}
        for shard in self.job.shards:
            marker = read_commit("rlds", shard, job=self.job)
            if marker is None:
                raise IlvError(f"{shard.key.name} was not written; run again")
            lengths = splits.setdefault(shard.key.split, [(0, 0)] * shard.key.num_shards)
            lengths[shard.key.index] = (marker.counts["records"], marker.files[0].num_bytes)
        for name, text in (
            ("features.json", interleaved_features_json(self._source("features.json"))),
            (
                "dataset_info.json",
                interleaved_info_json(
                    self._source("dataset_info.json"), name=layout.rlds_name, splits=splits
                ),
            ),
        ):
            path = files.join_path(layout.rlds_folder, name)
            if not files.exists(path) or files.read_bytes(path) != text.encode():
                with atomic.replacing_file(path, out=layout.out) as file:
                    file.write(text.encode())

    def _source(self, name: str) -> str:
        return files.read_bytes(files.join_path(self.job.data_dir, name)).decode()
