"""Pieces of a picture: flowing text with pictures inside, frames with boxes and masks, stacks.

Knows sizes, fonts and colours; what is shown is up to `pictures`. Pillow's own font is used, so
no system font is needed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

PAPER, INK, GREY, LINE = "#ffffff", "#1c1f24", "#6b7280", "#e5e7eb"
# Told apart by people with any colour vision, and dark enough for text on white.
COLOURS = ("#be185d", "#0369a1", "#15803d", "#c2410c", "#7e22ce", "#854d0e")
HEIGHT_MAX = 20_000  # pixels; a picture of more is of no use to a viewer
_BORDER = 4
_LABELLED = 240  # pixels; a narrower frame shows boxes alone
_WORD_MAX = 60  # characters
_TEXT_MAX = 50_000  # characters; more fills a picture of HEIGHT_MAX


@dataclass(frozen=True)
class Word:
    """A piece of text that is not broken over lines."""

    text: str
    size: int
    colour: str = INK
    is_marked: bool = False  # underlined in its colour
    is_glued: bool = False  # to what is before it, without a space


@dataclass(frozen=True, eq=False)
class Picture:
    """A square picture in a line of text, framed in its colour, with a caption below."""

    image: Image.Image | None  # None is drawn as an empty square
    caption: str
    colour: str
    size: int


@dataclass(frozen=True, eq=False)
class Mark:
    """A box and a mask in a frame."""

    box_xyxy: Sequence[float]  # pixels of the frame
    mask: np.ndarray | None  # (H, W) bool
    label: str
    colour: str


Item = Word | Picture
_ENDS = frozenset(".,;:!?")


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's built-in font."""
    return ImageFont.load_default(size)


def text_width(text: str, size: int) -> int:
    """Width of a line of text in pixels."""
    return round(font(size).getlength(text))


