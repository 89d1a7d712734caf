"""Broken shards and records: each is a row with a reason, and the rest is converted."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from builders import (
    DATASET,
    VERSION,
    convert,
    frame,
    make_episode,
    noise_png,
    read_table,
    scene_jpeg,
    serialize,
    shard_path,
    write_tfds_folder,
)

GARBAGE = scene_jpeg()[:4] + b"garbage" * 40 + scene_jpeg()[-2:]  # whole by its markers alone
TEXTS = [b"put the carrot on the plate", b"lift the \xff plate", b"lift the plate"]


def with_frames(*frames, key="image"):
    return make_episode(2, **{f"steps__observation__{key}": list(frames)})


def cut_behind(num_records, kept):
    """Keeps `num_records` whole records of the shard and `kept` bytes more."""

    def cut(data):
        return data[: offset_of(data, num_records) + kept]

    return cut


def flip(num_records, position):
    """Flips a bit at a place counted from the start (or end, if negative) of a record."""

    def change(data):
        start, end = offset_of(data, num_records), offset_of(data, num_records + 1)
        changed = bytearray(data)
        changed[position + (end if position < 0 else start)] ^= 1
        return bytes(changed)

    return change


def claim(length):
    """Replaces the second record by a header that claims `length` bytes, rightly checksummed."""

    def change(data):
        header = struct.pack("<Q", length)
        return data[: offset_of(data, 1)] + header + frame(header)[-4:] + b"x" * 50

    return change


def offset_of(data, num_records):
    offset = 0
    for _ in range(num_records):
        (length,) = struct.unpack_from("<Q", data, offset)
        offset += 16 + length
    return offset


@dataclass
class Case:
    """One shard, what happens to its file, and what becomes of its spans: (status, reason)."""

    records: list
    expected: list
    change: Callable = None  # None as a result deletes the file
    promised: int | None = None  # by dataset_info.json, where that is not the truth


def failed(reason):
    return ("failed", reason)


def changed(**features):
    """A broken record before a good one, that loses only itself."""
    return Case([make_episode(2, **features), GOOD], [failed("features-mismatch"), OK])


GOOD = make_episode(2)
OK = ("interleaved", "")
MISSING = failed("missing-record")
NAMES = "steps__observation__objects__name__ragged"

CASES = {
    "cut-in-header": Case([GOOD] * 3, [OK, failed("truncated-record"), MISSING], cut_behind(1, 7)),
    "cut-in-payload": Case(
        [GOOD] * 3, [OK, failed("truncated-record"), MISSING], cut_behind(1, 500)
    ),
    "cut-in-footer": Case([GOOD] * 3, [OK, OK, failed("truncated-record")], lambda data: data[:-2]),
    "wrong-checksum": Case([GOOD] * 3, [OK, failed("wrong-checksum"), OK], flip(1, 900)),
    "wrong-footer": Case([GOOD] * 3, [OK, failed("wrong-checksum"), OK], flip(1, -1)),
    "wrong-length": Case([GOOD] * 3, [OK, failed("wrong-length-checksum"), MISSING], flip(1, 0)),
    "absurd-length": Case([GOOD] * 3, [OK, failed("absurd-length"), MISSING], claim(2**60)),
    "longest-length": Case([GOOD] * 2, [OK, failed("absurd-length")], claim(2**64 - 1)),
    "not-a-tfrecord": Case(
        [GOOD] * 2, [failed("wrong-length-checksum"), MISSING], lambda _: b"<html>" * 99
    ),
    "missing-shard": Case([GOOD] * 2, [failed("missing-shard")] * 2, lambda _: None),
    "empty-shard": Case([GOOD] * 2, [MISSING] * 2, lambda _: b""),
    "more-than-promised": Case([GOOD] * 3, [OK] * 3, promised=2),
    "fewer-than-promised": Case([GOOD] * 2, [OK, OK, MISSING, MISSING], promised=4),
    "not-an-example": Case([GOOD, b"no example", GOOD], [OK, failed("malformed-record"), OK]),
    "no-such-feature": changed(steps__action=None),
    "too-many-values": changed(steps__action=np.ones(15, np.float32)),
    "another-type": changed(steps__action=np.ones(14, np.int64)),
    "steps-of-two-lengths": changed(steps__observation__image=[scene_jpeg()]),
    "two-values-of-an-episode": changed(episode_metadata__count=np.array([1, 2])),
    "too-few-rows": changed(steps__observation__words__ragged_row_lengths_0=np.array([0])),
    "too-few-values-in-rows": changed(
        steps__observation__objects__bbox__ragged_flat_values=np.ones(15, np.float32)
    ),
    "fewer-names-than-boxes": changed(
        **{f"{NAMES}_row_lengths_0": np.array([1, 1]), f"{NAMES}_flat_values": [b"carrot"] * 2}
    ),
    "labels-of-another-size": changed(steps__observation__segmentation=[noise_png()] * 2),
    "labels-that-are-garbage": Case(
        [make_episode(2, steps__observation__segmentation=[GARBAGE] * 2), GOOD],
        [failed("undecodable-image"), OK],
    ),
    "cut-frame": Case(
        [with_frames(scene_jpeg(), scene_jpeg()[:-2]), GOOD], [failed("undecodable-image"), OK]
    ),
    "cut-frame-of-another-camera": Case(
        [with_frames(noise_png(), b"\x89PNG\r\n\x1a\n", key="wrist"), GOOD],
        [failed("undecodable-image"), OK],
    ),
    "no-picture": Case([with_frames(b"text", b""), GOOD], [failed("undecodable-image"), OK]),
    "garbage-in-a-probed-frame": Case(
        [with_frames(GARBAGE, scene_jpeg()), GOOD], [failed("undecodable-image"), OK]
    ),
    "garbage-in-a-frame-nobody-looks-at": Case([with_frames(scene_jpeg(), GARBAGE)], [OK]),
    "padded-frame": Case([with_frames(scene_jpeg() + b"\0" * 9, scene_jpeg())], [OK]),
    "no-utf8-in-one-span": Case(
        [make_episode(3, instruction=TEXTS), GOOD], [OK, failed("invalid-utf8"), OK, OK]
    ),
    "no-steps": Case([make_episode(0), GOOD], [failed("no-steps"), OK]),
}


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """One run over all cases, a shard each."""
    root = tmp_path_factory.mktemp("bad")
    shards = [case.records for case in CASES.values()]
    lengths = [case.promised or len(case.records) for case in CASES.values()]
    data = write_tfds_folder(root / "data", {"train": shards}, lengths={"train": lengths})
    for index, case in enumerate(CASES.values()):
        path = shard_path(data, index=index, count=len(CASES))
        if case.change is not None:
            content = case.change(path.read_bytes())
            path.unlink()
            if content is not None:
                path.write_bytes(content)
    result = convert(data, root / "out", "--formats", "parquet,rlds")
    return root / "out" / DATASET / VERSION, result


def rows_of(folder, index, table="episodes"):
    return read_table(folder / table / f"train-{index:05d}-of-{len(CASES):05d}.parquet")


@pytest.mark.parametrize("name", CASES)
def test_every_span_has_a_row_with_its_reason(converted, name):
    folder, _ = converted
    rows = rows_of(folder, list(CASES).index(name))
    assert [(row["status"], row["reason"]) for row in rows] == CASES[name].expected
    for row in rows:
        assert (row["message"] == "") == (row["status"] != "failed")
        assert " at 0x" not in row["message"]  # an address would change from run to run
        assert str(folder.parents[2]) not in row["message"]


@pytest.mark.parametrize("name", CASES)
def test_the_steps_of_all_other_spans_are_written(converted, name):
    folder, _ = converted
    index = list(CASES).index(name)
    expected = {
        (row["episode_id"], row["span"], step)
        for row in rows_of(folder, index)
        if row["status"] == "interleaved"
        for step in range(row["step_start"], row["step_end"])
    }
    steps = rows_of(folder, index, "steps")
    assert {(row["episode_id"], row["span"], row["step"]) for row in steps} == expected
    assert len(steps) == len(expected)


def test_the_account_balances_and_says_why(converted):
    folder, result = converted
    account = json.loads((folder / "run.json").read_text())["account"]
    expected = [status for case in CASES.values() for status, _ in case.expected]
    assert account["num_in"] == len(expected)
    assert account["by_status"] == {
        "interleaved": expected.count("interleaved"),
        "text_only": 0,
        "rejected": 0,
        "failed": expected.count("failed"),
    }
    assert account["by_reason"]["failed:missing-shard"] == 2
    assert f"{len(expected)} spans of" in result.stderr
    assert "2 failed: missing-shard" in result.stderr
    # The first eleven cases damage their shards, and one more promises what is not there.
    lines = result.stderr.splitlines()
    at = lines.index(
        "damaged or missing in the source; once they are fetched again, run the same command:"
    )
    names = [f"  {DATASET}-train.tfrecord-{n:05d}-of-{len(CASES):05d}" for n in range(5)]
    assert lines[at + 1 : at + 7] == [*names, "  and 7 more"]


def test_failed_spans_make_the_command_fail_after_all_is_written(converted):
    folder, result = converted
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: demo: ")
    assert "spans failed, more than --max-failed 0 allows; all else is written" in result.stderr
    assert (folder / "run.json").is_file()


def test_max_failed_is_a_share(converted):
    folder, _ = converted
    data, out = folder.parents[2] / "data", folder.parents[1]
    assert convert(data, out, "--formats", "parquet,rlds", "--max-failed", "1").exit_code == 0
    assert convert(data, out, "--formats", "parquet,rlds", "--max-failed", "0.01").exit_code == 1


def test_the_records_that_are_written_hold_the_sources_bytes_before_the_new_features(converted):
    folder, _ = converted
    index = list(CASES).index("fewer-than-promised")
    name = f"{DATASET}_interleave"
    data = shard_path(folder / "rlds", index=index, count=len(CASES), name=name).read_bytes()
    source = serialize(GOOD)
    for number in range(2):
        start, end = offset_of(data, number) + 12, offset_of(data, number + 1) - 4
        assert data[start:end].startswith(source)
        assert b"interleaved_instruction/" not in source
        assert b"interleaved_instruction/" in data[start + len(source) : end]
    assert len(data) == offset_of(data, 2)
