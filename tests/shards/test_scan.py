import pytest
from builders import (
    DATASET,
    INSTRUCTION,
    make_episode,
    make_job,
    scene_jpeg,
    serialize,
    shard_path,
    write_tfds_folder,
)

from ilv_dataset.formats import files
from ilv_dataset.shards.scan import index_shard, read_index, scan_shard


@pytest.fixture
def data(tmp_path):
    episodes = [make_episode(2), make_episode(3, instruction=["a cup", "a cup", "b"], seed=5)]
    return write_tfds_folder(tmp_path / "data", {"train": [episodes, [make_episode(1)]]})


def places(rows):
    return [(row.record_index, row.span.number, row.reason) for row in rows]


def test_scan_shard_writes_the_index_and_yields_distinct_instructions(data, tmp_path):
    job = make_job(data, tmp_path / "out")
    assert list(scan_shard(job.shards[0], job=job)) == [INSTRUCTION, "a cup", "b"]
    rows = list(read_index(job.shards[0], job=job))
    assert places(rows) == [(0, 0, ""), (1, 0, ""), (1, 1, "")]
    content = shard_path(data, index=0, count=2).read_bytes()
    assert [content[r.offset : r.offset + r.length] for r in rows[:2]] == [
        serialize(make_episode(2)),
        serialize(make_episode(3, instruction=["a cup", "a cup", "b"], seed=5)),
    ]
    (probe,) = rows[2].probes
    assert content[probe.offset : probe.offset + probe.length] == scene_jpeg(7)


def test_a_scanned_shard_is_not_read_again(data, tmp_path):
    job = make_job(data, tmp_path / "out")
    list(scan_shard(job.shards[0], job=job))
    path = shard_path(data, index=0, count=2)
    path.write_bytes(b"?" * path.stat().st_size)
    assert list(scan_shard(job.shards[0], job=job)) == [INSTRUCTION, "a cup", "b"]


def test_instructions_of_failed_spans_are_left_out(tmp_path):
    episode = make_episode(2, instruction=["a cup", b"\xff"])
    cut = make_episode(2, instruction="b", steps__observation__image=[scene_jpeg()[:-2]] * 2)
    job = make_job(
        write_tfds_folder(tmp_path / "data", {"train": [[episode, cut]]}), tmp_path / "out"
    )
    assert list(scan_shard(job.shards[0], job=job)) == ["a cup"]


def test_a_cap_takes_the_first_records_of_its_last_shard(data, tmp_path):
    job = make_job(data, tmp_path / "out", max_episodes=1)
    (shard,) = job.shards
    rows = list(index_shard(shard, job=job))
    assert {row.record_index for row in rows} == {0}


def test_a_cap_promises_no_record_that_the_shard_has_not(tmp_path):
    data = write_tfds_folder(
        tmp_path / "data", {"train": [[make_episode()]]}, lengths={"train": [3]}
    )
    job = make_job(data, tmp_path / "out", max_episodes=2)
    assert places(index_shard(job.shards[0], job=job)) == [(0, 0, ""), (1, 0, "missing-record")]


def test_messages_name_the_shard(data, tmp_path):
    path = shard_path(data, index=0, count=2)
    path.write_bytes(path.read_bytes()[:-1])
    job = make_job(data, tmp_path / "out")
    name = f"{DATASET}-train.tfrecord-00000-of-00002"
    found = [row.message for row in index_shard(job.shards[0], job=job)]
    assert found[0] == ""
    assert found[1].startswith(f"{name}: a record of ")
    path.unlink()
    found = [row.message for row in index_shard(job.shards[0], job=job)]
    assert found == [f"{name} does not exist"] * 2


def test_a_shard_that_is_a_folder_is_missing(data, tmp_path):
    path = shard_path(data, index=0, count=2)
    path.unlink()
    path.mkdir()
    job = make_job(data, tmp_path / "out")
    assert places(index_shard(job.shards[0], job=job)) == [
        (0, 0, "missing-shard"),
        (1, 0, "missing-shard"),
    ]


def test_a_shard_that_goes_while_it_is_read_is_missing(data, tmp_path, monkeypatch):
    job = make_job(data, tmp_path / "out")
    shard_path(data, index=0, count=2).unlink()
    monkeypatch.setattr(files, "file_size", lambda _: 100)
    found = list(index_shard(job.shards[0], job=job))
    assert places(found) == [(0, 0, "missing-shard"), (1, 0, "missing-shard")]
    name = f"{DATASET}-train.tfrecord-00000-of-00002"
    assert found[0].message == f"{name}: No such file or directory"
