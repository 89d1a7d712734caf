"""The detector `yoloe`: open vocabulary with masks, the prompts of each image its own queries."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ilv_dataset.boxes import drop_unfit_boxes
from ilv_dataset.models.clip_text import cached_mobile_clip
from ilv_dataset.models.open_vocabulary import distinct_texts, encode_each, hand_out, read_boxes
from ilv_dataset.models.protocols import TextEncoder
from ilv_dataset.models.runtime import (
    BatchSize,
    Placement,
    bad_weights,
    letterbox,
    pick_device,
    weights_digest,
)
from ilv_dataset.models.yolo_network import Candidates, split_output
from ilv_dataset.records import Detections, Frame, Phrase

_VERSION = "yoloe-v2"
_SIZE_PX = 640  # Source: ultralytics' default, where the file does not say
_BATCH_FRAMES = 16
# Source: ultralytics' default confidence. Not yet measured on robot images.
SCORE_MIN = 0.25
_EXPECTED = "a YOLOE checkpoint that takes texts (none that ends in -pf, none with classes set)"


class YoloeDetector:
    """Runs YOLOE once for a batch of frames, whatever their prompts."""

    needs_source_objects = False
    is_independent = True

    def __init__(
        self,
        weights: Path,
        *,
        spec: str,
        device: str | None = None,
        encode_texts: TextEncoder | None = None,
    ) -> None:
        """Loads the weights; those of its text encoder only for a text never encoded before.

        Raises: ConfigError if the weights are none of YOLOE, or its text encoder was never fetched.
        """
        digest = weights_digest(weights)
        from ilv_dataset.models.ultralytics_runtime import input_size_px, use_half

        place = pick_device(device)
        self._model = _load_model(weights, place)
        self._side_px = input_size_px(self._model, default=_SIZE_PX)
        self.has_masks = hasattr(self._model.model[-1], "proto")
        variant = getattr(self._model, "text_model", "mobileclip:blt")  # older files have none
        encoder = encode_texts or cached_mobile_clip(variant, weights)
        self._encode_texts = encoder
        self.spec = spec
        self.fingerprint = f"{_VERSION}:{digest}+{getattr(encoder, 'digest', '')}"
        self._batch = BatchSize(_BATCH_FRAMES)
        if place.type == "cuda":
            use_half(self._model)

    def learn(self, texts: Collection[str]) -> None:
        """Encodes texts into the cache on disk, where every process finds them.

        Raises: ConfigError where a text is new and the text encoder does not load.
        """
        encode_each(self._encode_texts, texts)

    def __call__(
        self, frames: Sequence[Frame], queries: Sequence[Sequence[Phrase]]
    ) -> list[Detections]:
        """Detects each frame's queries; frames without any are not looked at."""
        found = [Detections.empty() for _ in frames]
        busy = [row for row, wanted in enumerate(queries) if wanted]
        asked = [(frames[row].image, list(queries[row])) for row in busy]
        for row, detections in zip(busy, self._batch.run(self._detect, asked), strict=True):
            found[row] = detections
        return found

    def _detect(self, asked: Sequence[tuple[np.ndarray, list[Phrase]]]) -> list[Detections]:
        import torch

        from ilv_dataset.models.ultralytics_runtime import to_input

        images = [image for image, _ in asked]
        texts = [distinct_texts(wanted) for _, wanted in asked]
        batch, placements = letterbox(images, size_wh=(self._side_px, self._side_px))
        features = self._encode_padded(texts)
        with torch.inference_mode():
            output = self._model.predict(
                to_input(batch, self._model), tpe=to_input(features, self._model)
            )
        rows, prototypes = split_output(output)
        found = []
        for index, (image, wanted) in enumerate(asked):
            size_wh, num_texts = (image.shape[1], image.shape[0]), len(texts[index])
            padding = range(4 + num_texts, 4 + features.shape[1])
            candidates = self._candidates(
                np.delete(rows[index], padding, axis=0),
                None if prototypes is None else prototypes[index],
                placements[index],
                size_wh,
                num_texts=num_texts,
            )
            found.append(_select(candidates, wanted, size_wh))
        return found

    def _encode_padded(self, texts: Sequence[Sequence[str]]) -> np.ndarray:
        """(B, longest, D) float32; no text of an image changes what another finds in it."""
        encoded = [self._encode_texts(wanted) for wanted in texts]
        longest = max(map(len, encoded))
        padded = [np.pad(rows, ((0, longest - len(rows)), (0, 0))) for rows in encoded]
        return np.stack(padded).astype(np.float32)

    def _candidates(
        self,
        raw: np.ndarray,
        prototypes: np.ndarray | None,
        placement: Placement,
        size_wh: tuple[int, int],
        *,
        num_texts: int,
    ) -> Candidates:
        """The boxes of one image's texts; `classes` are the texts' numbers.

        `raw` is (4 + texts + K, anchors), boxes as centre and size, K mask coefficients.
        """
        boxes, scores, slots, anchors = read_boxes(
            raw, placement, num_texts=num_texts, size_wh=size_wh, score_min=SCORE_MIN
        )
        return Candidates(
            boxes,
            scores,
            slots,
            raw[4 + num_texts :, anchors].T,
            prototypes,
            placement,
            (self._side_px, self._side_px),
        )


def _load_model(weights: Path, place: Any) -> Any:
    """A YOLOE on its device, its layers joined, which suppresses nothing by itself."""
    from ilv_dataset.models.ultralytics_runtime import load_checkpoint

    model = load_checkpoint(weights, device=place)
    head = model.model[-1]
    if not hasattr(head, "reprta") or head.is_fused or hasattr(head, "lrpc"):
        raise bad_weights(weights, _EXPECTED)
    # YOLOE-26 has two heads; the one that answers by anchor is what its older kin have.
    head.end2end = False
    if head.end2end:
        raise bad_weights(weights, _EXPECTED)
    return model.fuse(verbose=False)


def _select(
    candidates: Candidates, queries: Sequence[Phrase], size_wh: tuple[int, int]
) -> Detections:
    """The boxes of each query of one image, with their masks where there are any."""
    indices, rows = hand_out(queries, candidates.classes)
    masks = None
    if candidates.prototypes is not None:
        masks = candidates.masks(range(len(candidates.scores)), size_wh=size_wh).take(rows)
    detections = Detections(
        boxes_xyxy=candidates.boxes_xyxy[rows],
        scores=candidates.scores[rows],
        query_indices=indices,
        masks=masks,
    )
    return drop_unfit_boxes(detections, size_wh=size_wh)
