"""Where everything lies in an output folder: OUT/<dataset>/<version>/..."""

from __future__ import annotations

from dataclasses import dataclass

from ilv_dataset.formats.files import join_path
from ilv_dataset.records import ShardKey

STAGES = ("parse", "instructions", "ground", "steps", "rlds")


@dataclass(frozen=True)
class Layout:
    """Paths of one converted dataset; `dataset` is always the TFDS folder's name."""

    out: str
    dataset: str
    version: str

    @property
    def root(self) -> str:
        """OUT/<dataset>/<version>."""
        return join_path(self.out, self.dataset, self.version)

    @property
    def plan(self) -> str:
        """Written first: the fingerprint of everything that changes results."""
        return join_path(self.root, "plan.json")

    @property
    def run(self) -> str:
        """Written last; its presence means complete."""
        return join_path(self.root, "run.json")

    @property
    def folders(self) -> tuple[str, ...]:
        """All folders below the root; the commits come last, for they show that it is ours."""
        names = ("instructions", "episodes", "steps", "rlds", ".state")
        return tuple(join_path(self.root, name) for name in names)

    @property
    def instructions(self) -> str:
        """One row per distinct instruction."""
        return join_path(self.root, "instructions", "instructions.parquet")

    @property
    def rlds_name(self) -> str:
        """Name of the TFDS dataset that is written."""
        return f"{self.dataset}_interleave"

    @property
    def rlds_folder(self) -> str:
        """What tfds.builder_from_directory opens."""
        return join_path(self.root, "rlds", self.rlds_name, self.version)

    @property
    def distinct_instructions(self) -> str:
        """The distinct instructions of the scan, for a language model; one row each."""
        return join_path(self.root, ".state", "instructions", "distinct.parquet")

    @property
    def spent(self) -> str:
        """The folder of what models were asked for this dataset; a file a process."""
        return join_path(self.root, ".state", "spent")

    def index(self, shard: ShardKey) -> str:
        """What the scan found in a shard: one row a span, with byte ranges of probe frames."""
        return join_path(self.root, ".state", "parse", f"{shard.name}.index.parquet")

    def episodes(self, shard: ShardKey) -> str:
        """One row per span, whatever became of it."""
        return join_path(self.root, "episodes", f"{shard.name}.parquet")

    def steps(self, shard: ShardKey) -> str:
        """One row per step."""
        return join_path(self.root, "steps", f"{shard.name}.parquet")

    def rlds_shard(self, shard: ShardKey) -> str:
        """A TFRecord file with the name that TFDS expects."""
        number = f"{shard.index:05d}-of-{shard.num_shards:05d}"
        return join_path(self.rlds_folder, f"{self.rlds_name}-{shard.split}.tfrecord-{number}")

    def marker(self, stage: str, shard: ShardKey | None) -> str:
        """The commit of a shard, or of the whole dataset; `stage` is one of STAGES."""
        return join_path(self.root, ".state", stage, f"{shard.name if shard else 'all'}.json")

    def markers(self, stage: str) -> str:
        """The folder of a stage's markers."""
        return join_path(self.root, ".state", stage)
