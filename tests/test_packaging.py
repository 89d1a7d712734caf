"""The wheel: built from the source archive, complete, one name in site-packages, runs anywhere."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build")

FOLDERS = ("ilv_dataset", "pipelines", "prompts", "schemas")
NOT_SHIPPED = {"ilv_dataset/pipelines/Dockerfile"}


def run(*command: object, cwd: Path) -> str:
    """Runs a command to its end; its output, or a failure that shows it."""
    finished = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def shipped_files(source: Path) -> set[str]:
    """The files that the wheel must hold, by their names in it."""
    files = {
        str(path.relative_to(source))
        for folder in FOLDERS
        for path in (source / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    inside = {name if name.startswith("ilv_dataset/") else f"ilv_dataset/{name}" for name in files}
    return inside - NOT_SHIPPED


@pytest.fixture(scope="module")
def source(tmp_path_factory, repository) -> Path:
    """A copy of what the build reads, so that nothing is left in the checkout."""
    copied = tmp_path_factory.mktemp("source") / "ilv"
    copied.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, copied)
    for folder in FOLDERS:
        shutil.copytree(
            repository / folder,
            copied / folder,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return copied


@pytest.fixture(scope="module")
def wheel(source) -> Path:
    run(sys.executable, "-m", "build", "--no-isolation", source, cwd=source.parent)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(tmp_path_factory, wheel) -> Path:
    """An empty environment with the wheel in it, and no dependency yet."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    return folder


def site_packages(environment: Path) -> Path:
    (found,) = environment.glob("lib/python3.*/site-packages")
    return found


def test_wheel_holds_every_file_of_the_package(source, wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert not [info for info in archive.infolist() if info.external_attr >> 28 == 0xA]
    assert names == shipped_files(source)
    assert {"ilv_dataset/py.typed", "ilv_dataset/pipelines/__init__.py"} <= names


def test_wheel_puts_one_name_into_site_packages(environment):
    names = {path.name for path in site_packages(environment).iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"ilv_dataset"}
    assert len(names) == 2


def test_installed_command_works_from_another_folder(environment, tmp_path):
    # The dependencies are those of this environment; a plain path line leaves its .pth files be.
    dependencies = sysconfig.get_path("purelib")
    (site_packages(environment) / "dependencies.pth").write_text(f"{dependencies}\n")
    where = "import ilv_dataset.prompts as p, ilv_dataset.cli; print(p.__file__)"
    printed = run(environment / "bin" / "python", "-c", where, cwd=tmp_path)
    assert Path(printed.strip()).is_relative_to(environment)
    assert run(environment / "bin" / "ilv", "--help", cwd=tmp_path).startswith("Usage: ilv")
    assert "fractal" in run(environment / "bin" / "ilv", "datasets", cwd=tmp_path)
