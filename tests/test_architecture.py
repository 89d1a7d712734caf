"""What DESIGN section 5 and the house style promise about the source, checked on the source."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "ilv_dataset"
LINES_MAX = 400
BYTES_MAX = 8_000_000

# A module may import from its own part and from parts of a lower rank; what is not named here is
# a module of the top level: logic on values, rank 1.
RANKS = {
    "records": 0,
    "fields": 0,
    "errors": 0,
    "image_files": 0,
    "masks": 0,
    "models": 1,
    "formats": 1,
    "prompts": 1,
    "schemas": 1,
    "simulation": 2,
    "train": 2,
    "shards": 2,
    "proof": 3,
    "training": 3,
    "extraction": 3,
    "stages": 3,
    "pipelines": 4,
    "running": 5,
    "rollout_command": 5,
    "train_command": 5,
    "cli": 6,
}
LOGIC_RANK = 1

# Who may import a heavy package; the rest of the library starts without it.
HEAVY = {
    "apache_beam": ("stages", "pipelines", "formats.files"),
    "tensorflow": (),
    "torch": ("models", "train", "training"),
    "torchvision": ("models", "train", "training"),
    "ultralytics": ("models", "train", "training"),
    "segment_anything": ("models", "train", "training"),
    "open_clip": ("models",),
    "onnxruntime": ("models",),
    "openai": ("models",),
    "pybullet": ("simulation",),
    "pybullet_data": ("simulation",),
}


@cache
def modules() -> dict[str, Path]:
    """Dotted name below ilv_dataset -> file; the links to pipelines, prompts, schemas followed."""
    found = {}
    for folder in (PACKAGE, *(path for path in PACKAGE.iterdir() if path.is_symlink())):
        for path in sorted(folder.rglob("*.py")):
            found[".".join(path.relative_to(PACKAGE).with_suffix("").parts)] = path
    return {name.removesuffix(".__init__"): path for name, path in found.items()}


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Every dotted name that a module imports, at its top or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def imports(name: str) -> frozenset[str]:
    return frozenset(imported_names(ast.parse(modules()[name].read_text())))


def own_imports(name: str) -> set[str]:
    """The modules of the library that a module imports, as keys of modules()."""
    found = set()
    for imported in imports(name):
        if imported.startswith("ilv_dataset."):
            target = imported.removeprefix("ilv_dataset.")
            found.add(target if target in modules() else target.rpartition(".")[0])
    return found - {"", "__init__", name}


def part_of(name: str) -> str:
    return name.partition(".")[0]


def rank_of(name: str) -> int:
    return RANKS.get(part_of(name), LOGIC_RANK)


def is_within(name: str, parts: tuple[str, ...]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def committed_files() -> list[Path]:
    """What git tracks or would track; the test of a source archive without git skips."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [REPOSITORY / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


@cache
def committed_texts() -> dict[str, str]:
    texts = {}
    for path in committed_files():
        content = path.read_bytes()
        if b"\0" not in content[:8192]:
            texts[str(path.relative_to(REPOSITORY))] = content.decode(errors="replace")
    return texts


def matching_lines(pattern: str) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in committed_texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_imports_point_one_way():
    upward = {
        f"{name} (rank {rank_of(name)}) imports {target} (rank {rank_of(target)})"
        for name in modules()
        for target in own_imports(name)
        if rank_of(target) > rank_of(name)
        or (rank_of(target) == rank_of(name) >= 2 and part_of(target) != part_of(name))
    }
    assert not upward


def test_models_and_formats_do_not_know_each_other():
    sides = {"models": "formats", "formats": "models"}
    crossing = {
        f"{name} imports {target}"
        for name in modules()
        for target in own_imports(name)
        if sides.get(part_of(name)) == part_of(target)
    }
    assert not crossing


