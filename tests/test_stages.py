"""Transforms applied to plain lists; what they call has tests of its own."""

import pytest
from builders import INSTRUCTION, make_episode, make_job, read_table, write_tfds_folder

from ilv_dataset.errors import StorageError
from ilv_dataset.shards.commits import read_commit
from ilv_dataset.stages.parse import ParseInstructions, ScanShards
from ilv_dataset.stages.shards import GroundObjects, WriteRlds, WriteSteps


@pytest.fixture
def job(tmp_path):
    shards = [[make_episode()], [make_episode(instruction=["", INSTRUCTION])]]
    return make_job(write_tfds_folder(tmp_path / "data", {"train": shards}), tmp_path / "out")


def is_committed(stage, job):
    return [read_commit(stage, shard, job=job) is not None for shard in job.shards]


def test_shards_go_through_all_stages(job):
    shards = list(job.shards)
    instructions = shards | ScanShards(job)
    assert sorted(instructions) == ["", INSTRUCTION]
    assert is_committed("parse", job) == [True, True]
    instructions | ParseInstructions(job)
    assert [row["instruction"] for row in read_table(job.layout.instructions)] == ["", INSTRUCTION]
    for stage, transform in (("ground", GroundObjects), ("steps", WriteSteps), ("rlds", WriteRlds)):
        assert shards | transform(job) == [None, None]
        assert is_committed(stage, job) == [True, True]


def test_no_instructions_give_an_empty_table(tmp_path):
    data = write_tfds_folder(tmp_path / "data", {"train": [[b"broken"]]})
    job = make_job(data, tmp_path / "out")
    assert list(job.shards) | ScanShards(job) == []
    [] | ParseInstructions(job)
    assert read_table(job.layout.instructions) == []


def test_an_error_of_a_shard_fails_the_run(job):
    with pytest.raises(StorageError, match="train-00000-of-00002"):
        list(job.shards) | GroundObjects(job)
