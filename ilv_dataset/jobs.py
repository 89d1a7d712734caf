"""What one conversion of one dataset is, resolved: the value that travels to the workers."""

from __future__ import annotations

from dataclasses import dataclass

from ilv_dataset.datasets import DatasetSpec
from ilv_dataset.formats.features import Feature
from ilv_dataset.formats.files import join_path
from ilv_dataset.layout import Layout
from ilv_dataset.models.chat import ChatOptions
from ilv_dataset.selection import ShardPlan


@dataclass(frozen=True)
class Job:
    """One dataset, its chosen shards, and every option that changes results."""

    layout: Layout
    spec: DatasetSpec
    data_dir: str  # the folder of dataset_info.json
    features: tuple[Feature, ...]
    shards: tuple[ShardPlan, ...]
    extractor: str
    detector: str
    segmenter: str
    verifier: str
    chat: ChatOptions | None  # of the verifier, where it is a model; holds no key
    reply_cache: str
    picture_kinds: tuple[str, ...]
    include: tuple[str, ...]  # statuses beside interleaved that steps and rlds hold
    rlds_layout: str  # one of fields.LAYOUTS
    max_images: int | None  # of an instruction, where the layout has room for so many

    def source_path(self, shard: ShardPlan) -> str:
        """The shard's TFRecord file."""
        return join_path(self.data_dir, shard.file_name)

    @property
    def num_expected(self) -> int:
        """Source episodes that are expected to have an instruction."""
        num_selected = sum(shard.num_selected for shard in self.shards)
        return round(num_selected * (1 - self.spec.share_without_instruction))

    @property
    def written_statuses(self) -> frozenset[str]:
        """Statuses of the spans that steps and rlds hold."""
        return frozenset(("interleaved", *self.include))
