"""The README says what the code does: its command list, its files, its links."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from ilv_dataset.cli import main

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def command_list() -> str:
    """The list that belongs between the README's command marks."""
    lines = []
    for name, command in main.commands.items():
        context = click.Context(command, info_name=f"ilv {name}")
        usage = command.get_usage(context).removeprefix("Usage: ").replace(" [OPTIONS]", "")
        sentence = (command.help or "").split("\n\n")[0].replace("\n", " ").strip()
        lines.append(f"- `{' '.join(usage.split())}`: {sentence}")
    return "\n".join(lines)


def test_readme_lists_every_command_as_its_help_has_it() -> None:
    listed = README.split("<!-- commands -->\n")[1].split("<!-- /commands -->")[0].strip()
    assert listed == command_list()


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_has_help_with_an_example(name: str) -> None:
    command = main.commands[name]
    assert command.help
    assert "Example:" in command.help
    assert f"ilv {name}" in command.help


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_files_that_the_readme_links_to_exist(target: str) -> None:
    assert (REPOSITORY / target).exists()


def test_modules_of_the_file_map_exist() -> None:
    section = README.split("## File map")[1].split("\n## ")[0]
    names = re.findall(r"[\w./]+\.(?:py|toml)", section)
    assert names
    for name in names:
        assert any(REPOSITORY.rglob(Path(name).name)), name


def test_the_readmes_python_reads_what_its_command_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, python = README.split("what `make convert DATASET=demo ARGS='")[1].split("```python\n")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["convert", "demo", *written.split("'")[0].split()])
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = {}
    exec(python.split("```")[0], found)
    first = found["spans"][0]
    assert f"# '{first['interleaved']}', two PIL images" in python
    assert [type(image).__name__ for image in first["images"]] == ["JpegImageFile"] * 2
    pictures = found["episode"]["interleaved_instruction"]["image_instruction"]
    assert pictures.dtype.name == "uint8"
    assert pictures.shape[1:] == (224, 224, 3)


def test_readme_shows_the_two_commands() -> None:
    assert "make convert DATASET=demo" in README
    assert "make test" in README
