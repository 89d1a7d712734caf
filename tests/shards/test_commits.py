import json
import os
from pathlib import Path

import pytest
from builders import make_episode, make_job, shard_path, write_tfds_folder

from ilv_dataset.errors import StorageError
from ilv_dataset.formats import files
from ilv_dataset.shards.commits import read_commit
from ilv_dataset.shards.ground import ground_shard
from ilv_dataset.shards.instructions import write_instructions
from ilv_dataset.shards.scan import scan_shard


@pytest.fixture
def data(tmp_path):
    shards = [[make_episode(), b"damaged"], [make_episode(), b"as it was published"]]
    root = write_tfds_folder(tmp_path / "data", {"train": shards})
    path = shard_path(root, index=0, count=2)
    path.write_bytes(path.read_bytes().replace(b"damaged", b"demaged"))
    return root


@pytest.fixture
def job(data, tmp_path):
    return make_job(data, tmp_path / "out")


def scan(job):
    from ilv_dataset.grammar import parse_instruction

    texts = {text for shard in job.shards for text in scan_shard(shard, job=job)}
    write_instructions([parse_instruction(text) for text in texts], job=job)


def committed(stage, job):
    return [read_commit(stage, shard, job=job) is not None for shard in job.shards]


def test_a_shard_that_is_scanned_is_committed(job):
    assert committed("parse", job) == [False, False]
    scan(job)
    assert committed("parse", job) == [True, True]


def test_a_whole_shard_stays_whatever_becomes_of_its_source(job, data):
    scan(job)
    path = shard_path(data, index=1, count=2)
    path.write_bytes(path.read_bytes() + b"more")
    assert committed("parse", job) == [True, True]
    path.unlink()
    assert committed("parse", job) == [True, True]


def test_a_shard_that_was_missing_is_done_again_when_it_is_there(job, data):
    path = shard_path(data, index=1, count=2)
    content = path.read_bytes()
    path.unlink()
    scan(job)
    assert committed("parse", job) == [True, True]
    path.write_bytes(content)
    assert committed("parse", job) == [True, False]


def test_a_damaged_shard_is_told_by_its_content_too(job, data):
    scan(job)
    path = shard_path(data, index=0, count=2)
    os.utime(path, ns=(1, 1))
    assert committed("parse", job) == [True, True]
    path.write_bytes(bytes(path.stat().st_size))
    assert committed("parse", job) == [False, True]


def test_a_shard_that_could_not_be_read_and_is_back_is_done_again(job, data, monkeypatch):
    opened = files.open_read

    def fail(path):
        if "tfrecord-" in path:
            raise StorageError(f"{path}: the disk is away")
        return opened(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "open_read", fail)
        assert list(scan_shard(job.shards[1], job=job)) == []
        assert committed("parse", job)[1]  # as long as it stays away
    assert not committed("parse", job)[1]
    assert list(scan_shard(job.shards[1], job=job)) != []
    assert committed("parse", job)[1]


def test_a_stage_is_committed_while_what_it_was_made_from_is_the_same(job, data):
    scan(job)
    assert committed("ground", job) == [False, False]
    for shard in job.shards:
        ground_shard(shard, job=job)
    assert committed("ground", job) == [True, True]
    shard_path(data, index=0, count=2).unlink()
    scan(job)
    assert committed("ground", job) == [False, True]


def test_a_stage_whose_upstream_is_gone_is_not_committed(job, tmp_path):
    scan(job)
    ground_shard(job.shards[0], job=job)
    Path(job.layout.marker("parse", job.shards[0].key)).unlink()
    assert committed("ground", job) == [False, False]


def test_markers_hold_what_they_were_made_from(job):
    scan(job)
    ground_shard(job.shards[1], job=job)
    parse, ground = (
        json.loads(Path(job.layout.marker(stage, job.shards[1].key)).read_text())
        for stage in ("parse", "ground")
    )
    size = Path(job.source_path(job.shards[1])).stat().st_size
    assert parse["inputs"] == {"source": str(size)}
    assert parse["counts"] == {"spans": 2, "episodes": 2, "damaged": 0, "missing": 0}
    assert ground["inputs"] == {"parse": parse["files"][0]["crc32c"]}
    assert ground["counts"] == {
        "interleaved": 1,
        "text_only": 0,
        "rejected": 0,
        "failed": 1,
        "failed:malformed-record": 1,
    }


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_damaged_marker_commits_nothing(job, content):
    scan(job)
    ground_shard(job.shards[1], job=job)
    Path(job.layout.marker("parse", job.shards[1].key)).write_text(content)
    assert committed("parse", job) == [True, False]
    assert committed("ground", job) == [False, False]
    scan(job)
    assert committed("parse", job) == [True, True]
    assert committed("ground", job) == [False, True]
