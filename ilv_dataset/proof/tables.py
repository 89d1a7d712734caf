"""The proof's result as a Markdown table and a picture of bars, from the files of its rollouts."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from ilv_dataset.canvases import COLOURS, GREY, INK, LINE, PAPER, font
from ilv_dataset.crop_scores import wilson_interval
from ilv_dataset.errors import ConfigError
from ilv_dataset.fields import PROOF_TESTS

TITLES = {
    "known": "(a) known objects, new scenes",
    "pairs": "(b) unseen objects, known categories",
    "nouns": "(c) unseen categories",
    "surroundings": "(d) unseen distractors, tables, light",
}
# (what the policy learned from, how it is told) -> row of the table, in its order; what is not
# here is not rolled out.
ROWS = {
    ("text", "text"): "text",
    ("text", "colours"): "text, the colours said",
    ("interleaved", "own"): "interleaved, the scene's own crops",
    ("interleaved", "bank"): "interleaved, crops from other scenes",
    ("interleaved", "outside"): "interleaved, clean renders",
    ("interleaved", "sketch"): "interleaved, sketches",
    ("interleaved", "images"): "interleaved, pictures without words",
    ("interleaved", "text"): "interleaved, told by text",
}
BARS = (("text", "text"), ("interleaved", "own"), ("interleaved", "bank"), ("interleaved", "text"))
UNSEEN = ("pairs", "nouns")  # (b) and (c) together
_Z95 = 1.96  # of the normal distribution, two-sided 95 %
_WH, _LEFT, _TOP, _BOTTOM = (900, 400), 50, 60, 350


@dataclass(frozen=True)
class Results:
    """What all rollouts gave, by (instruction, prompt, test).

    `scenes` has the success of each scene, 0..1: the mean over the seeds, which all saw it.
    """

    scenes: Mapping[tuple[str, str, str], tuple[float, ...]]
    by_seed: Mapping[tuple[str, str, str], tuple[float, ...]]
    chance: Mapping[str, float]

    def together(self, instruction: str, prompt: str, tests: Sequence[str]) -> tuple[float, ...]:
        """The scenes of several tests together."""
        return tuple(one for test in tests for one in self.scenes[instruction, prompt, test])


def read_results(folder: Path) -> Results:
    """Reads the files that the rollouts left.

    Raises: ConfigError where there are none.
    """
    successes: dict[tuple[str, str, str], list[list[bool]]] = {}
    chance = {}
    for path in sorted(folder.glob("*.json")):
        instruction, _, test, prompt = path.stem.split("-")
        content = json.loads(path.read_text())
        successes.setdefault((instruction, prompt, test), []).append(content["successes"])
        chance[test] = content["chance"]
    if not successes:
        raise ConfigError(f"{folder} holds no rollouts")
    scenes = {
        key: tuple(sum(seen) / len(seen) for seen in zip(*found, strict=True))
        for key, found in successes.items()
    }
    by_seed = {key: tuple(sum(one) / len(one) for one in found) for key, found in successes.items()}
    return Results(scenes, by_seed, chance)


def format_table(results: Results) -> str:
    """A Markdown table: success in per cent with 95 % intervals, and what chance would give."""
    tests = [test for test in PROOF_TESTS if test in results.chance]
    heads = ["told by", *(TITLES[test] for test in tests), "(b) and (c)"]
    lines = [heads, ["---"] * len(heads)]
    for (instruction, prompt), title in ROWS.items():
        if all((instruction, prompt, test) in results.scenes for test in tests):
            columns = [results.scenes[instruction, prompt, test] for test in tests]
            columns.append(results.together(instruction, prompt, UNSEEN))
            lines.append([title, *map(format_success, columns)])
    unseen = sum(results.chance[test] for test in UNSEEN) / len(UNSEEN)
    chances = [*(results.chance[test] for test in tests), unseen]
    lines.append(["a random mover to a random target", *(f"{100 * one:.1f}" for one in chances)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def format_seeds(results: Results) -> str:
    """A Markdown table of the success of each seed, in per cent: how much trainings differ."""
    tests = [test for test in PROOF_TESTS if test in results.chance]
    lines = [["told by, seed by seed", *(TITLES[test] for test in tests)]]
    lines.append(["---"] * len(lines[0]))
    for (instruction, prompt), title in ROWS.items():
        found = [results.by_seed.get((instruction, prompt, test), ()) for test in tests]
        if all(found):
            cells = [", ".join(f"{100 * one:.1f}" for one in seeds) for seeds in found]
            lines.append([title, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def success_interval(scenes: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean success in N scenes, within 0..1.

    Rollouts of several policies in one scene are alike, so the scenes are what was drawn: the
    interval is the normal one, mean +- 1.96 sd / sqrt(N). Where all scenes are equal, nothing
    tells how they vary, and it is Wilson's of N trials.

    Args:
        scenes: success of each scene, 0..1; at least one.

    Source: Cochran, Sampling Techniques (1977), chapter 9: of clusters of equal size the means
    are the sample.
    """
    mean, count = statistics.fmean(scenes), len(scenes)
    if len(set(scenes)) == 1:
        return wilson_interval(round(mean * count), count)
    reach = _Z95 * statistics.stdev(scenes) / math.sqrt(count)
    return max(0.0, mean - reach), min(1.0, mean + reach)


