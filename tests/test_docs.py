"""The README says what the code does: its command list, its files, its links."""

import re
import subprocess
import sys
from pathlib import Path

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


# In a process of its own: TensorFlow and torch get on only where torch was there first.
_CHECK = """
assert [type(image).__name__ for image in spans[0]["images"]] == ["JpegImageFile"] * 2
pictures = episode["interleaved_instruction"]["image_instruction"]
assert (pictures.dtype.name, pictures.shape[1:]) == ("uint8", (224, 224, 3))
print(spans[0]["interleaved"])
"""

_TRAINING_CHECK = """
assert span.interleaved.count("<image>") == len(span.images)
assert len(step["action"]) == 7
assert tuple(frames.shape) == (32, 1, 3, 96, 96)
assert tuple(images.shape) == (32, 2, 3, 48, 48)
assert tuple(tokens.shape) == (32, 24)
assert tuple(actions.shape) == (32, 8, 7)
"""


def test_the_readmes_python_reads_what_its_command_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, *snippets = README.split("what `make convert DATASET=demo ARGS='")[1].split(
        "```python\n"
    )
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["convert", "demo", *written.split("'")[0].split()])
    assert done.exit_code == 0, done.stderr
    python, training = (snippet.split("```")[0] for snippet in snippets)
    command = [sys.executable, "-c", python + _CHECK]
    read = subprocess.run(command, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
    assert f"# '{read.stdout.splitlines()[-1]}', two PIL images" in python
    trained = subprocess.run(
        [sys.executable, "-c", training + _TRAINING_CHECK],
        capture_output=True,
        text=True,
        check=False,
    )
    assert trained.returncode == 0, trained.stderr


def test_readme_shows_the_two_commands() -> None:
    assert "make convert DATASET=demo" in README
    assert "make test" in README