def test_imports_have_no_cycle():
    waiting = {name: own_imports(name) for name in modules()}
    while free := [name for name, targets in waiting.items() if not targets & waiting.keys()]:
        for name in free:
            del waiting[name]
    assert not waiting, "each of these imports another of these"


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_packages_stay_in_their_place(package):
    elsewhere = [
        name
        for name in modules()
        if not is_within(name, HEAVY[package])
        and any(part_of(imported) == package for imported in imports(name))
    ]
    assert not elsewhere


def test_every_import_is_a_declared_dependency():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    library = {
        extra: wanted
        for extra, wanted in project["optional-dependencies"].items()
        if extra not in ("test", "dev")
    }
    wanted = [*project["dependencies"], *(name for names in library.values() for name in names)]
    declared = {re.split(r"[\[<>=; ]", name)[0].lower().replace("_", "-") for name in wanted}
    providers = importlib.metadata.packages_distributions()
    roots = {part_of(imported) for name in modules() for imported in imports(name)}
    undeclared = {
        root
        for root in roots - {"ilv_dataset"} - sys.stdlib_module_names
        if root in providers
        and not declared & {name.lower().replace("_", "-") for name in providers[root]}
    }
    assert not undeclared


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in modules().values()}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_modules_are_short():
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert not {name: length for name, length in lengths.items() if length > LINES_MAX}


def test_public_modules_have_a_docstring():
    bare = [
        name
        for name, path in modules().items()
        if not name.rpartition(".")[2].startswith("_")
        and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not bare


def test_no_broad_except_goes_on():
    broad = []
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ExceptHandler):
                continue
            named = {part.id for part in ast.walk(node.type or node) if isinstance(part, ast.Name)}
            is_broad = node.type is None or named & {"Exception", "BaseException"}
            if is_broad and not is_raised(node.body[-1]):
                broad.append(f"{name}:{node.lineno}")
    assert not broad


def is_raised(node):
    """Whether a statement raises an error, or hands it to the thread that waits for it."""
    return isinstance(node, ast.Raise) or ast.unparse(node).endswith(".put(error)")


def test_no_committed_file_names_a_registry_host():
    hosts = (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("crates", "io"),
        ("proxy.golang", "org"),
        ("registry.npmjs", "org"),
        ("maven.apache", "org"),
        ("maven", "org"),
        ("deb.debian", "org"),
    )
    assert not matching_lines("|".join(rf"\b{re.escape('.'.join(host))}\b" for host in hosts))


def test_no_committed_file_names_a_path_of_one_machine():
    folders = "|".join(("work", "root", "home", "Users"))
    assert not matching_lines(rf"(?<![\w.)>}}])/({folders})/\w")


def test_no_committed_file_is_large():
    sizes = {str(path.relative_to(REPOSITORY)): path.stat().st_size for path in committed_files()}
    assert not {name: size for name, size in sizes.items() if size > BYTES_MAX}


def test_worker_image_has_the_beam_that_is_pinned():
    pins = (REPOSITORY / "constraints.txt").read_text()
    pinned = re.search(r"^apache-beam==(\S+)$", pins, re.MULTILINE)
    image = re.search(
        r"^FROM apache/beam_python3\.11_sdk:(\S+)$",
        (REPOSITORY / "pipelines" / "Dockerfile").read_text(),
        re.MULTILINE,
    )
    assert pinned is not None
    assert image is not None
    assert image[1] == pinned[1]


def test_constraints_hold_exact_versions_only():
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert not [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.+!]+", line)]
    assert len({line.partition("==")[0].lower() for line in pins}) == len(pins)


CLOCKS = ("time.time", "time.monotonic", "time.perf_counter", "datetime.datetime", "datetime.date")
# Progress on a terminal, and looking whether the launcher is alive: nothing that is written.
# The proof says how long its steps took.
CLOCKED = ("progress", "terminals", "pipelines.worker", "proof.experiment")


def test_no_module_unpickles():
    unpickling = {
        f"{name}:{node.lineno}"
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve")
        and node.attr in ("load", "loads", "Unpickler", "open")
    }
    assert not unpickling


def test_no_clock_reaches_a_file():
    clocked = {
        name
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in CLOCKS
    }
    assert clocked <= set(CLOCKED)
