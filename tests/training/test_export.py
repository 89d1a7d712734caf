"""The export: which folders are refused, the use of the weights that is taken, what is measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from ilv_dataset.errors import ConfigError
from ilv_dataset.models.bundled import load_tensors
from ilv_dataset.models.world_network import WorldSizes, build_world, save_world
from ilv_dataset.training import export
from ilv_dataset.training.detector_scores import ABSENT_ALIKE, PRESENT, Question, Reply
from ilv_dataset.training.prompts import Vocabulary
from ilv_dataset.training.scenes import SceneFolder, TrainingScene, save_scenes

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
PAIRS = tuple((colour, noun) for colour in COLOURS for noun in ("bar", "block"))
NEW = ("blue", "bar")
WORDS = Vocabulary(("bar", "block"), tuple(COLOURS), tuple(pair for pair in PAIRS if pair != NEW))
LEARNED, CHECK, KNOWN, NEWS = range(0, 1000, 500), (2000,), (3000, 3001), (4000, 4001, 4002)


def make_scene(seed: int, *pairs: tuple[str, str]) -> TrainingScene:
    """Squares of 24 px, 64 x 64 px in all."""
    rgb, labels = np.full((64, 64, 3), 128, np.uint8), np.zeros((64, 64), np.uint8)
    boxes = []
    for row, (colour, _) in enumerate(pairs):
        x = 4 + 32 * row
        rgb[8:32, x : x + 24], labels[8:32, x : x + 24] = COLOURS[colour], row + 1
        boxes.append((x, 8, x + 24, 32))
    return TrainingScene(
        seed=seed,
        rgb=rgb,
        labels=labels,
        names=tuple(map(" ".join, pairs)),
        nouns=tuple(noun for _, noun in pairs),
        colours=tuple(colour for colour, _ in pairs),
        boxes_xyxy=np.array(boxes, np.float32),
        visible_px=np.full(len(pairs), 576),
    )


def save(folder: Path, seeds, *pairs: tuple[str, str]) -> Path:
    folder.mkdir(parents=True)
    for seed in seeds:
        save_scenes(folder / f"scenes-{seed:09d}.npz", [make_scene(seed, *pairs)])
    return folder


@pytest.fixture
def folders(tmp_path, monkeypatch) -> dict[str, Path]:
    """Random weights of a training, and stills of it, to check on, and to measure on."""
    monkeypatch.setattr(export, "PAIRS", PAIRS)
    monkeypatch.setattr(export, "HELD_OUT", frozenset({NEW}))
    monkeypatch.setattr(export, "_RIVAL_WEIGHTS", (0.5,))
    work = tmp_path / "work"
    work.mkdir()
    sizes = WorldSizes(width=0.125, is_guided=False, num_classes=8, input_px=96)
    save_world(work / "weights.safetensors", build_world(sizes), sizes, {})
    (work / "config.json").write_text('{"seed": 0, "input_px": 96}')
    (work / "log.csv").write_text("step\n1\n")
    return {
        "--work": work,
        # Of the trained names "red bar" is on no still to measure on, and trained all the same.
        "--scenes": save(tmp_path / "scenes", LEARNED, ("red", "bar")),
        "--check": save(tmp_path / "check", CHECK, ("red", "block"), NEW),
        "--known": save(tmp_path / "known", KNOWN, ("red", "block")),
        "--new": save(tmp_path / "new", NEWS, ("blue", "block"), NEW),
    }


def run(folders: dict[str, Path], out: Path) -> None:
    export.main([str(word) for pair in ({**folders, "--out": out}).items() for word in pair])


def test_an_export_writes_weights_log_and_scores(folders, tmp_path):
    run(folders, tmp_path / "out")
    weights = tmp_path / "out" / f"{export.NAME}.safetensors"
    _, metadata = load_tensors(weights)
    assert json.loads(metadata["rivals"])["nouns"] == ["bar", "block"]
    assert ["block", "brick"] in json.loads(metadata["rivals"])["alike"]
    assert json.loads(metadata["sizes"])["input_px"] == 96
    scores = json.loads(weights.with_suffix(".scores.json").read_text())
    assert scores["weights_bytes"] == weights.stat().st_size
    assert (scores["segmenter"], scores["input_px"]) == ("sam:tabletop", 96)
    known, held_out = scores["known"]["verified"], scores["held_out"]["verified"]
    assert (known["num_present"], known["num_absent"]) == (2, 8)
    assert (held_out["num_present"], held_out["num_absent"]) == (3, 12)  # the blue bars alone
    assert scores["known"]["reworded"]["num_present"] == 2
    assert set(known["intervals_95"]) == {
        "right", "recall", "absent_random", "absent_alike", "absent",
    }  # fmt: skip
    assert weights.with_suffix(".log.csv").read_text() == "step\n1\n"


@pytest.mark.parametrize("name", ["--check", "--known", "--new"])
def test_stills_that_were_learned_from_are_no_measure(name, folders, tmp_path):
    seed = LEARNED[1]
    leaked = make_scene(seed, ("red", "block"))
    save_scenes(folders[name] / f"scenes-{seed:09d}.npz", [leaked])
    with pytest.raises(ConfigError, match=rf"scenes and .*{name[2:]} share 1 stills, .* seed 500"):
        run(folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_threshold_is_not_set_on_the_stills_that_measure_it(folders, tmp_path):
    folders["--known"] = folders["--check"]
    del folders["--scenes"]
    with pytest.raises(ConfigError, match="share 1 stills, the first of seed 2000"):
        run(folders, tmp_path / "out")


def test_the_rivalry_that_finds_most_is_taken_and_shifted_to_the_verifier(
    folders, tmp_path, monkeypatch
):
    present = Question("", "red", "bar", 0, PRESENT)
    absent = Question("", "red", "bar", None, ABSENT_ALIKE)
    # Scores of one of two things that are there, at each weight; of what is not 0.6 and less.
    # Asked twice a weight, for known and for new names.
    scores = iter((0.5, 0.5, 0.9, 0.9, 0.7, 0.7))
    monkeypatch.setattr(export, "_RIVAL_WEIGHTS", (0.0, 0.5, 1.0))
    monkeypatch.setattr(export, "ABSENT_MAX", 0.0)

    def ask(*_, **__) -> list[Reply]:
        score = next(scores)
        replies = [Reply(present, score, True, True, ""), Reply(present, 0.65, True, True, "")]
        return replies + [Reply(absent, 0.01 * n, False, False, "") for n in range(61)]

    monkeypatch.setattr(export, "ask_all", ask)
    weights, stills = folders["--work"] / "weights.safetensors", SceneFolder(folders["--check"])
    rivals = export.choose_rivals(weights, tmp_path / "w.safetensors", stills, WORDS)
    assert rivals.weight == 0.5  # the first of those that find most
    assert rivals.shift == pytest.approx(-1.2528, abs=1e-3)  # from odds of 0.6 to those of 0.3


def test_confusions_name_what_was_asked_and_what_is_shown():
    question = Question("red mug", "red", "mug", 0, PRESENT)
    absent = Question("blue mug", "blue", "mug", None, ABSENT_ALIKE)
    replies = [
        Reply(question, 0.9, True, True, "red mug"),
        Reply(question, 0.9, False, True, "red cup"),
        Reply(question, 0.9, False, True, "red cup"),
        Reply(question, 0.0, False, False, ""),
        Reply(absent, 0.4, False, True, "green cup"),
        Reply(absent, 0.2, False, False, "green pot"),
    ]
    assert export.confusions(replies) == {
        "present_noun": {"mug -> cup": 2},
        "absent_noun": {"mug -> cup": 1},
        "absent_colour": {"blue -> green": 1},
    }