def format_success(scenes: Sequence[float]) -> str:
    """The mean success of scenes with its interval, in per cent.

    >>> format_success([0.0, 0.5, 0.5, 1.0])
    '50.0 (10.0-90.0)'
    """
    low, high = success_interval(scenes)
    return f"{100 * statistics.fmean(scenes):.1f} ({100 * low:.1f}-{100 * high:.1f})"


def draw_bars(results: Results) -> Image.Image:
    """Bars of the main rows in every test, with whiskers for the 95 % intervals."""
    picture = Image.new("RGB", _WH, PAPER)
    draw = ImageDraw.Draw(picture)
    tests = [test for test in PROOF_TESTS if test in results.chance]
    right = _WH[0] - 20
    for percent in range(0, 101, 20):
        y = _height(percent / 100)
        draw.line((_LEFT, y, right, y), fill=LINE)
        draw.text((_LEFT - 8, y), str(percent), fill=GREY, font=font(12), anchor="rm")
    group = (right - _LEFT) / len(tests)
    width = group / (len(BARS) + 1)
    for column, test in enumerate(tests):
        left = _LEFT + column * group + width / 2
        for row, (instruction, prompt) in enumerate(BARS):
            scenes = results.scenes.get((instruction, prompt, test))
            if scenes is not None:
                _draw_bar(draw, left + row * width, width, scenes, COLOURS[row])
        y = _height(results.chance[test])
        draw.line((left - width / 4, y, left + (len(BARS) + 0.25) * width, y), fill=INK, width=1)
        title = TITLES[test].replace(", ", ",\n", 1)
        middle = left + len(BARS) * width / 2
        draw.text(
            (middle, _BOTTOM + 8), title, fill=INK, font=font(12), anchor="ma", align="center"
        )
    for row, key in enumerate(BARS):
        x = _LEFT + row * 215
        draw.rectangle((x, 16, x + 12, 28), fill=COLOURS[row])
        draw.text((x + 18, 22), ROWS[key], fill=INK, font=font(11), anchor="lm")
    draw.text((_LEFT, 42), "success, %; the line across: chance", fill=GREY, font=font(12))
    return picture


def _draw_bar(
    draw: ImageDraw.ImageDraw, left: float, width: float, scenes: Sequence[float], colour: str
) -> None:
    value, (low, high) = statistics.fmean(scenes), success_interval(scenes)
    draw.rectangle((left, _height(value), left + 0.8 * width, _height(0)), fill=colour)
    middle = left + 0.4 * width
    draw.line((middle, _height(low), middle, _height(high)), fill=INK, width=2)
    draw.text(
        (middle, _height(high) - 4), f"{100 * value:.0f}", fill=INK, font=font(12), anchor="mb"
    )


def _height(share: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP - 10) * share