def draw_flow(items: Sequence[Item], width: int) -> Image.Image:
    """Sets items in lines of at most `width` pixels, in reading order."""
    lines: list[list[tuple[int, Item]]] = [[]]  # (x, item)
    x = 0
    for item in items:
        gap = _gap(lines[-1][-1][1], item) if lines[-1] else 0
        if lines[-1] and x + gap + _item_width(item) > width:
            lines.append([])
            x = gap = 0
        lines[-1].append((x + gap, item))
        x += gap + _item_width(item)
    heights = [max((_item_height(item) for _, item in line), default=0) for line in lines]
    canvas = Image.new("RGB", (width, max(1, sum(heights))), PAPER)
    draw = ImageDraw.Draw(canvas)
    top = 0
    for line, height in zip(lines, heights, strict=True):
        for x, item in line:
            _draw_item(canvas, draw, item, x, top + (height - _item_height(item)) // 2)
        top += height
    return canvas


def words(text: str, size: int, colour: str = INK) -> list[Item]:
    """The words of a text; a word too long for any line is cut into pieces."""
    text = clean(text[:_TEXT_MAX])
    return [
        Word(
            word[start : start + _WORD_MAX],
            size,
            colour,
            is_glued=start > 0 or (number == 0 and not text[0].isspace()),
        )
        for number, word in enumerate(text.split())
        for start in range(0, len(word), _WORD_MAX)
    ]


def draw_frame(image: np.ndarray, marks: Sequence[Mark], size_wh: tuple[int, int]) -> Image.Image:
    """A frame (H, W, 3) uint8 RGB, scaled to fit into `size_wh`, with boxes, masks and labels."""
    height, width = image.shape[:2]
    scale = min(size_wh[0] / width, size_wh[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    is_large = size[0] >= _LABELLED
    for mark in marks if is_large else ():
        if mark.mask is not None and mark.mask.shape == (height, width):
            _draw_contour(canvas, mark.mask, mark.colour)
    draw = ImageDraw.Draw(canvas)
    for mark in marks:
        edges = [edge * scale for edge in mark.box_xyxy]
        draw.rectangle(_ordered(edges), outline=mark.colour, width=2)
    for mark in marks if is_large else ():
        _draw_label(draw, mark, scale, size)
    return canvas


def stack(parts: Sequence[Image.Image], *, gap: int, margin: int = 0) -> Image.Image:
    """Parts below each other on white, cut off at HEIGHT_MAX."""
    width = max((part.width for part in parts), default=1) + 2 * margin
    height = sum(part.height for part in parts) + gap * max(0, len(parts) - 1) + 2 * margin
    canvas = Image.new("RGB", (width, min(height, HEIGHT_MAX)), PAPER)
    top = margin
    for part in parts:
        canvas.paste(part, (margin, top))
        top += part.height + gap
    return canvas


def beside(parts: Sequence[Image.Image], *, gap: int, width: int) -> Image.Image:
    """Parts next to each other, in as many rows as `width` needs."""
    rows: list[list[Image.Image]] = [[]]
    for part in parts:
        taken = sum(other.width + gap for other in rows[-1])
        if rows[-1] and taken + part.width > width:
            rows.append([])
        rows[-1].append(part)
    return stack([_row(row, gap) for row in rows if row], gap=gap)


def rule(width: int) -> Image.Image:
    """A thin line."""
    return Image.new("RGB", (width, 1), LINE)


def clean(text: str) -> str:
    """Text of a dataset without line breaks and control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def _row(parts: Sequence[Image.Image], gap: int) -> Image.Image:
    width = sum(part.width for part in parts) + gap * (len(parts) - 1)
    canvas = Image.new("RGB", (width, max(part.height for part in parts)), PAPER)
    x = 0
    for part in parts:
        canvas.paste(part, (x, 0))
        x += part.width + gap
    return canvas


def _gap(before: Item, item: Item) -> int:
    if isinstance(before, Picture) or isinstance(item, Picture):
        return 0 if isinstance(item, Word) and item.text in _ENDS else 12
    return 0 if item.is_glued else text_width(" ", item.size)


def _caption_size(picture: Picture) -> int:
    return 16 if picture.size >= 100 else 13


def _item_width(item: Item) -> int:
    if isinstance(item, Word):
        return text_width(item.text, item.size)
    return max(item.size + 2 * _BORDER, text_width(item.caption, _caption_size(item)))


def _item_height(item: Item) -> int:
    if isinstance(item, Word):
        return round(item.size * 1.5)
    return item.size + 2 * _BORDER + 2 * _caption_size(item) + 8


def _draw_item(canvas: Image.Image, draw: ImageDraw.ImageDraw, item: Item, x: int, y: int) -> None:
    width = _item_width(item)
    if isinstance(item, Word):
        draw.text((x, y + round(item.size * 0.15)), item.text, item.colour, font(item.size))
        if item.is_marked:
            line = y + item.size * 1.35
            draw.line((x, line, x + width, line), item.colour, 2)
        return
    caption = _caption_size(item)
    left = x + (width - item.size - 2 * _BORDER) // 2
    top = y + caption  # as much above as the caption takes below: the words stay in the middle
    side = item.size + 2 * _BORDER
    draw.rectangle((left, top, left + side - 1, top + side - 1), outline=item.colour, width=_BORDER)
    if item.image is not None:
        shown = item.image.resize((item.size, item.size), Image.Resampling.LANCZOS)
        canvas.paste(shown, (left + _BORDER, top + _BORDER))
    middle = x + width / 2
    draw.text((middle, top + side + 3), item.caption, item.colour, font(caption), anchor="ma")


def _draw_contour(canvas: Image.Image, mask: np.ndarray, colour: str) -> None:
    """Draws the edge of a mask (H, W) of the frame, two pixels of the canvas wide."""
    large = Image.fromarray(mask).resize(canvas.size, Image.Resampling.NEAREST).convert("L")
    inside = large.filter(ImageFilter.MinFilter(5))
    canvas.paste(colour, mask=ImageChops.subtract(large, inside))


def _draw_label(
    draw: ImageDraw.ImageDraw, mark: Mark, scale: float, canvas_wh: tuple[int, int]
) -> None:
    size = 16
    width, height = text_width(mark.label, size) + 8, size + 6
    x0, y0, _, y1 = (edge * scale for edge in mark.box_xyxy)
    x = max(0, min(x0, canvas_wh[0] - width))
    y = y0 - height if y0 >= height else min(y1, canvas_wh[1] - height)
    draw.rectangle((x, y, x + width, y + height), fill=mark.colour)
    draw.text((x + 4, y + 1), mark.label, PAPER, font(size))


def _ordered(edges: Sequence[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = edges
    return (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
