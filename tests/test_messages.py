import shlex
import sys

from ilv_dataset.messages import command_line, count_noun, damaged_lines


def test_count_noun():
    assert [count_noun(number, "crop") for number in (0, 1, 2, 1234)] == [
        "0 crops", "1 crop", "2 crops", "1,234 crops",
    ]  # fmt: skip


def test_damaged_lines_show_five():
    assert damaged_lines([]) == []
    assert damaged_lines(list("abcde"))[1:] == ["  a", "  b", "  c", "  d", "  e"]
    assert damaged_lines(list("abcdefg"))[-2:] == ["  e", "  and 2 more"]


def test_a_command_is_the_program_that_was_called_with_quoted_paths(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["my tools/ilv", "convert"])
    shown = command_line("inspect", "it's here", "--episode", "first")
    assert shown == """'my tools/ilv' inspect 'it'"'"'s here' --episode first"""
    assert shlex.split(shown) == ["my tools/ilv", "inspect", "it's here", "--episode", "first"]
