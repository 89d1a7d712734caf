"""Spans as pictures: one with everything that is known of it, or many as a contact sheet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PIL import Image

from ilv_dataset.attempts import decode_attempts
from ilv_dataset.canvases import (
    COLOURS,
    GREY,
    INK,
    Item,
    Mark,
    Picture,
    Word,
    beside,
    clean,
    draw_flow,
    draw_frame,
    rule,
    stack,
    words,
)
from ilv_dataset.crops import decode_image
from ilv_dataset.errors import RecordError
from ilv_dataset.fields import IMAGE_PLACEHOLDER
from ilv_dataset.formats.tables import EpisodeRow, GroundedObject
from ilv_dataset.masks import decode_rle
from ilv_dataset.span_frames import Frames, describe_steps

WIDTH, MARGIN = 1180, 40
_GAP = 24
_FRAME_WH = (578, 578)
_THUMBNAIL_WH = (170, 170)
_CAPTION_MAX = 24  # characters


def draw_span(
    row: EpisodeRow, frames: Frames, *, frames_from: str, config: Mapping[str, Any]
) -> Image.Image:
    """Everything of one span: the instruction with its pictures, frames, objects, provenance.

    Args:
        frames_from: where the frames are from, or why there are none.
        config: the options of the run.
    """
    colours = object_colours(row.objects)
    place = f"span {row.span}, {describe_steps(row)}"
    title = [*words(row.episode_id, 24), *words(f" {row.status} {row.reason}", 24, GREY)]
    parts = [
        draw_flow(title, WIDTH),
        draw_flow(words(f"{row.dataset}, {row.split}, {place}", 16, GREY), WIDTH),
        rule(WIDTH),
        draw_flow(interleaved_items(row, colours, size=34, picture_size=150), WIDTH),
        draw_flow(original_items(row, colours, size=24), WIDTH),
        rule(WIDTH),
    ]
    panels = [_frame_panel(row, frames, camera, step, colours) for camera, step in sorted(frames)]
    if not panels:
        parts.append(draw_flow(words(f"no frame: {frames_from}", 16, GREY), WIDTH))
    facts_width = WIDTH - _FRAME_WH[0] - _GAP
    facts = [_draw_facts(found, colours, facts_width) for found in row.objects]
    if len(panels) == 1 and facts:  # beside the frame, for there is room
        facts = [stack(facts, gap=_GAP)]
    parts += [beside([*panels, *facts], gap=_GAP, width=WIDTH)] if panels or facts else []
    if row.message:
        parts.append(draw_flow(words(row.message, 16, GREY), WIDTH))
    names = ("--extractor", "--detector", "--segmenter", "--verifier", "ilv_dataset")
    options = ", ".join(f"{name} {config[name]}" for name in names if name in config)
    parts += [rule(WIDTH), draw_flow(words(options, 14, GREY), WIDTH)]
    return stack(parts, gap=16, margin=MARGIN)


def draw_sheet(spans: Iterable[tuple[EpisodeRow, Frames]]) -> Image.Image:
    """Spans below each other: a frame, the interleaved instruction, and where it is from."""
    parts: list[Image.Image] = []
    for row, frames in spans:
        colours = object_colours(row.objects)
        width = WIDTH - _THUMBNAIL_WH[0] - 30
        text = stack(
            [
                draw_flow(interleaved_items(row, colours, size=24, picture_size=88), width),
                draw_flow(original_items(row, colours, size=16), width),
                draw_flow(words(row.span_id, 13, GREY), width),
            ],
            gap=4,
        )
        thumbnail = Image.new("RGB", _THUMBNAIL_WH, "#f3f4f6")
        for camera, step in sorted(frames)[:1]:
            marks = _marks(row, camera, step, colours)
            thumbnail = draw_frame(frames[camera, step], marks, _THUMBNAIL_WH)
        column = Image.new("RGB", (_THUMBNAIL_WH[0], thumbnail.height), "white")
        column.paste(thumbnail, (0, 0))
        parts += [beside([column, text], gap=30, width=WIDTH), rule(WIDTH)]
    return stack(parts[:-1], gap=18, margin=MARGIN)


def object_colours(objects: Sequence[GroundedObject]) -> dict[int, str]:
    """A colour for each object that has a picture, by where its phrase begins."""
    grounded = [found.start for found in objects if found.grounded]
    return {start: COLOURS[number % len(COLOURS)] for number, start in enumerate(grounded)}


def interleaved_items(
    row: EpisodeRow, colours: Mapping[int, str], *, size: int, picture_size: int
) -> list[Item]:
    """The interleaved instruction in reading order, with its pictures inside."""
    grounded = [found for found in row.objects if found.grounded]
    items: list[Item] = []
    texts = (row.interleaved or row.instruction).split(IMAGE_PLACEHOLDER)
    for number, text in enumerate(texts):
        items += words(text, size)
        if number < len(row.images) and number < len(texts) - 1:
            found = grounded[number] if number < len(grounded) else None
            caption = _shorten(found.phrase) if found else ""
            colour = colours.get(found.start, INK) if found else INK
            items.append(Picture(_decode(row.images[number]), caption, colour, picture_size))
    return items or words(f"({empty_text(row)})", size, GREY)


def empty_text(row: EpisodeRow) -> str:
    """What stands for the instruction of a span that has none."""
    return "empty instruction" if row.step_end else describe_steps(row)


def original_items(row: EpisodeRow, colours: Mapping[int, str], *, size: int) -> list[Item]:
    """The instruction as it was, with the phrases marked: in colour where they have a picture."""
    items: list[Item] = []
    position = 0
    for found in row.objects:
        if row.instruction[found.start : found.end] != found.phrase or found.start < position:
            continue  # the phrases index a summary of the instruction
        items += words(row.instruction[position : found.start], size, GREY)
        colour = colours.get(found.start, GREY)
        is_glued = not row.instruction[found.start - 1 : found.start].isspace()
        items.append(Word(clean(found.phrase), size, colour, is_marked=True, is_glued=is_glued))
        position = found.end
    return [*items, *words(row.instruction[position:], size, GREY)]


def mask_of(found: GroundedObject) -> Any:
    """The (H, W) bool mask of an object; None where it has none, or one that does not decode."""
    if found.mask_rle is None:
        return None
    try:
        return decode_rle(found.mask_rle)
    except ValueError:
        return None


def object_facts(found: GroundedObject) -> list[str]:
    """What is known of one object, in pieces of a few words."""
    asked = f"asked as {found.query!r}" if found.query != found.phrase else ""
    if not found.grounded:
        facts = (found.kind, asked, f"stays text: {found.reason}", *_tried(found))
        return [fact for fact in facts if fact]
    mask = mask_of(found)
    box = ", ".join(f"{edge:.1f}" for edge in found.box_xyxy or ())
    return [
        found.kind,
        *([asked] if asked else []),
        f"{found.camera}, step {found.frame_index}",
        f"box {box}, score {found.box_score or 0:.3f}",
        f"mask {int(mask.sum()):,} px" if mask is not None else "no mask",
        *([f"mask score {found.mask_score:.3f}"] if found.mask_score is not None else []),
        f"scale {found.scale or 0:.2f}",
        f"method {found.method}, source {found.source}",
        f"verdict {found.verdict}, verifier {found.verifier}",
        *_tried(found),
    ]


def _tried(found: GroundedObject) -> list[str]:
    """What the verifier said of each crop; nothing where it was not asked, or is not readable."""
    try:
        attempts = decode_attempts(found.verdicts or "[]")
    except ValueError:
        return []
    return [f"{a.method}, step {a.frame_index}: {a.verdict}, {a.reason}" for a in attempts]


def _draw_facts(found: GroundedObject, colours: Mapping[int, str], width: int) -> Image.Image:
    """The name of an object with what is known of it below."""
    colour = colours.get(found.start, GREY)
    lines = [draw_flow(words(found.phrase, 22, colour), width)]
    lines += [draw_flow(words(fact, 16, GREY), width) for fact in object_facts(found)]
    return stack(lines, gap=0)


def _frame_panel(
    row: EpisodeRow, frames: Frames, camera: str, step: int, colours: Mapping[int, str]
) -> Image.Image:
    image = frames[camera, step]
    height, width = image.shape[:2]
    picture = draw_frame(image, _marks(row, camera, step, colours), _FRAME_WH)
    caption = f"{camera}, step {step}, {width} x {height}"
    return stack([picture, draw_flow(words(caption, 16, GREY), picture.width)], gap=4)


def _marks(row: EpisodeRow, camera: str, step: int, colours: Mapping[int, str]) -> list[Mark]:
    return [
        Mark(
            found.box_xyxy,
            mask_of(found),
            f"{_shorten(found.phrase)} {found.box_score or 0:.2f}",
            colours.get(found.start, INK),
        )
        for found in row.objects
        if (found.camera, found.frame_index) == (camera, step) and found.box_xyxy is not None
    ]


def _shorten(text: str) -> str:
    text = clean(text)
    return text if len(text) <= _CAPTION_MAX else f"{text[: _CAPTION_MAX - 1]}…"


def _decode(jpeg: bytes) -> Image.Image | None:
    try:
        return Image.fromarray(decode_image(jpeg))
    except RecordError:
        return None
