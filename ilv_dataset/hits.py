"""Crops on their way into the rows: cut for a phrase, shown to a verifier, kept or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ilv_dataset.attempts import Attempt
from ilv_dataset.boxes import AREA_MIN_PX, box_areas_px
from ilv_dataset.clarity import is_clear, measure_clarity
from ilv_dataset.crops import CROP_SIZE_PX, crop_window, encode_jpeg, make_crop
from ilv_dataset.formats.tables import GroundedObject
from ilv_dataset.masks import encode_rle, mask_areas_px, mask_boxes_xyxy
from ilv_dataset.models import Verifier
from ilv_dataset.records import Box, Candidate, Frame, Phrase, Sighting
from ilv_dataset.searches import Crop, Search


@dataclass(frozen=True, slots=True)
class Hit:
    """A crop that was cut for a phrase, before a verifier has seen it."""

    search: Search
    phrase: Phrase
    crop: Crop
    candidate: Candidate | None  # None where there is no verifier
    point_xy: tuple[float, float] | None = None  # the key point of a repair


def as_box(edges: Sequence[float] | np.ndarray) -> Box:
    """Four numbers as a box."""
    x0, y0, x1, y1 = (float(edge) for edge in edges)
    return (x0, y0, x1, y1)


def cut_crop(
    search: Search,
    phrase: Phrase,
    frame: Frame,
    *,
    method: str,
    box_xyxy: np.ndarray | None,
    box_score: float | None,
    mask: np.ndarray | None,
    mask_score: float | None,
) -> Crop | None:
    """Cuts the crop of a mask, or of a box where there is no mask; notes why it is none.

    Args:
        box_xyxy: (4,) the detector's; None for that of the mask.
        mask: (H, W) bool.
    """
    cut_box = box_xyxy
    if mask is not None:
        area_px = int(mask_areas_px(mask[None])[0])
        if area_px < AREA_MIN_PX:
            search.note_reason(phrase, "box-too-small" if area_px else "empty-mask")
            return None
        cut_box = mask_boxes_xyxy(mask[None])[0]
    assert cut_box is not None  # a crop has a box or a mask
    x0, _, x1, _ = crop_window(cut_box)
    grounded = GroundedObject(
        phrase.phrase,
        phrase.start,
        phrase.end,
        phrase.query,
        phrase.kind,
        grounded=True,
        camera=frame.camera,
        frame_index=frame.frame_index,
        box_xyxy=as_box(cut_box if box_xyxy is None else box_xyxy),
        box_score=box_score,
        mask_rle=None if mask is None else encode_rle(mask),
        mask_score=mask_score,
        scale=CROP_SIZE_PX / (x1 - x0),
        method=method,
        source="episode",
    )
    box, size_wh = as_box(cut_box), (frame.image.shape[1], frame.image.shape[0])
    score = next((score for score in (box_score, mask_score) if score is not None), 1.0)
    return Crop(
        encode_jpeg(make_crop(frame.image, cut_box)),
        grounded,
        clarity=measure_clarity(
            box,
            size_wh=size_wh,
            area_px=float(box_areas_px(cut_box[None])[0]) if mask is None else float(area_px),
            score=score,
        ),
        is_clear=is_clear(box, size_wh=size_wh, score=score),
    )


def make_candidate(
    search: Search,
    phrase: Phrase,
    frame: Frame,
    crop: Crop,
    *,
    mask: np.ndarray | None,
    rival_score: float = 0.0,
    is_given: bool = False,
) -> Candidate:
    """What a verifier is shown of a crop."""
    found = crop.grounded
    assert found.box_xyxy is not None  # cut_crop gives every crop a box
    sighting = Sighting(
        camera=frame.camera,
        frame_index=frame.frame_index,
        size_wh=(frame.image.shape[1], frame.image.shape[0]),
        box_xyxy=as_box(found.box_xyxy),
        box_score=found.box_score,
        rival_score=rival_score,
        mask_box_xyxy=None if mask is None else as_box(mask_boxes_xyxy(mask[None])[0]),
        mask_area_px=None if mask is None else int(mask.sum()),
        mask_score=found.mask_score,
        color_rgb=_mean_color(frame.image, found.box_xyxy, mask),
    )
    earlier = tuple(search.sightings.get(phrase.query, ()))
    return Candidate(crop.jpeg, phrase.phrase, sighting, earlier, is_given)


def settle_hits(hits: Sequence[Hit], verifier: Verifier | None) -> None:
    """Gives phrases their crops: the clearest of those that the verifier, if any, accepts."""
    if verifier is None:
        for hit in hits:
            hit.search.keep(hit.phrase.query, hit.crop)
        return
    shown = [(hit, hit.candidate) for hit in hits if hit.candidate is not None]
    verdicts = verifier([candidate for _, candidate in shown]) if shown else []
    for (hit, candidate), verdict in zip(shown, verdicts, strict=True):
        search, query, found = hit.search, hit.phrase.query, candidate.sighting
        method = str(hit.crop.grounded.method)
        search.attempts.setdefault(query, []).append(
            Attempt(
                method, found.camera, found.frame_index, verdict.value, verdict.reason,
                hit.point_xy,
            )
        )  # fmt: skip
        if verdict.value != "match":
            search.sightings.setdefault(query, []).append(found)
        else:
            search.keep(query, hit.crop)


def _mean_color(
    image: np.ndarray, box_xyxy: Sequence[float], mask: np.ndarray | None
) -> tuple[float, float, float]:
    """Mean of the mask's pixels, or of the box's, to 0.1."""
    if mask is not None:
        pixels = image[mask]
    else:
        x0, y0 = np.floor(box_xyxy[:2]).astype(int)
        x1, y1 = np.ceil(box_xyxy[2:]).astype(int)
        pixels = image[y0:y1, x0:x1].reshape(-1, 3)
    red, green, blue = np.round(pixels.mean(axis=0, dtype=np.float64), 1)
    return (float(red), float(green), float(blue))
