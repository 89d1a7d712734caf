from pathlib import Path

import pytest
from builders import (
    INSTRUCTION,
    make_episode,
    make_job,
    read_table,
    scene_jpeg,
    serialize,
    write_tfds_folder,
)

from ilv_dataset.formats.example import parse_example
from ilv_dataset.formats.tfrecord import read_records
from ilv_dataset.grammar import parse_instruction
from ilv_dataset.shards.commits import read_commit
from ilv_dataset.shards.ground import ground_shard
from ilv_dataset.shards.instructions import write_instructions
from ilv_dataset.shards.scan import scan_shard
from ilv_dataset.shards.write import selected_spans, write_rlds_shard, write_steps_shard


def grounded_job(tmp_path, episodes, **options):
    data = write_tfds_folder(tmp_path / "data", {"train": [episodes]})
    job = make_job(data, tmp_path / "out", **options)
    texts = scan_shard(job.shards[0], job=job)
    write_instructions([parse_instruction(text) for text in texts], job=job)
    ground_shard(job.shards[0], job=job)
    return job


def read_payloads(job):
    path = Path(job.layout.rlds_shard(job.shards[0].key))
    with path.open("rb") as file:
        return [record.payload for record in read_records(file, size=path.stat().st_size)]


EPISODES = [
    make_episode(2),
    make_episode(instruction="take the banana"),
    b"broken",
    make_episode(4, instruction=[INSTRUCTION] * 3 + ["lift the plate"], seed=10),
]


@pytest.fixture
def job(tmp_path):
    return grounded_job(tmp_path, EPISODES)


def test_selected_spans_are_those_that_are_interleaved(job):
    found = [
        (indexed.record_index, row.span) for indexed, row in selected_spans(job.shards[0], job=job)
    ]
    assert found == [(0, 0), (3, 0), (3, 1)]


def test_selected_spans_with_those_without_a_picture(tmp_path):
    job = grounded_job(tmp_path, EPISODES, include=("text_only",))
    found = [indexed.record_index for indexed, _ in selected_spans(job.shards[0], job=job)]
    assert found == [0, 1, 3, 3]


def test_write_steps_shard(job):
    write_steps_shard(job.shards[0], job=job)
    rows = read_table(job.layout.steps(job.shards[0].key))
    assert [(row["span"], row["step"]) for row in rows] == [
        (0, 0), (0, 1), (0, 0), (0, 1), (0, 2), (1, 3),
    ]  # fmt: skip
    assert [row["observation/image"]["bytes"] for row in rows] == [
        scene_jpeg(seed) for seed in (0, 1, 10, 11, 12, 13)
    ]
    marker = read_commit("steps", job.shards[0], job=job)
    assert marker.counts == {"spans": 3, "steps": 6}


def test_write_rlds_shard(job):
    write_rlds_shard(job.shards[0], job=job)
    whole, first, second = read_payloads(job)
    assert whole.startswith(serialize(EPISODES[0]))
    for payload, images, instruction in (
        (first, [scene_jpeg(n) for n in (10, 11, 12)], b"put <image> on <image>"),
        (second, [scene_jpeg(13)], b"lift <image>"),
    ):
        example = parse_example(payload)
        assert list(example["steps/observation/image"]) == images
        assert list(example["interleaved_instruction/language_instruction"]) == [instruction]
        assert list(example["steps/is_last"]) == [0] * (len(images) - 1) + [1]
    assert read_commit("rlds", job.shards[0], job=job).counts == {"records": 3}


def test_a_shard_without_rows_is_written_empty(tmp_path):
    job = grounded_job(tmp_path, [make_episode(instruction="take the banana")])
    write_steps_shard(job.shards[0], job=job)
    write_rlds_shard(job.shards[0], job=job)
    assert read_table(job.layout.steps(job.shards[0].key)) == []
    assert read_payloads(job) == []
    assert read_commit("rlds", job.shards[0], job=job).files[0].num_bytes == 0


def test_a_written_shard_is_not_written_again(job, tmp_path):
    write_steps_shard(job.shards[0], job=job)
    (tmp_path / "data").rename(tmp_path / "gone")
    write_steps_shard(job.shards[0], job=job)
