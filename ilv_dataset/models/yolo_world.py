"""The detector `yolo-world`: open vocabulary, the prompts of each image its own queries."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ilv_dataset.boxes import drop_unfit_boxes
from ilv_dataset.models.bundled import SUFFIX
from ilv_dataset.models.clip_text import cached_clip
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
from ilv_dataset.models.word_rivals import Rivals
from ilv_dataset.models.word_sizes import keep_sizes
from ilv_dataset.models.yolo_network import split_output
from ilv_dataset.records import Detections, Frame, Phrase

_VERSION = "yolo-world-v2"
_SIZE_PX = 640  # Source: ultralytics' default, where the file does not say
_BATCH_FRAMES = 16
# Source: the paper's scripts fall from 0.3 to 0.1 for OWLv2; YOLO-World's scores are no higher.
# Not yet measured on robot images with trained weights.
SCORE_MIN = 0.2


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
        score_min: float | None = None,
    ) -> None:
        """Loads a .pt of ultralytics, or a .safetensors of ours.

        Args:
            encode_texts: None for the encoder that the weights were trained on: CLIP, whose
                weights lie in the same folder, the working folder or the models folder, or
                `word_text` for ours.
            score_min: of the boxes that are given; None for SCORE_MIN.
        """
        digest = weights_digest(weights)
        self.spec = spec
        self.fingerprint = f"{_VERSION}:{digest}"
        self._device = pick_device(device)
        self._score_min = score_min
        load = _load_own if weights.suffix == SUFFIX else _load_official
        loaded = load(weights, self._device, encode_texts)
        self._model, self._side_px, self._rivals = loaded.model, loaded.side_px, loaded.rivals
        self._encode_texts = loaded.encode_texts
        self.is_independent = not loaded.is_guided
        self._is_own = weights.suffix == SUFFIX
        # Asked of every image beside its own prompts.
        self._words = self._encode(self._rivals.words) if self._rivals else None
        if self._device.type == "cuda":
            from ilv_dataset.models.ultralytics_runtime import use_half

            use_half(self._model)
        self._batch = BatchSize(_BATCH_FRAMES)

    def learn(self, texts: Collection[str]) -> None:
        """Encodes texts into CLIP's cache on disk, where every process finds them.

        `word_text` keeps nothing on disk, and learns nothing.

        Raises: ConfigError where a text is new and the text encoder does not load.
        """
        if self._is_own:
            return
        encode_each(self._encode_texts, texts)

    def __call__(
        self, frames: Sequence[Frame], queries: Sequence[Sequence[Phrase]]
    ) -> list[Detections]:
        """Detects each frame's queries; frames without any are not looked at."""
        found = [Detections.empty() for _ in frames]
        busy = [row for row, wanted in enumerate(queries) if wanted]
        asked = [(frames[row].image, distinct_texts(queries[row])) for row in busy]
        for row, (image, texts), raw in zip(
            busy, asked, self._batch.run(self._score, asked), strict=True
        ):
            found[row] = _select(*raw, image, queries[row], texts, self._score_floor)
            if self._is_own:  # `word_text` has no feature for sizes
                found[row] = keep_sizes(found[row], queries[row])
        return found

    @property
    def _score_floor(self) -> float:
        return SCORE_MIN if self._score_min is None else self._score_min

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        """(N texts) -> (N, D) float32; an encoder keeps what it has encoded."""
        told = [self._rivals.in_own_words(text) for text in texts] if self._rivals else texts
        return np.asarray(self._encode_texts(told), np.float32)

    def _score(
        self, asked: Sequence[tuple[np.ndarray, Sequence[str]]]
    ) -> list[tuple[np.ndarray, Placement]]:
        """Raw output (4 + prompts, anchors) of each image, and where it lies in the input."""
        import torch

        from ilv_dataset.models.ultralytics_runtime import to_input

        images, prompts = [image for image, _ in asked], [texts for _, texts in asked]
        batch, placements = letterbox(images, size_wh=(self._side_px, self._side_px))
        features = pad_features([self._encode(texts) for texts in prompts])
        if self._words is not None:
            words = np.repeat(self._words[None], len(images), axis=0)
            features = np.concatenate([features, words], axis=1)
        self._model.model[-1].nc = features.shape[1]
        with torch.inference_mode():
            output = self._model.predict(
                to_input(batch, self._model), txt_feats=to_input(features, self._model)
            )
        raw, _ = split_output(output)
        return [
            (self._judge(rows, texts), placement)
            for rows, texts, placement in zip(raw, prompts, placements, strict=True)
        ]

    def _judge(self, rows: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Raw output (4 + texts, anchors) of one image: padding goes, and rivals have a say."""
        own = rows[: 4 + len(texts)]
        if self._rivals is None:
            return own
        judged = self._rivals.judge(own[4:], rows[-len(self._rivals.words) :], texts)
        return np.concatenate([own[:4], judged])


@dataclass(frozen=True, eq=False)
class _Loaded:
    model: Any
    side_px: int  # of the input
    encode_texts: TextEncoder
    rivals: Rivals | None
    is_guided: bool  # the prompts of an image change what each of them finds


def _load_official(weights: Path, device: Any, encode_texts: TextEncoder | None) -> _Loaded:
    from ilv_dataset.models.ultralytics_runtime import input_size_px, load_checkpoint

    model = load_checkpoint(weights, device=device)
    if type(model).__name__ != "WorldModel":
        raise bad_weights(weights, "a YOLO-World checkpoint")
    side_px = input_size_px(model, default=_SIZE_PX)
    return _Loaded(model, side_px, encode_texts or cached_clip(weights), None, is_guided=True)


def _load_own(weights: Path, device: Any, encode_texts: TextEncoder | None) -> _Loaded:
    from ilv_dataset.models.word_text import encode_words
    from ilv_dataset.models.world_network import load_world

    world = load_world(weights, device=device)
    return _Loaded(
        world.model,
        world.sizes.input_px,
        encode_texts or encode_words,
        world.rivals,
        is_guided=world.sizes.is_guided,
    )


def pad_features(features: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks the prompts (N, D) of each image into (B, longest, D) float32.

    A shorter list is filled with its own first prompt: the network's attention takes a maximum
    over an image's prompts, which a repeated one leaves alone and zeros would not.
    """
    longest = max(len(rows) for rows in features)
    filled = [[*rows, *[rows[0]] * (longest - len(rows))] for rows in features]
    return np.asarray(filled, np.float32)


def _select(
    raw: np.ndarray,
    placement: Placement,
    image: np.ndarray,
    queries: Sequence[Phrase],
    texts: Sequence[str],
    score_min: float,
) -> Detections:
    """The best boxes of each query of one image; queries of one text get the same ones."""
    size_wh = (image.shape[1], image.shape[0])
    boxes, scores, slots, _ = read_boxes(
        raw, placement, num_texts=len(texts), size_wh=size_wh, score_min=score_min
    )
    indices, rows = hand_out(queries, slots)
    detections = Detections(boxes[rows], scores[rows], indices)
    return drop_unfit_boxes(detections, size_wh=size_wh)
