"""What the targets of the Makefile call, with a program that only notes what it is asked."""

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def called(tmp_path):
    """Runs `make train` and gives the commands that it called."""
    if shutil.which("make") is None:
        pytest.skip("no make here")
    program, stamp, notes = tmp_path / "ilv", tmp_path / "stamp", tmp_path / "notes"
    program.write_text(f'#!/bin/sh\necho "$1 $2" >> "{notes}"\n')
    program.chmod(0o755)
    stamp.touch()

    def call(out):
        variables = [f"BIN={tmp_path}", f"STAMP={stamp}", f"DATASET_OUT={out}"]
        subprocess.run(["make", "--silent", "train", *variables], cwd=REPOSITORY, check=True)
        return notes.read_text().splitlines()

    return call


def test_train_converts_the_demo_where_only_the_proof_is(called, tmp_path):
    out = tmp_path / "out"
    (out / "proof" / "converted" / "ilv_proof" / "1.0.0").mkdir(parents=True)
    (out / "proof" / "converted" / "ilv_proof" / "1.0.0" / "run.json").touch()
    assert called(out) == ["convert demo", f"train {out}"]


def test_train_resumes_the_demo_s_conversion_and_takes_a_finished_one(called, tmp_path):
    out = tmp_path / "out"
    (out / "ilv_demo" / "1.0.0").mkdir(parents=True)
    assert called(out) == ["convert demo", f"train {out}"]
    (out / "ilv_demo" / "1.0.0" / "run.json").touch()
    assert called(out)[2:] == [f"train {out}"]
