"""Replies are kept one by one: what tells them apart, and what a damaged one costs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from object_store import MemoryFileSystem

from ilv_dataset.errors import StorageError
from ilv_dataset.prompts import Prompt
from ilv_dataset.reply_cache import ReplyCache

PROMPT = Prompt("find.v1", "Find it.", '{"type": "object"}')
ANSWER = {"objects": [{"phrase": "crème 🍌"}], "tokens_in": 3}
ASKED = "lift the crème 🍌"


def make_cache(folder, *, model="m", prompt=PROMPT, parameters=None):
    return ReplyCache(str(folder), model, prompt, parameters or {"temperature": 0})


def only_file(folder):
    [path] = [path for path in Path(folder).rglob("*") if path.is_file()]
    return path


def test_an_answer_is_found_by_another_run(tmp_path):
    assert make_cache(tmp_path).read(ASKED) is None
    make_cache(tmp_path).write(ASKED, ANSWER)
    assert make_cache(tmp_path).read(ASKED) == ANSWER
    assert make_cache(f"{tmp_path}/").read(ASKED) == ANSWER


def test_a_file_lies_in_a_folder_of_its_prompt_and_says_in_plain_text_what_it_holds(tmp_path):
    make_cache(tmp_path).write(ASKED, {"asked": ASKED})
    path = only_file(tmp_path)
    assert path.relative_to(tmp_path).parts[:2] == ("find.v1", path.name[:2])
    assert path.read_text("utf-8") == '{"asked": "lift the crème 🍌"}'


@pytest.mark.parametrize(
    "other",
    [
        {"model": "n"},
        {"prompt": Prompt("find.v1", "Find it!", '{"type": "object"}')},
        {"prompt": Prompt("find.v1", "Find it.", '{"type": "array"}')},
        {"prompt": Prompt("find.v2", "Find it.", '{"type": "object"}')},
        {"parameters": {"temperature": 1}},
        {"parameters": {"temperature": 0, "seed": 1}},
    ],
)
def test_another_question_has_another_answer(tmp_path, other):
    make_cache(tmp_path).write(ASKED, ANSWER)
    assert make_cache(tmp_path, **other).read(ASKED) is None
    assert make_cache(tmp_path).read(f"{ASKED} ") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"objects": [', b"null", b"[]", b"7", b"\xff\xfe", b"[" * 100_000, b"\0" * 50],
)
def test_a_damaged_file_is_a_miss_and_is_written_again(tmp_path, content):
    cache = make_cache(tmp_path)
    cache.write(ASKED, ANSWER)
    only_file(tmp_path).write_bytes(content)
    assert cache.read(ASKED) is None
    cache.write(ASKED, ANSWER)
    assert cache.read(ASKED) == ANSWER


def test_a_write_that_fails_is_one_line_and_leaves_nothing(tmp_path):
    cache = make_cache(tmp_path)
    Path(cache.path(ASKED)).mkdir(parents=True)  # where a file should be
    with pytest.raises(StorageError, match="irectory"):
        cache.write(ASKED, ANSWER)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


WRITER = """
import sys
from ilv_dataset.prompts import Prompt
from ilv_dataset.reply_cache import ReplyCache
cache = ReplyCache(sys.argv[1], "m", Prompt("find.v1", "Find it.", '{}'), {"temperature": 0})
print("ready", flush=True)
sys.stdin.read()
for number in range(3000):
    text = f"lift cup {number % 20}"
    cache.write(text, {"asked": text, "by": sys.argv[2] * 2000})
    answer = cache.read(text)
    assert answer is not None and len(set(answer["by"])) == 1, answer
"""


def test_processes_that_write_at_once_never_see_half_an_answer(tmp_path):
    """The other one's answer may be read; both are good."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    writers = [subprocess.Popen([*command, name], **pipes) for name in "ab"]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.stdin.close()
    for writer in writers:
        assert writer.wait(timeout=60) == 0
        writer.stdout.close()
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) == 20
    assert all(path.suffix == ".json" for path in kept)


def test_a_bucket_holds_the_same_files(bucket, tmp_path):
    remote, local = make_cache("mem://bucket/replies"), make_cache(tmp_path)
    assert remote.read(ASKED) is None
    for cache in (remote, local):
        cache.write(ASKED, ANSWER)
        assert cache.read(ASKED) == ANSWER
    path = only_file(tmp_path)
    assert bucket == {f"mem://bucket/replies/{path.relative_to(tmp_path)}": path.read_bytes()}


def test_a_damaged_object_of_a_bucket_is_a_miss_and_one_that_cannot_be_read_is_not(bucket):
    cache = make_cache("mem://bucket/replies")
    cache.write(ASKED, ANSWER)
    [name] = bucket
    MemoryFileSystem.unreadable.add(name)
    with pytest.raises(StorageError, match="mem://bucket/replies"):
        cache.read(ASKED)
    MemoryFileSystem.unreadable.clear()
    bucket[name] = json.dumps(ANSWER).encode()[:9]
    assert cache.read(ASKED) is None
