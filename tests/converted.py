"""A small converted dataset, made once by the real pipeline, for the tests of what reads it.

Seven spans in three shards: four interleaved, one of them half an episode, one text_only, one
rejected and one failed.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from click.testing import CliRunner, Result

from builders import DATASET, VERSION, convert, make_episode, scene_jpeg, write_tfds_folder

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
