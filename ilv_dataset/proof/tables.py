"""The proof's result as a Markdown table and a picture of bars, from the files of its rollouts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from ilv_dataset.canvases import COLOURS, GREY, INK, LINE, PAPER, font
from ilv_dataset.crop_scores import Share
from ilv_dataset.errors import ConfigError
from ilv_dataset.proof.demonstrations import TESTS

TITLES = {
    "known": "(a) known objects, new scenes",
    "pairs": "(b) unseen objects, known categories",
    "nouns": "(c) unseen categories",
    "surroundings": "(d) unseen distractors, tables, light",
}
# (what the policy learned from, how it is told) -> row of the table, in its order.
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
_WH, _LEFT, _TOP, _BOTTOM = (900, 400), 50, 60, 350


@dataclass(frozen=True)
class Results:
    """What all rollouts gave: successes by (instruction, prompt, test), over all seeds."""

    shares: Mapping[tuple[str, str, str], Share]
    by_seed: Mapping[tuple[str, str, str], tuple[float, ...]]
    chance: Mapping[str, float]

    def together(self, instruction: str, prompt: str, tests: Sequence[str]) -> Share:
        """Successes of several tests together."""
        found = [self.shares[instruction, prompt, test] for test in tests]
        return Share(sum(one.count for one in found), sum(one.total for one in found))


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
    shares = {
        key: Share(sum(map(sum, found)), sum(map(len, found))) for key, found in successes.items()
    }
    by_seed = {key: tuple(sum(one) / len(one) for one in found) for key, found in successes.items()}
    return Results(shares, by_seed, chance)


def format_table(results: Results) -> str:
    """A Markdown table: success in per cent with 95 % intervals, and what chance would give."""
    tests = [test for test in TESTS if test in results.chance]
    heads = ["told by", *(TITLES[test] for test in tests), "(b) and (c)"]
    lines = [heads, ["---"] * len(heads)]
    for (instruction, prompt), title in ROWS.items():
        if all((instruction, prompt, test) in results.shares for test in tests):
            shares = [results.shares[instruction, prompt, test] for test in tests]
            shares.append(results.together(instruction, prompt, UNSEEN))
            lines.append([title, *map(format_share, shares)])
    unseen = sum(results.chance[test] for test in UNSEEN) / len(UNSEEN)
    chances = [*(results.chance[test] for test in tests), unseen]
    lines.append(["a random mover to a random target", *(f"{100 * one:.1f}" for one in chances)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def format_seeds(results: Results) -> str:
    """A Markdown table of the success of each seed, in per cent: how much trainings differ."""
    tests = [test for test in TESTS if test in results.chance]
    lines = [["told by, seed by seed", *(TITLES[test] for test in tests)]]
    lines.append(["---"] * len(lines[0]))
    for (instruction, prompt), title in ROWS.items():
        found = [results.by_seed.get((instruction, prompt, test), ()) for test in tests]
        if all(found):
            cells = [", ".join(f"{100 * one:.1f}" for one in seeds) for seeds in found]
            lines.append([title, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def format_share(share: Share) -> str:
    """A success rate with its interval, in per cent.

    >>> format_share(Share(81, 263))
    '30.8 (25.5-36.6)'
    """
    low, high = share.interval or (0.0, 0.0)
    return f"{100 * (share.value or 0.0):.1f} ({100 * low:.1f}-{100 * high:.1f})"


def draw_bars(results: Results) -> Image.Image:
    """Bars of the main rows in every test, with whiskers for the 95 % intervals."""
    picture = Image.new("RGB", _WH, PAPER)
    draw = ImageDraw.Draw(picture)
    tests = [test for test in TESTS if test in results.chance]
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
            share = results.shares.get((instruction, prompt, test))
            if share is not None:
                _draw_bar(draw, left + row * width, width, share, COLOURS[row])
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
    draw: ImageDraw.ImageDraw, left: float, width: float, share: Share, colour: str
) -> None:
    value, (low, high) = share.value or 0.0, share.interval or (0.0, 0.0)
    draw.rectangle((left, _height(value), left + 0.8 * width, _height(0)), fill=colour)
    middle = left + 0.4 * width
    draw.line((middle, _height(low), middle, _height(high)), fill=INK, width=2)
    draw.text(
        (middle, _height(high) - 4), f"{100 * value:.0f}", fill=INK, font=font(12), anchor="mb"
    )


def _height(share: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP - 10) * share
