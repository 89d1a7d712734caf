from pathlib import Path

import pytest
from builders import make_episode, make_job, read_table, write_tfds_folder

from ilv_dataset.grammar import parse_instruction
from ilv_dataset.shards.instructions import read_instructions_marker, write_instructions
from ilv_dataset.shards.scan import scan_shard

TEXTS = ["put the cup down", "", "lift the apple"]


@pytest.fixture
def job(tmp_path):
    episodes = [make_episode(instruction=text) for text in TEXTS]
    job = make_job(write_tfds_folder(tmp_path / "data", {"train": [episodes]}), tmp_path / "out")
    list(scan_shard(job.shards[0], job=job))
    return job


def test_instructions_are_sorted_whatever_their_order(job):
    write_instructions([parse_instruction(text) for text in TEXTS], job=job)
    rows = read_table(job.layout.instructions)
    assert [row["instruction"] for row in rows] == ["", "lift the apple", "put the cup down"]
    assert [row["status"] for row in rows] == ["rejected", "parsed", "parsed"]
    assert read_instructions_marker(job).counts == {
        "instructions": 3,
        "rejected": 1,
        "fallback": 0,
    }


def test_a_table_that_is_there_is_left_alone(job):
    write_instructions([parse_instruction(text) for text in TEXTS], job=job)
    before = Path(job.layout.instructions).stat()
    write_instructions([], job=job)
    assert Path(job.layout.instructions).stat() == before


def test_no_instructions_are_a_table_too(job):
    write_instructions([], job=job)
    assert read_table(job.layout.instructions) == []


def test_a_table_of_other_indexes_does_not_count(job, tmp_path):
    write_instructions([], job=job)
    Path(job.layout.marker("parse", job.shards[0].key)).unlink()
    with Path(job.source_path(job.shards[0])).open("ab") as file:
        file.write(b"more")
    list(scan_shard(job.shards[0], job=job))
    assert read_instructions_marker(job) is None
