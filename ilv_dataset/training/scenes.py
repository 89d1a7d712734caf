"""Simulated stills on disk: rendered once by several processes, read by both trainers.

A folder holds files of SCENES_PER_FILE stills each, named by their first seed. Each is a .npz of
plain arrays: pictures as JPEG, labels as PNG (0: nothing, i + 1: thing i), and the things' names.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from ilv_dataset.child_processes import open_pool
from ilv_dataset.errors import ConfigError
from ilv_dataset.masks import mask_areas_px, mask_boxes_xyxy
from ilv_dataset.progress import showing_count

SCENES_PER_FILE = 250  # some 8 MB
SIZE_PX = 256
_JPEG_QUALITY = 95  # Source: ours; robot datasets hold JPEG, and raw pixels would be 5 GB


@dataclass(frozen=True, eq=False)
class TrainingScene:
    """One still and the truth about its N things; those wholly hidden are among them."""

    seed: int
    rgb: np.ndarray  # (H, W, 3) uint8
    labels: np.ndarray  # (H, W) uint8: i + 1 where thing i is seen, else 0
    names: tuple[str, ...]  # N, e.g. "red mug"
    nouns: tuple[str, ...]  # N, e.g. "mug"
    colours: tuple[str, ...]  # N, e.g. "red"
    boxes_xyxy: np.ndarray  # (N, 4) float32 pixels of what is seen, max edge exclusive
    visible_px: np.ndarray  # (N,) int64

    def masks(self) -> np.ndarray:
        """What is seen of each thing, (N, H, W) bool."""
        return masks_of(self.labels, len(self.names))


class SceneFolder:
    """All stills of a folder: encoded in memory (30 kB each), decoded one by one."""

    def __init__(self, folder: Path, *, limit: int | None = None) -> None:
        """Reads the files; the stills are in the order of their seeds.

        Raises: ConfigError if there are none.
        """
        self._files: list[dict[str, np.ndarray]] = []
        self._places: list[tuple[int, int]] = []
        for number, path in enumerate(_find_files(folder)):
            with np.load(path, allow_pickle=False) as stored:
                self._files.append({name: stored[name] for name in stored.files})
            self._places += [(number, row) for row in range(len(self._files[-1]["seeds"]))]
        self._places = self._places[:limit]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> TrainingScene:
        """Decodes one still, 1 ms."""
        number, row = self._places[index]
        stored = self._files[number]
        jpeg = _slice(stored["jpegs"], stored["jpeg_ends"], row)
        png = _slice(stored["pngs"], stored["png_ends"], row)
        rows = slice(*_bounds(stored["thing_ends"], row))
        return TrainingScene(
            seed=int(stored["seeds"][row]),
            rgb=_decode(jpeg, cv2.IMREAD_COLOR_RGB),
            labels=_decode(png, cv2.IMREAD_GRAYSCALE),
            names=tuple(stored["names"][rows].tolist()),
            nouns=tuple(stored["nouns"][rows].tolist()),
            colours=tuple(stored["colours"][rows].tolist()),
            boxes_xyxy=stored["boxes_xyxy"][rows],
            visible_px=stored["visible_px"][rows],
        )

    @functools.cached_property
    def stacked(self) -> tuple[int, ...]:
        """Rows of the stills that show a thing whose middle lies in the box of a larger one.

        Of all stills where there is none.
        """
        rows = []
        for row, (number, place) in enumerate(self._places):
            stored = self._files[number]
            things = slice(*_bounds(stored["thing_ends"], place))
            if has_stacked(stored["boxes_xyxy"][things]):
                rows.append(row)
        return tuple(rows or range(len(self)))

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """All (colour, noun) that occur, sorted."""
        return tuple(
            sorted(
                {
                    (str(colour), str(noun))
                    for stored in self._files
                    for colour, noun in zip(stored["colours"], stored["nouns"], strict=True)
                }
            )
        )


def has_stacked(boxes_xyxy: np.ndarray) -> bool:
    """Whether the middle of a box (N, 4) lies in a larger box.

    >>> has_stacked(np.array([[0.0, 0, 9, 9], [4, 4, 8, 8]]))
    True
    """
    areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)
    middles = (boxes_xyxy[:, None, :2] + boxes_xyxy[:, None, 2:]) / 2
    inside = ((middles > boxes_xyxy[:, :2]) & (middles < boxes_xyxy[:, 2:])).all(axis=2)
    return bool((inside & (areas[:, None] < areas) & (areas[:, None] > 0)).any())


def masks_of(labels: np.ndarray, num_things: int) -> np.ndarray:
    """(N, H, W) bool masks of a label picture (H, W).

    >>> masks_of(np.array([[0, 2, 1]], np.uint8), 2).tolist()
    [[[False, False, True]], [[False, True, False]]]
    """
    numbers = np.arange(1, num_things + 1, dtype=np.uint8)
    return np.asarray(labels[None] == numbers[:, None, None])


def draw_scene(seed: int, *, held_out: bool = False, size_px: int = SIZE_PX) -> TrainingScene:
    """Draws one still of the simulation; `held_out` ones show the held-out colour-noun pairs."""
    from ilv_dataset.simulation.stills import draw_still

    still = draw_still(seed, held_out=held_out, size_px=size_px)
    masks = masks_of(still.labels, len(still.things))
    return TrainingScene(
        seed=seed,
        rgb=still.rgb,
        labels=still.labels.astype(np.uint8),
        names=tuple(thing.name for thing in still.things),
        nouns=tuple(thing.noun for thing in still.things),
        colours=tuple(thing.colour for thing in still.things),
        boxes_xyxy=mask_boxes_xyxy(masks),
        visible_px=mask_areas_px(masks),
    )


def save_scenes(path: Path, scenes: Sequence[TrainingScene], *, held_out: bool = False) -> None:
    """Writes one file, under another name until it is whole; `held_out` as in `draw_scene`."""
    jpegs = [_encode(".jpg", scene.rgb[..., ::-1], _JPEG_QUALITY) for scene in scenes]
    pngs = [_encode(".png", scene.labels) for scene in scenes]
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.npz")
    np.savez(
        unfinished,
        seeds=np.array([scene.seed for scene in scenes], np.int64),
        jpegs=np.concatenate(jpegs),
        jpeg_ends=np.cumsum([len(jpeg) for jpeg in jpegs]),
        pngs=np.concatenate(pngs),
        png_ends=np.cumsum([len(png) for png in pngs]),
        thing_ends=np.cumsum([len(scene.names) for scene in scenes]),
        names=np.array([name for scene in scenes for name in scene.names], np.str_),
        nouns=np.array([noun for scene in scenes for noun in scene.nouns], np.str_),
        colours=np.array([colour for scene in scenes for colour in scene.colours], np.str_),
        boxes_xyxy=np.concatenate([scene.boxes_xyxy for scene in scenes]),
        visible_px=np.concatenate([scene.visible_px for scene in scenes]),
        held_out=held_out,
    )
    unfinished.rename(path)


def render_file(first: int, *, folder: Path, num_scenes: int, held_out: bool) -> int:
    """Renders the stills of one file unless it is there; returns how many it holds.

    Raises: ConfigError if the file that is there was rendered with the other `held_out`.
    """
    path = folder / f"scenes-{first:09d}.npz"
    if not path.exists():
        seeds = range(first, first + num_scenes)
        scenes = [draw_scene(seed, held_out=held_out) for seed in seeds]
        save_scenes(path, scenes, held_out=held_out)
    with np.load(path, allow_pickle=False) as stored:
        was_held_out = bool(stored.get("held_out", held_out))  # older files do not say
    if was_held_out != held_out:
        how = "with" if was_held_out else "without"
        raise ConfigError(f"{path} was rendered {how} --held-out; remove it, or take another --out")
    return num_scenes


def check_apart(folders: Sequence[Path]) -> None:
    """Sees to it that no still is in two folders.

    Raises: ConfigError where one is, or where a folder has no stills.
    """
    seeds = [seeds_of(folder) for folder in folders]
    for one, other in itertools.combinations(range(len(folders)), 2):
        if shared := seeds[one] & seeds[other]:
            raise ConfigError(
                f"{folders[one]} and {folders[other]} share {len(shared)} stills, the first of seed"
                f" {min(shared)}; scores of what was learned from say nothing"
            )


def seeds_of(folder: Path) -> frozenset[int]:
    """The seeds of all stills of a folder."""
    return frozenset(int(seed) for path in _find_files(folder) for seed in _read_seeds(path))


def main(arguments: Sequence[str]) -> None:
    """Renders --num stills from --seed on into --out; what is there already is kept."""
    parser = argparse.ArgumentParser(prog="python -m ilv_dataset.training scenes")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num", type=int, default=24_000, help=f"rounded up to {SCENES_PER_FILE}")
    parser.add_argument("--seed", type=int, default=0, help="of the first still")
    parser.add_argument("--held-out", action="store_true", help="show the held-out names")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    firsts = range(args.seed, args.seed + args.num, SCENES_PER_FILE)
    render = partial(
        render_file, folder=args.out, num_scenes=SCENES_PER_FILE, held_out=args.held_out
    )
    num_done = 0
    total = len(firsts) * SCENES_PER_FILE
    with (
        open_pool(args.processes) as pool,
        showing_count(lambda: num_done, total, "render", unit="stills"),
    ):
        for num in pool.imap_unordered(render, firsts):
            num_done += num


def _find_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("scenes-*.npz"))
    if not files:
        raise ConfigError(f"no scenes-*.npz in {folder}; python -m ilv_dataset.training scenes")
    return files


def _read_seeds(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as stored:
        return np.asarray(stored["seeds"])


def _encode(suffix: str, pixels: np.ndarray, quality: int | None = None) -> np.ndarray:
    options = [] if quality is None else [cv2.IMWRITE_JPEG_QUALITY, quality]
    encoded: np.ndarray = cv2.imencode(suffix, np.ascontiguousarray(pixels), options)[1]
    return encoded.ravel()


def _decode(encoded: np.ndarray, flags: int) -> np.ndarray:
    decoded = cv2.imdecode(encoded, flags)
    assert decoded is not None  # save_scenes wrote it
    return np.asarray(decoded)


def _slice(stored: np.ndarray, ends: np.ndarray, row: int) -> np.ndarray:
    return stored[slice(*_bounds(ends, row))]


def _bounds(ends: np.ndarray, row: int) -> tuple[int, int]:
    return (int(ends[row - 1]) if row else 0, int(ends[row]))
