"""Peak memory of each step on large episodes; DESIGN.md, section 8."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builders import (
    DATASET,
    INSTRUCTION,
    MARKED,
    VERSION,
    features_json,
    frame,
    make_episode,
    scene_jpeg,
    serialize,
    shard_path,
    write_tfds_folder,
)

MEGABYTE = 1 << 20
BUDGET = 600 * MEGABYTE
VIEWS = ("view_1", "view_2", "view_3")
STEPS = (
    ("parse",),
    ("ground",),
    ("write", "parquet"),
    ("write", "rlds"),
    ("write", "rlds", "interleave-vla"),
)
# The kernel's own high-water mark; getrusage would count what the parent had at the fork.
MEASURE = """
import pathlib, sys
from ilv_dataset.cli import main
try:
    main(sys.argv[1:])
finally:
    status = pathlib.Path("/proc/self/status").read_text()
    print(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc"),
]


def large_jpeg(num_bytes, seed=0):
    """A frame of the scene that comments make about as large as is wanted."""
    comments = [b"\xff\xfe" + (5_002).to_bytes(2) + bytes(5_000)] * (num_bytes // 5_004)
    jpeg = scene_jpeg(seed)
    return jpeg[:2] + b"".join(comments) + jpeg[2:]


def large_episode(num_bytes, *, instruction=INSTRUCTION, steps=250):
    """An episode of four cameras of that size in all."""
    frames = [large_jpeg(num_bytes // (4 * steps))] * steps
    views = {f"steps__observation__{name}": frames for name in ("image", *VIEWS)}
    texts = [instruction] * steps if isinstance(instruction, str) else instruction
    return make_episode(steps, instruction=texts, **views)


def features():
    content = json.loads(features_json())
    step = content["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]
    observation = step["features"]["observation"]["featuresDict"]["features"]
    observation.update({name: observation["image"] for name in VIEWS})
    return json.dumps(content)


def write_data(root, record, *, shards, records):
    """Shards of the same large record, written without holding them in memory."""
    splits = {"train": [[] for _ in range(shards)]}
    data = write_tfds_folder(
        root, splits, features=features(), lengths={"train": [records] * shards}
    )
    framed = frame(serialize(record))
    for index in range(shards):
        with shard_path(data, index=index, count=shards).open("wb") as file:
            for _ in range(records):
                file.write(framed)
    return data


def peaks(data, out):
    """Step -> bytes of memory that its process needed at most."""
    found = {}
    for name, *form in STEPS:
        arguments = [name, *MARKED, "--data-dir", str(data), "--out", str(out)]
        for flag, value in zip(("--formats", "--layout"), form, strict=False):
            arguments += [flag, value]
        if "--layout" in arguments:  # instead of the records that are there
            for folder in ("rlds", ".state/rlds"):
                shutil.rmtree(out / DATASET / VERSION / folder)
        run = subprocess.run(
            [sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        found[" ".join((name, *form))] = int(run.stdout.split()[-1])
    return found


@pytest.mark.parametrize("spans", [1, 3])
def test_episodes_of_130_megabytes_stay_within_the_budget(tmp_path, spans):
    texts = [INSTRUCTION, "lift the plate"]
    instruction = [texts[n * spans // 250 % 2] for n in range(250)]
    record = large_episode(135 * MEGABYTE, instruction=instruction)
    data = write_data(tmp_path / "data", record, shards=2, records=2)
    assert shard_path(data, count=2).stat().st_size > 260 * MEGABYTE
    found = peaks(data, tmp_path / "out")
    assert max(found.values()) < BUDGET, found


def test_memory_does_not_grow_with_the_number_of_shards(tmp_path):
    record = large_episode(8 * MEGABYTE, steps=40)
    found = {}
    for shards in (2, 20):
        data = write_data(tmp_path / f"data{shards}", record, shards=shards, records=4)
        found[shards] = peaks(data, tmp_path / f"out{shards}")
    for step, peak in found[20].items():
        assert peak < found[2][step] + 40 * MEGABYTE, step
