"""Runs parse, ground and write in order over one dataset, and closes the account."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ilv_dataset.errors import ConfigError, IlvError
from ilv_dataset.extraction.run import extract_instructions
from ilv_dataset.fields import INTERLEAVE_VLA_LAYOUT
from ilv_dataset.formats import atomic, files, interleave_vla
from ilv_dataset.formats.atomic import FileSummary
from ilv_dataset.formats.markers import Marker
from ilv_dataset.formats.parquet import relative_path
from ilv_dataset.formats.rlds import interleaved_features_json, interleaved_info_json
from ilv_dataset.jobs import Job
from ilv_dataset.ledgers import describe_spent, read_spent
from ilv_dataset.llm_options import LlmOptions, model_of
from ilv_dataset.models.loading import detector_of_process
from ilv_dataset.pipelines import ground_objects, parse_instructions, write_shards
from ilv_dataset.pipelines.runs import LOCAL_RUNNERS, run_graph, runner_name
from ilv_dataset.progress import showing_progress
from ilv_dataset.reports import Account, make_account, run_summary
from ilv_dataset.selection import ShardPlan
from ilv_dataset.shards.commits import read_commits
from ilv_dataset.shards.instructions import read_instructions, read_instructions_marker

STAGE_OF_FORMAT = {"parquet": "steps", "rlds": "rlds"}
_LABELS_SUFFIX = ".labels.txt"  # Source: tensorflow_datasets, features/class_label_feature.py


@dataclass(frozen=True)
class Run:
    """One job in progress; each method does one step, and nothing where it is done already."""

    job: Job
    formats: tuple[str, ...]
    beam_args: tuple[str, ...]
    llm: LlmOptions

    def parse(self) -> None:
        """Scans the shards and writes the instructions table."""
        marker = read_instructions_marker(self.job)
        is_retried = self.llm.retry_fallbacks and marker and marker.counts.get("fallback")
        if not self._waiting("parse") and marker is not None and not is_retried:
            return
        self._run(
            "parse",
            ["parse"],
            lambda root: parse_instructions.build(root, self.job, self.job.shards),
        )
        if model_of(self.job.extractor) is not None:
            extract_instructions(self.job, self.llm)

    def ground(self) -> None:
        """Finds and cuts out the objects; needs `parse`."""
        self._need("parse")
        if read_instructions_marker(self.job) is None:
            raise ConfigError(
                "the instructions table is not of these shards; run `ilv parse` first"
            )
        waiting = self._waiting("ground")
        if waiting:
            self._learn_queries()
            self._run(
                "ground",
                ["ground"],
                lambda root: ground_objects.build(root, self.job, waiting),
                detail=self._describe_verifier,
            )

    def write(self) -> None:
        """Writes steps and rlds as the formats ask; needs `ground`."""
        self._need("ground")
        stages = [stage for name, stage in STAGE_OF_FORMAT.items() if self._is_written(name)]
        waiting = {
            stage: self._waiting(stage) if stage in stages else [] for stage in ("steps", "rlds")
        }
        if any(waiting.values()):
            self._run("write", stages, lambda root: write_shards.build(root, self.job, waiting))
        if "rlds" in stages:
            self._write_rlds_metadata()

    def list_empty_splits(self) -> list[str]:
        """Splits of which the RLDS output holds no record; TFDS could not open them."""
        if not self._is_written("rlds"):
            return []
        found = read_commits("rlds", job=self.job)
        num_records: dict[str, int] = {}
        for shard, marker in zip(self.job.shards, found, strict=True):
            added = marker.counts["records"] if marker else 0
            num_records[shard.key.split] = num_records.get(shard.key.split, 0) + added
        return [split for split, count in num_records.items() if count == 0]

    def count_undecodable(self) -> int:
        """Spans that the RLDS output lacks, for a frame of theirs does not decode."""
        if not self._is_written("rlds"):
            return 0
        return sum(marker.counts.get("undecodable", 0) for marker in self._markers("rlds"))

    def list_damaged_shards(self) -> list[str]:
        """Source shards with spans that may be mended by fetching the shard again."""
        found = zip(self.job.shards, read_commits("parse", job=self.job), strict=True)
        return [s.file_name for s, marker in found if marker and marker.counts.get("damaged")]

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
        small = self._small_files() if "rlds" in formats else []
        summary = run_summary(fingerprint, self.account(), markers, small, formats=formats)
        if spent := read_spent(self.job.layout):
            summary["llm"] = spent
        atomic.write_json(self.job.layout.run, summary, out=self.job.layout.out)

    def _run(
        self,
        label: str,
        stages: Sequence[str],
        build: Callable[..., object],
        *,
        detail: Callable[[], str] = lambda: "",
    ) -> None:
        files.remove_tree(self.job.layout.run)  # what is complete does not change
        with showing_progress(self.job, stages, label, detail=detail):
            run_graph(build, self.beam_args)

    def _learn_queries(self) -> None:
        """Encodes the queries once, so that no local worker loads a text encoder for them."""
        if runner_name(self.beam_args) not in LOCAL_RUNNERS:
            return
        learn = getattr(detector_of_process(self.job.detector), "learn", None)
        if learn is not None:
            rows = read_instructions(self.job)
            learn({phrase.query for row in rows for phrase in row.objects})

    def _describe_verifier(self) -> str:
        """What the verifier's model was asked for this dataset, over all runs."""
        spent = read_spent(self.job.layout).get("verifier")
        return "" if spent is None else describe_spent(spent)

    def _is_written(self, name: str) -> bool:
        """Whether a format is asked for, or was by an earlier run and must not grow stale."""
        stage = STAGE_OF_FORMAT[name]
        return name in self.formats or bool(files.list_names(self.job.layout.markers(stage)))

    def _small_files(self) -> list[FileSummary]:
        """What lies beside the RLDS shards; these have no markers."""
        layout, summaries = self.job.layout, []
        for name in files.list_names(layout.rlds_folder):
            path = files.join_path(layout.rlds_folder, name)
            if ".tfrecord-" not in name:
                relative = relative_path(path, layout.root)
                size = files.file_size(path) or 0
                summaries.append(FileSummary(relative, size, files.checksum(path)))
        return summaries

    def _waiting(self, stage: str) -> list[ShardPlan]:
        found = read_commits(stage, job=self.job)
        return [s for s, marker in zip(self.job.shards, found, strict=True) if marker is None]

    def _markers(self, stage: str) -> list[Marker]:
        return [marker for marker in read_commits(stage, job=self.job) if marker is not None]

    def _need(self, stage: str) -> None:
        waiting = self._waiting(stage)
        if waiting:
            raise ConfigError(
                f"{len(waiting)} of {len(self.job.shards)} shards are not through "
                f"`ilv {stage}` yet, such as {waiting[0].key.name}; run that first"
            )

    def _write_rlds_metadata(self) -> None:
        """The small files that make the shards a TFDS dataset."""
        layout = self.job.layout
        splits: dict[str, list[tuple[int, int]]] = {}
        found = read_commits("rlds", job=self.job)
        for shard, marker in zip(self.job.shards, found, strict=True):
            if marker is None:
                raise IlvError(f"{shard.key.name} was not written; run again")
            lengths = splits.setdefault(shard.key.split, [(0, 0)] * shard.key.num_shards)
            lengths[shard.key.index] = (marker.counts["records"], marker.files[0].num_bytes)
        info = interleaved_info_json(
            self._source("dataset_info.json").decode(), name=layout.rlds_name, splits=splits
        )
        contents = {"dataset_info.json": info.encode(), **self._features_files()}
        for name, content in contents.items():
            path = files.join_path(layout.rlds_folder, name)
            atomic.write_small(path, content, out=layout.out)

    def _features_files(self) -> dict[str, bytes]:
        """What says how a record is read: the source's, unless the layout has its own features."""
        if self.job.rlds_layout == INTERLEAVE_VLA_LAYOUT:
            return {"features.json": interleave_vla.features_json().encode()}
        features = interleaved_features_json(self._source("features.json").decode())
        # Where TFDS keeps the names of the classes of the source's ClassLabels.
        names = files.list_names(self.job.data_dir)
        labels = [name for name in names if name.endswith(_LABELS_SUFFIX)]
        return {"features.json": features.encode(), **{n: self._source(n) for n in labels}}

    def _source(self, name: str) -> bytes:
        return files.read_bytes(files.join_path(self.job.data_dir, name))
