import io
import sys

import pytest
from builders import make_episode, make_job, write_tfds_folder

from ilv_dataset import progress
from ilv_dataset.errors import StorageError
from ilv_dataset.formats.markers import Marker, write_marker
from ilv_dataset.progress import count_done, noting_progress, showing_count, showing_progress


@pytest.fixture
def job(tmp_path):
    data = write_tfds_folder(tmp_path / "data", {"train": [[make_episode()] * 3, [make_episode()]]})
    return make_job(data, tmp_path / "out")


def commit(job, stage, index):
    write_marker(job.layout, stage, job.shards[index].key, Marker({}, (), {}))


def test_count_done_of_nothing(job):
    assert count_done(job, ["parse"]) == 0


def test_count_done_adds_committed_shards_and_notes_of_those_under_way(job, monkeypatch):
    monkeypatch.setattr(progress, "NOTE_EVERY_S", 0.0)
    rows = noting_progress(iter("abcdef"), job=job, stage="parse", shard=job.shards[0])
    assert next(rows) == "a"
    assert count_done(job, ["parse"]) == 0
    assert next(rows) == "b"
    assert count_done(job, ["parse"]) == 1
    assert list(rows) == ["c", "d", "e", "f"]
    assert count_done(job, ["parse"]) == 3  # of three records, however many rows they have
    commit(job, "parse", 1)
    assert count_done(job, ["parse"]) == 4
    commit(job, "parse", 0)
    commit(job, "ground", 1)
    assert count_done(job, ["parse", "ground"]) == 2  # of four records, 4 and 1 done


def test_a_note_that_is_being_written_counts_nothing(job, monkeypatch):
    monkeypatch.setattr(progress, "NOTE_EVERY_S", 0.0)
    list(noting_progress("ab", job=job, stage="parse", shard=job.shards[0]))
    (note,) = [path for path in (progress._notes_folder(job, "parse")).iterdir()]
    note.write_text("")
    assert count_done(job, ["parse"]) == 0


def test_notes_that_cannot_be_written_are_one_line(job, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".tmp").touch()
    with pytest.raises(StorageError, match="train-00000-of-00002: Not a directory"):
        list(noting_progress("ab", job=job, stage="parse", shard=job.shards[0]))


def test_no_notes_are_left_in_a_bucket(tmp_path, bucket):
    data = write_tfds_folder(tmp_path / "data")
    job = make_job(data, "mem://b/out")
    rows = noting_progress("ab", job=job, stage="parse", shard=job.shards[0])
    assert list(rows) == ["a", "b"]
    assert bucket == {}
    commit(job, "parse", 0)
    assert count_done(job, ["parse"]) == 1


def test_plain_lines_where_there_is_no_terminal(job, capsys):
    commit(job, "parse", 1)
    with showing_progress(job, ["parse"], "parse"):
        commit(job, "parse", 0)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("parse: 4 of 4 episodes, ")
    assert "left" not in line


def test_two_stages_of_the_same_episodes_count_them_once(job, capsys):
    for stage in ("steps", "rlds"):
        for index in (0, 1):
            commit(job, stage, index)
    with showing_progress(job, ["steps", "rlds"], "write"):
        pass
    assert capsys.readouterr().err.startswith("write: 4 of 4 episodes, ")


def test_one_episode_is_no_episodes(capsys):
    with showing_count(lambda: 1, 1, "simulate"):
        pass
    assert capsys.readouterr().err.startswith("simulate: 1 of 1 episode, ")


def test_a_line_tells_the_rate_and_what_is_left(job, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.01)
    printed = io.StringIO()

    class Watched(io.StringIO):
        def write(self, text):
            printed.write(text)
            return len(text)

    monkeypatch.setattr(sys, "stderr", Watched())
    with showing_progress(job, ["parse"], "parse"):
        while "0 of 4" not in printed.getvalue():
            pass
        commit(job, "parse", 1)
        while "1 of 4" not in printed.getvalue():
            pass
    lines = printed.getvalue().splitlines()
    assert lines[0] == "parse: 0 of 4 episodes, 0.0/s"
    assert any(line.endswith(" s left") for line in lines)


def test_a_bar_on_a_terminal(job, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with showing_progress(job, ["parse"], "parse"):
        commit(job, "parse", 0)
        commit(job, "parse", 1)
    assert "parse" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()


def test_a_folder_that_cannot_be_watched_does_not_stop_the_run(job, tmp_path, capsys):
    folder = tmp_path / "out" / job.layout.dataset / job.layout.version / ".state"
    folder.mkdir(parents=True)
    (folder / "parse").symlink_to("parse")  # a link to itself
    with showing_progress(job, ["parse"], "parse"):
        pass
    assert "Traceback" not in capsys.readouterr().err


def test_an_error_of_the_run_is_not_lost_behind_the_bar(job):
    with pytest.raises(StorageError, match="why"), showing_progress(job, ["parse"], "parse"):
        raise StorageError("why")
