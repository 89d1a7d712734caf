"""Runs that are stopped, crowded out or repeated: the same bytes, and nothing done twice."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys

import psutil
import pytest
from builders import (
    DATASET,
    MARKED,
    VERSION,
    convert,
    make_episode,
    read_table,
    read_tree,
    shard_path,
    write_tfds_folder,
)
from killing import held, killed_at_end, wait_until

from ilv_dataset.formats.atomic import locked_output

NUM_SHARDS = 8
FORMATS = ("--formats", "parquet,rlds")
ILV = (sys.executable, "-c", "from ilv_dataset.cli import main; main()")
TEXTS = ["put the carrot on the plate", "lift the plate", "", "take the banana"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    shards = [
        [make_episode(3, seed=10 * n + m, instruction=TEXTS[(n + m) % 4]) for m in range(2)]
        for n in range(NUM_SHARDS)
    ]
    return write_tfds_folder(tmp_path_factory.mktemp("data"), {"train": shards})


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """The output tree of one run with one worker."""
    out = tmp_path_factory.mktemp("whole")
    assert convert(data, out, *FORMATS).exit_code == 0
    return read_tree(out)


def command(data, out, *arguments):
    paths = ("--data-dir", str(data), "--out", str(out))
    return [*ILV, "convert", *MARKED, *paths, *FORMATS, *arguments]


def run(data, out, *arguments, **options):
    return subprocess.run(command(data, out, *arguments), capture_output=True, text=True, **options)


def only_error(stderr):
    """The one line that says what went wrong; a traceback would be several."""
    lines = [line for line in stderr.splitlines() if "rror" in line]
    assert len(lines) == 1, stderr
    return lines[0]


def states(out):
    """Files -> what would change if they were written again."""
    return {
        path: (found.st_ino, found.st_mtime_ns)
        for path in out.rglob("*")
        if path.is_file() and path.name != ".lock" and ".tmp" not in path.parts
        if (found := path.stat())
    }


def committed_states(out):
    """Markers and the files they name -> what would change if they were written again."""
    root = out / DATASET / VERSION
    markers = set(root.glob(".state/*/*.json"))
    named = {root / file["path"] for m in markers for file in json.loads(m.read_text())["files"]}
    return {path: state for path, state in states(out).items() if path in markers | named}


def kill_at(data, out, stage, count):
    """Starts a run and kills it when a stage has committed so many shards, or a few more."""
    settings = {"stderr": subprocess.DEVNULL, "env": held(stage, NUM_SHARDS - 1)}
    with killed_at_end(command(data, out), **settings) as process:
        wait_for_shards(process, out, stage, count)
    return process.returncode


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(
    data, uninterrupted, tmp_path
):
    for stage in ("ground", "rlds"):
        assert kill_at(data, tmp_path, stage, 2) == -9
        committed = len(list((tmp_path / DATASET / VERSION / ".state" / stage).glob("*.json")))
        assert 2 <= committed < NUM_SHARDS
        assert not (tmp_path / DATASET / VERSION / "run.json").exists()
    before = committed_states(tmp_path)
    assert len(before) > 2 * NUM_SHARDS
    assert convert(data, tmp_path, *FORMATS).exit_code == 0
    assert read_tree(tmp_path) == uninterrupted
    assert before.items() <= states(tmp_path).items()


def test_two_workers_write_the_same_bytes_as_one(data, uninterrupted, tmp_path):
    found = run(data, tmp_path, "--", "--direct_num_workers=2")
    assert found.returncode == 0, found.stderr
    assert read_tree(tmp_path) == uninterrupted


def test_a_second_run_changes_nothing(data, uninterrupted, tmp_path):
    convert(data, tmp_path, *FORMATS)
    before = states(tmp_path)
    assert convert(data, tmp_path, *FORMATS).exit_code == 0
    assert states(tmp_path) == before
    assert read_tree(tmp_path) == uninterrupted


def test_a_format_is_added_without_doing_the_rest_again(data, uninterrupted, tmp_path):
    convert(data, tmp_path)
    before = states(tmp_path)
    assert convert(data, tmp_path, *FORMATS).exit_code == 0
    changed = {path.name for path, state in before.items() if states(tmp_path)[path] != state}
    assert changed == {"run.json"}
    assert read_tree(tmp_path) == uninterrupted


def test_run_json_is_gone_while_there_is_work_to_do(data, tmp_path):
    convert(data, tmp_path)
    folder = tmp_path / DATASET / VERSION
    assert (folder / "run.json").is_file()
    (folder / "rlds").touch()  # where a folder should be
    assert convert(data, tmp_path, *FORMATS).exit_code == 1
    assert not (folder / "run.json").exists()


def test_data_that_moved_is_the_same_data(data, tmp_path):
    convert(data, tmp_path / "out")
    before = states(tmp_path / "out")
    shutil.copytree(data, tmp_path / "moved")
    assert convert(tmp_path / "moved", tmp_path / "out").exit_code == 0
    assert states(tmp_path / "out") == before


def test_an_output_that_is_damaged_is_written_again(data, uninterrupted, tmp_path):
    convert(data, tmp_path, *FORMATS)
    folder = tmp_path / DATASET / VERSION
    (folder / "steps" / f"train-00003-of-{NUM_SHARDS:05d}.parquet").write_bytes(b"short")
    (folder / "instructions" / "instructions.parquet").unlink()
    (folder / "run.json").write_text("{")
    (folder / "rlds" / f"{DATASET}_interleave" / VERSION / "features.json").write_text("{}")
    assert convert(data, tmp_path, *FORMATS).exit_code == 0
    assert read_tree(tmp_path) == uninterrupted


def test_shards_that_are_repaired_are_done_again_and_no_others(data, uninterrupted, tmp_path):
    broken, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(data, broken)
    paths = [shard_path(broken, index=index, count=NUM_SHARDS) for index in (1, 3, 4)]
    _, cut, flipped = contents = [path.read_bytes() for path in paths]
    paths[0].unlink()
    paths[1].write_bytes(cut[:-9])
    paths[2].write_bytes(flipped[:-9] + b"\xff" + flipped[-8:])  # of the same size
    assert convert(broken, out, *FORMATS).exit_code == 1
    before = states(out)
    assert convert(broken, out, *FORMATS).exit_code == 1
    assert states(out) == before
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    assert convert(broken, out, *FORMATS).exit_code == 0
    assert read_tree(out) == uninterrupted
    after = states(out)
    shards = {
        found[0]
        for path, state in before.items()
        if after[path] != state and (found := re.search(r"\d{5}-of-\d{5}", path.name))
    }
    assert shards == {f"{index:05d}-of-{NUM_SHARDS:05d}" for index in (1, 3, 4)}


@pytest.mark.parametrize("becomes", ["missing", "cut"])
def test_complete_shards_stay_when_their_source_goes(data, uninterrupted, tmp_path, becomes):
    source, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(data, source)
    convert(source, out, *FORMATS)
    path = shard_path(source, index=2, count=NUM_SHARDS)
    content = path.read_bytes()
    path.unlink()
    if becomes == "cut":
        path.write_bytes(content[:-9])
    before = states(out)
    assert convert(source, out, *FORMATS).exit_code == 0
    assert states(out) == before
    assert read_tree(out) == uninterrupted


@pytest.mark.parametrize(
    ("becomes", "says"),
    [("missing", ": No such file or directory"), ("cut", " has changed since it was scanned: ")],
)
@pytest.mark.parametrize("stage", ["ground", "steps"])
def test_what_is_still_to_be_read_of_a_source_that_is_gone_is_one_line(
    data, uninterrupted, tmp_path, stage, becomes, says
):
    source, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(data, source)
    convert(source, out, *FORMATS)
    markers = out / DATASET / VERSION / ".state" / stage
    (markers / f"train-00000-of-{NUM_SHARDS:05d}.json").unlink()
    path = shard_path(source, index=0, count=NUM_SHARDS)
    content = path.read_bytes()
    path.unlink()
    if becomes == "cut":
        path.write_bytes(content[:-9])
    found = convert(source, out, *FORMATS)
    assert found.exit_code == 1
    assert f"{path}{says}" in only_error(found.stderr)
    path.write_bytes(content)
    assert convert(source, out, *FORMATS).exit_code == 0
    assert read_tree(out) == uninterrupted


@pytest.mark.parametrize("content", ["", "[]", '{"inputs": '])
def test_a_shard_whose_marker_is_damaged_is_done_again(data, uninterrupted, tmp_path, content):
    convert(data, tmp_path, *FORMATS)
    for stage in ("parse", "ground", "steps", "rlds"):
        folder = tmp_path / DATASET / VERSION / ".state" / stage
        (folder / f"train-00002-of-{NUM_SHARDS:05d}.json").write_text(content)
    (tmp_path / DATASET / VERSION / ".state" / "instructions" / "all.json").write_text(content)
    assert convert(data, tmp_path, *FORMATS).exit_code == 0
    assert read_tree(tmp_path) == uninterrupted


def test_a_source_that_changes_while_it_is_converted_is_one_line(data, tmp_path):
    broken, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(data, broken)
    convert(broken, out)
    shutil.rmtree(out / DATASET / VERSION / ".state" / "steps")
    path = shard_path(broken, index=0, count=NUM_SHARDS)
    content = path.read_bytes()
    path.write_bytes(content[:500] + b"?" + content[501:])  # of the same size
    found = convert(broken, out)
    assert found.exit_code == 1
    line = only_error(found.stderr)
    assert f"{path} has changed since it was scanned" in line
    marker = out / DATASET / VERSION / ".state" / "parse" / f"train-00000-of-{NUM_SHARDS:05d}.json"
    assert f"delete {marker} and run again" in line
    marker.unlink()
    assert convert(broken, out).exit_code == 1  # a wrong checksum now, as a row
    assert (out / DATASET / VERSION / "run.json").is_file()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_cannot_be_written_is_one_line_and_is_written_later(
    data, uninterrupted, tmp_path, workers
):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (25_000, 25_000))

    beam = ("--", f"--direct_num_workers={workers}")
    found = run(data, tmp_path, *beam, preexec_fn=small_files)
    assert found.returncode == 1
    line = only_error(found.stderr)
    assert line.startswith(f"Error: {tmp_path / DATASET / VERSION}")
    assert line.endswith("File too large")
    assert not (tmp_path / DATASET / VERSION / "run.json").exists()
    assert convert(data, tmp_path, *FORMATS).exit_code == 0
    assert read_tree(tmp_path) == uninterrupted


def test_a_full_disk_is_one_line_and_the_same_command_finishes_later(data, uninterrupted, tmp_path):
    """Mounts a small memory file system in a name space of its own, where the machine lets it."""
    script = (
        'mount -t tmpfs -o size=600k none "$1" && "${@:3}"; code=$?; cp -a "$1/." "$2"; exit $code'
    )
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    shell = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c"]
    if (
        not shutil.which("unshare")
        or subprocess.run(
            [*shell, 'mount -t tmpfs none "$1"', "-", str(disk)], capture_output=True
        ).returncode
    ):
        pytest.skip("no mounts here")
    found = subprocess.run(
        [*shell, script, "-", str(disk), str(kept), *command(data, disk)],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1
    line = only_error(found.stderr)
    assert line.startswith(f"Error: {disk}")
    assert line.endswith("No space left on device")
    committed = states(kept)
    assert any(path.suffix == ".json" for path in committed)
    assert convert(data, kept, *FORMATS).exit_code == 0
    assert read_tree(kept) == uninterrupted


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--max-episodes", "3"), "--max-episodes was None and is 3"),
        (("--include", "text_only"), r"--include was \[\] and is \['text_only'\]"),
        (("--picture-kinds", "object"), "--picture-kinds was .* and is .*object"),
    ],
)
def test_an_output_of_another_run_names_what_differs(data, tmp_path, arguments, named):
    convert(data, tmp_path)
    before = read_tree(tmp_path)
    found = convert(data, tmp_path, *arguments)
    assert found.exit_code == 1
    line = found.stderr.splitlines()[-1]
    assert re.search(named, line)
    assert line.endswith("use another --out, or --overwrite to start afresh")
    assert read_tree(tmp_path) == before


def test_an_output_of_other_data_names_the_source(data, tmp_path):
    convert(data, tmp_path / "out")
    other = write_tfds_folder(tmp_path / "data")
    found = convert(other, tmp_path / "out")
    assert (found.exit_code, "source was" in found.stderr) == (1, True)


def test_overwrite_starts_afresh(data, tmp_path):
    convert(data, tmp_path, "--max-episodes", "3")
    assert convert(data, tmp_path, "--overwrite").exit_code == 0
    rows = read_table(tmp_path / DATASET / VERSION / "episodes")
    assert len(rows) == 2 * NUM_SHARDS


def test_two_runs_at_once_is_one_line(data, tmp_path):
    with locked_output(str(tmp_path)):
        found = convert(data, tmp_path)
    assert found.exit_code == 1
    assert found.stderr.splitlines()[-1] == (
        f"Error: another run is writing to {tmp_path}; wait for it or stop it"
    )


@pytest.mark.parametrize(
    ("stage", "count", "held_at"),
    [("parse", 1, ("parse", NUM_SHARDS - 2)), ("ground", NUM_SHARDS, ("rlds", 1))],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_is_one_line_and_the_same_command_goes_on(
    data, uninterrupted, tmp_path, workers, stage, count, held_at
):
    arguments = command(data, tmp_path, "--", f"--direct_num_workers={workers}")
    with killed_at_end(
        arguments,
        stderr=subprocess.PIPE,
        text=True,
        env=held(*held_at),
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    ) as process:
        wait_for_shards(process, tmp_path, stage, count)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal sends: to the workers as well
        stderr = stderr_of(process)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "interrupted; the same command goes on where it was"
    assert "Traceback" not in stderr
    assert convert(data, tmp_path, *FORMATS).exit_code == 0
    assert read_tree(tmp_path) == uninterrupted


def test_ctrl_c_ends_a_run_at_once_whatever_beam_waits_for(data, tmp_path):
    """A worker that never answers is what Beam would wait for, for ever."""
    with two_workers(data, tmp_path, "starting", preexec_fn=hear_ctrl_c) as (process, workers):
        for worker in workers:
            worker.suspend()
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=10)
        finally:
            for worker in workers:
                worker.resume()
            _, alive = psutil.wait_procs(workers, timeout=10)
            stderr = stderr_of(process)
    assert (process.returncode, alive) == (130, [])
    assert stderr.splitlines()[-1] == "interrupted; the same command goes on where it was"


@pytest.mark.parametrize("moment", ["starting", "working"])
def test_no_worker_outlives_its_launcher(data, tmp_path, moment):
    """A worker that went on would write into the folder of the next run."""
    with two_workers(data, tmp_path, moment) as (process, workers):
        process.kill()
        # Nobody has asked for the launcher's exit status: its number is still taken.
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert alive == []
        assert "Traceback" not in stderr_of(process)
    assert process.returncode == -9


@pytest.mark.parametrize("moment", ["starting", "working"])
def test_a_worker_that_is_killed_is_one_line_and_the_same_command_goes_on(
    data, uninterrupted, tmp_path, moment
):
    """As by a kernel that is out of memory; Beam alone would wait for it for ever."""
    with two_workers(data, tmp_path, moment) as (process, workers):
        workers[0].kill()
        stderr = stderr_of(process)
    assert process.returncode == 1
    assert only_error(stderr) == (
        "Error: Worker subprocess exited with return code -9; memory may have run out: "
        "try fewer --direct_num_workers; the same command goes on"
    )
    assert "Traceback" not in stderr
    assert convert(data, tmp_path, *FORMATS).exit_code == 0
    assert read_tree(tmp_path) == uninterrupted


@contextlib.contextmanager
def two_workers(data, out, moment, **options):
    """A run and its two worker processes, when these start, or when the first shard is parsed."""
    arguments = command(data, out, "--", "--direct_num_workers=2")
    pipes = {"stderr": subprocess.PIPE, "text": True}
    settings = {**pipes, "env": held("parse", NUM_SHARDS - 2), **options}
    with killed_at_end(arguments, **settings) as process:
        launcher = psutil.Process(process.pid)
        wait_until(process, lambda: len(launcher.children(recursive=True)) == 2)
        workers = launcher.children(recursive=True)
        assert len(workers) == 2
        if moment == "working":
            wait_for_shards(process, out, "parse", 1)
        yield process, workers


def wait_for_shards(process, out, stage, count):
    """Waits until a stage has committed so many shards, or the run is over."""
    markers = out / DATASET / VERSION / ".state" / stage
    wait_until(process, lambda: len(list(markers.glob("*.json"))) >= count)


def hear_ctrl_c():
    """Where the tests run in the background, Ctrl-C is ignored, and that is handed down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stderr_of(process):
    """What a process that is about to end has said."""
    return process.communicate(timeout=30)[1]
