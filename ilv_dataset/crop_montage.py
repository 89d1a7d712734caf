"""A picture of the worst crops: frames with the true box and the crop's, the crop, the phrase."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ilv_dataset.canvases import (
    COLOURS,
    GREY,
    INK,
    Mark,
    Picture,
    beside,
    clean,
    draw_flow,
    draw_frame,
    stack,
    words,
)
from ilv_dataset.crop_evaluation import Case
from ilv_dataset.crops import decode_image, make_crop
from ilv_dataset.fields import CROP_OUTCOMES
from ilv_dataset.records import SourceObjects

WIDTH = 1180
_GAP, _MARGIN = 28, 40
_FRAME_WH = (340, 300)
_CROP_PX = 150
_TILE_WIDTH = (WIDTH - _GAP) // 2
_LABEL_MAX = 22  # characters
_TRUE, _CROPPED, _OTHER = COLOURS[2], COLOURS[0], COLOURS[1]  # green, red, blue


def draw_montage(cases: Sequence[Case], *, title: str) -> Image.Image:
    """The worst cases, worst first, two in a row.

    Green is the named object's box, red the crop's, blue that of another object that the crop
    fits better. Of a miss the picture beside is what should have been cut out.
    """
    counts = {name: sum(case.found.outcome == name for case in cases) for name in CROP_OUTCOMES}
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    legend = [
        *words("green: the named object", 16, _TRUE),
        *words("   red: the crop", 16, _CROPPED),
        *words("   blue: another object that the crop fits", 16, _OTHER),
    ]
    tiles = [_draw_tile(case) for case in cases]
    parts = [
        draw_flow(words(title, 20), WIDTH),
        draw_flow(
            words(f"the worst: {said or 'none, every answer is as it should be'}", 16), WIDTH
        ),
        draw_flow(legend, WIDTH),
        beside(tiles, gap=_GAP, width=WIDTH),
    ]
    return stack(parts, gap=14, margin=_MARGIN)


def _draw_tile(case: Case) -> Image.Image:
    found = case.found
    image = case.load_frame()
    frame = draw_frame(image, _marks(case), _FRAME_WH)
    colour = _TRUE if found.outcome == "missed" else _CROPPED
    side = _TILE_WIDTH - _FRAME_WH[0] - _GAP // 2
    if case.jpeg is not None:
        caption, picture = "the crop", Image.fromarray(decode_image(case.jpeg))
    else:
        box = case.truth.boxes_xyxy[_named_row(case)]
        caption, picture = "should have been", Image.fromarray(make_crop(image, box))
    facts = [
        draw_flow(words(_shorten(found.phrase), 20, INK), side),
        draw_flow([Picture(picture, caption, colour, _CROP_PX)], side),
        *(draw_flow(words(fact, 14, GREY), side) for fact in _facts(case)),
    ]
    place = draw_flow(words(found.place, 13, GREY), _TILE_WIDTH)  # as wide as the tile
    return stack([place, beside([frame, stack(facts, gap=0)], gap=14, width=_TILE_WIDTH)], gap=4)


def _facts(case: Case) -> list[str]:
    found = case.found
    facts = [found.outcome + (f": {found.reason}" if found.reason else "")]
    if found.score is not None:
        facts.append(f"score {found.score:.2f}, {found.method}")
    if found.outcome == "wrong":
        facts.append(f"IoU {found.iou:.2f} with its object")
    if found.has_crop:
        shown = (
            f"{_shorten(found.shown)}, IoU {found.shown_iou:.2f}" if found.shown else "no object"
        )
        facts.append(f"fits {shown}")
    return facts


def _marks(case: Case) -> list[Mark]:
    truth, found = case.truth, case.found
    marks = [_mark(truth, row, _TRUE) for row in case.named]
    if found.has_crop and found.shown:
        shown = [row for row, name in enumerate(truth.names) if name == found.shown]
        marks += [_mark(truth, row, _OTHER) for row in shown if row not in case.named]
    if case.box_xyxy is not None:
        score = "" if found.score is None else f" {found.score:.2f}"
        marks.append(Mark(case.box_xyxy, None, f"crop{score}", _CROPPED))
    return marks


def _mark(truth: SourceObjects, row: int, colour: str) -> Mark:
    x0, y0, x1, y1 = map(float, truth.boxes_xyxy[row])
    mask = None if truth.masks is None else truth.masks[row]
    return Mark((x0, y0, x1, y1), mask, _shorten(truth.names[row]), colour)


def _named_row(case: Case) -> int:
    """The largest of the objects that a missed phrase may mean."""
    boxes = case.truth.boxes_xyxy
    areas = {
        row: (boxes[row, 2] - boxes[row, 0]) * (boxes[row, 3] - boxes[row, 1]) for row in case.named
    }
    return max(areas, key=lambda row: areas[row])


def _shorten(text: str) -> str:
    text = clean(text)
    return text if len(text) <= _LABEL_MAX else f"{text[: _LABEL_MAX - 1]}…"
