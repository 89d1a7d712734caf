"""The detector `yolo-world`: open vocabulary, the prompts of each image its own queries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ilv_dataset.boxes import drop_unfit_boxes, round_detections
from ilv_dataset.models.clip_text import WEIGHTS_NAME, ClipTextEncoder
from ilv_dataset.models.protocols import TextEncoder
from ilv_dataset.models.runtime import (
    Placement,
    bad_weights,
    letterbox,
    pick_device,
    weights_digest,
)
from ilv_dataset.models.yolo_network import suppress
from ilv_dataset.records import Detections, Frame, Phrase

_VERSION = "yolo-world-v1"
_ADVICE = (
    "fetch yolov8x-worldv2.pt from https://github.com/ultralytics/assets/releases and name it"
    " with --detector yolo-world:PATH"
)
_SIZE_PX = 640  # Source: ultralytics' default, where the file does not say
_BATCH_FRAMES = 16
# Source: the paper's scripts fall from 0.3 to 0.1 for OWLv2; YOLO-World's scores are no higher.
# Not yet measured on robot images with trained weights.
SCORE_MIN = 0.2
_FEATURES_MAX = 20_000  # texts kept, 2 kB each
_BOXES_PER_QUERY = 5  # Source: ours; a query needs another box only where a better one is taken


class YoloWorldDetector:
    """Runs YOLO-World once for a batch of frames, whatever their prompts."""

    has_masks = False
    needs_source_objects = False

    def __init__(
        self,
        weights: Path,
        *,
        spec: str,
        device: str | None = None,
        encode_texts: TextEncoder | None = None,
    ) -> None:
        """Loads the weights, and CLIP's from the same folder if no `encode_texts` is given."""
        digest = weights_digest(weights, advice=_ADVICE)
        from ilv_dataset.models.ultralytics_runtime import input_size_px, load_checkpoint

        self.spec = spec
        self.fingerprint = f"{_VERSION}:{digest}"
        self._device = pick_device(device)
        self._model = load_checkpoint(weights, device=self._device)
        if type(self._model).__name__ != "WorldModel":
            raise bad_weights(weights, "a YOLO-World checkpoint")
        self._side_px = input_size_px(self._model, default=_SIZE_PX)
        self._encode_texts = encode_texts or ClipTextEncoder(weights.with_name(WEIGHTS_NAME))
        self._features: dict[str, np.ndarray] = {}

    def __call__(
        self, frames: Sequence[Frame], queries: Sequence[Sequence[Phrase]]
    ) -> list[Detections]:
        """Detects each frame's queries; frames without any are not looked at."""
        self._learn({phrase.query for wanted in queries for phrase in wanted})
        found = [Detections.empty() for _ in frames]
        busy = [row for row, wanted in enumerate(queries) if wanted]
        for start in range(0, len(busy), _BATCH_FRAMES):
            rows = busy[start : start + _BATCH_FRAMES]
            images = [frames[row].image for row in rows]
            prompts = [_distinct(queries[row]) for row in rows]
            for row, texts, raw in zip(rows, prompts, self._score(images, prompts), strict=True):
                found[row] = _select(*raw, frames[row].image, queries[row], texts)
        return found

    def _learn(self, texts: set[str]) -> None:
        """Encodes the texts not seen before, each by itself: no batch may change its features."""
        if len(self._features) > _FEATURES_MAX:
            self._features.clear()
        for text in sorted(texts - self._features.keys()):
            self._features[text] = np.asarray(self._encode_texts([text]), np.float32)[0]

    def _score(
        self, images: Sequence[np.ndarray], prompts: Sequence[Sequence[str]]
    ) -> list[tuple[np.ndarray, Placement]]:
        """Raw output (4 + prompts, anchors) of each image, and where it lies in the input."""
        import torch

        batch, placements = letterbox(images, size_wh=(self._side_px, self._side_px))
        features = pad_features([[self._features[text] for text in texts] for texts in prompts])
        self._model.model[-1].nc = features.shape[1]
        with torch.inference_mode():
            output = self._model.predict(
                torch.from_numpy(batch).to(self._device),
                txt_feats=torch.from_numpy(features).to(self._device),
            )
        raw = _first(output).cpu().numpy()
        return [
            (rows[: 4 + len(texts)], placement)
            for rows, texts, placement in zip(raw, prompts, placements, strict=True)
        ]


def pad_features(features: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Stacks the prompts of each image into (B, longest, D) float32.

    A shorter list is filled with its own first prompt: the network's attention takes a maximum
    over an image's prompts, which a repeated one leaves alone and zeros would not.
    """
    longest = max(len(rows) for rows in features)
    filled = [[*rows, *[rows[0]] * (longest - len(rows))] for rows in features]
    return np.asarray(filled, np.float32)


def _distinct(queries: Sequence[Phrase]) -> list[str]:
    return list(dict.fromkeys(phrase.query for phrase in queries))


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple | list) else output


def _select(
    raw: np.ndarray,
    placement: Placement,
    image: np.ndarray,
    queries: Sequence[Phrase],
    texts: Sequence[str],
) -> Detections:
    """The best boxes of each query of one image; queries of one text get the same ones."""
    size_wh = (image.shape[1], image.shape[0])
    boxes, scores, indices = [], [], []
    for index, phrase in enumerate(queries):
        slot = texts.index(phrase.query)
        kept_boxes, kept_scores = _best_boxes(raw[:4], raw[4 + slot], placement, size_wh)
        boxes.append(kept_boxes)
        scores.append(kept_scores)
        indices.append(np.full(len(kept_scores), index, np.int64))
    detections = Detections(np.concatenate(boxes), np.concatenate(scores), np.concatenate(indices))
    return drop_unfit_boxes(detections, size_wh=size_wh)


def _best_boxes(
    raw_boxes: np.ndarray, raw_scores: np.ndarray, placement: Placement, size_wh: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    columns = np.flatnonzero(raw_scores >= SCORE_MIN - 0.001)
    center, half = raw_boxes[:2, columns].T, raw_boxes[2:, columns].T / 2
    framed = placement.to_frame(np.concatenate([center - half, center + half], axis=1))
    boxes, scores, _ = round_detections(framed, raw_scores[columns], size_wh=size_wh)
    sure = scores >= SCORE_MIN
    rows = suppress(boxes[sure], scores[sure])[:_BOXES_PER_QUERY]
    return boxes[sure][rows], scores[sure][rows]
