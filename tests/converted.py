"""A small converted dataset, made once by the real pipeline, for the tests of what reads it.

Seven spans in three shards: four interleaved, one of them half an episode, one text_only, one
rejected and one failed.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from builders import DATASET, VERSION, convert, frame, make_episode, scene_jpeg, write_tfds_folder
from click.testing import CliRunner, Result

from ilv_dataset.formats.example import encode_example, parse_example
from ilv_dataset.formats.tfrecord import RawRecord, read_records

ROOT = Path(DATASET, VERSION)  # below OUT
TRAIN_0 = f"{DATASET}-train.tfrecord-00000-of-00002"
VAL_0 = f"{DATASET}-val.tfrecord-00000-of-00001"


def write_source(folder: Path) -> Path:
    """Writes the TFDS folder; returns --data-dir."""
    halves = ["put the carrot on the plate"] * 2 + ["lift the plate"] * 3
    cut = {"steps__observation__image": [scene_jpeg()[:-9], scene_jpeg()]}
    shards = {
        "train": [
            [make_episode(seed=1), make_episode(5, instruction=halves, seed=2)],
            [make_episode(instruction="  "), make_episode(instruction="pick up the banana")],
        ],
        "val": [[make_episode(3, instruction="move the carrot", seed=3), make_episode(**cut)]],
    }
    return write_tfds_folder(folder, shards)


@functools.cache
def converted_once() -> Path:
    """OUT with both formats; not to be changed."""
    folder = Path(tempfile.mkdtemp(prefix="ilv-test-converted-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    done = convert(
        write_source(folder / "source"),
        folder / "out",
        "--formats", "parquet,rlds", "--max-failed", "1", "--detector", "source",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return folder / "out"


def copy_converted(folder: Path) -> Path:
    """A copy of OUT that a test may damage; returns OUT/<dataset>/<version>."""
    shutil.copytree(converted_once(), folder / "out")
    return folder / "out" / ROOT


def run_ilv(*arguments: object) -> Result:
    """Runs the command line in this process; bugs trace."""
    from ilv_dataset.cli import main

    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def only_error(result: Result) -> str:
    """The last line on stderr; nothing else speaks of an error, and no traceback does."""
    assert result.exit_code == 1, result.stderr
    *others, line = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert not any("rror" in other for other in others), result.stderr
    return line


def rewrite_rows(root: Path, name: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Changes the rows of a table, and commits the file as if it had been written so."""
    file = pq.ParquetFile(root / name)
    schema, rows = file.schema_arrow, file.read().to_pylist()
    change(rows)
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    rewrite(root, name, sink.getvalue())


def change_record(
    root: Path, name: str, number: int, change: Callable[[dict[str, Any]], object]
) -> None:
    """Changes the features of one record of an RLDS shard, and commits the file."""
    content = (root / name).read_bytes()
    records = list(read_records(io.BytesIO(content), size=len(content)))
    payloads = [record.payload for record in records if isinstance(record, RawRecord)]
    example = {
        feature: values if isinstance(values, np.ndarray) else list(values)
        for feature, values in parse_example(payloads[number]).items()
    }
    change(example)
    payloads[number] = encode_example(example)
    rewrite(root, name, b"".join(map(frame, payloads)))


def rewrite(root: Path, name: str, content: bytes) -> None:
    """Replaces a file, and its size and checksum wherever they are written down."""
    old = f"{google_crc32c.value((root / name).read_bytes()):08x}"
    new = {"num_bytes": len(content), "crc32c": f"{google_crc32c.value(content):08x}"}
    (root / name).write_bytes(content)

    def commit(marker: dict[str, Any]) -> None:
        for file in marker["files"]:
            file.update(new if file["path"] == name else {})
        for stage, checksum in marker.get("inputs", {}).items():
            marker["inputs"][stage] = new["crc32c"] if checksum == old else checksum

    for path in (root / "run.json", *(root / ".state").rglob("*.json")):
        change_json(path, commit)
    markers = sorted((root / ".state" / "parse").glob("*.json"))
    checksums = [json.loads(path.read_text())["files"][0]["crc32c"] for path in markers]
    indexes = hashlib.sha256("\n".join(checksums).encode()).hexdigest()
    whole = root / ".state" / "instructions" / "all.json"
    change_json(whole, lambda marker: marker.update(inputs={"indexes": indexes}))


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a JSON file and keeps its form."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
