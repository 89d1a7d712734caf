"""The detector `sam3`: phrases in, boxes and masks out, by one network; ultralytics' port of it."""

from __future__ import annotations

import contextlib
import sys
import types
import zipfile
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ilv_dataset.boxes import are_too_large, drop_unfit_boxes, round_detections
from ilv_dataset.errors import ConfigError
from ilv_dataset.masks import NO_MASK, FrameMasks, MaskWindow, cut_logits, mask_boxes_xyxy
from ilv_dataset.models.clip_text import check_open_clip
from ilv_dataset.models.open_vocabulary import best_of_texts, distinct_texts, hand_out
from ilv_dataset.models.runtime import (
    LOAD_ERRORS,
    BatchSize,
    bad_weights,
    pick_device,
    to_rgb,
    weights_digest,
)
from ilv_dataset.records import Detections, Frame, Phrase

_VERSION = "sam3-v2"
_ADVICE = "`ilv models fetch sam3.pt` says how to get them"
_SIDE_PX = 1008  # Source: what it was trained with; frames are stretched to the square
SCORE_MIN = 0.5  # Source: facebookresearch/sam3, Sam3Processor's confidence_threshold
_BATCH_FRAMES = 4  # of the image encoder, which has 5,184 tokens a frame
_BATCH_TEXTS = 16  # Source: SAM3SemanticModel.max_text_batch
_TEXTS_MAX = 2_000  # kept in memory, 32 kB each
# What text prompts do not use, so that a checkpoint may lack it: the prompts by box, the neck
# of the video tracker, and a level of the pyramid that is dropped.
_UNUSED = (
    "geometry_encoder.",
    "backbone.vision_backbone.sam2_convs.",
    "backbone.vision_backbone.convs.3.",
)


class Sam3Detector:
    """Encodes a frame once, each text once, and looks for an image's texts together."""

    has_masks = True
    needs_source_objects = False
    is_independent = True

    def __init__(self, weights: Path, *, spec: str, device: str | None = None) -> None:
        """Loads the weights, text encoder included.

        Raises: ConfigError if open_clip, whose tokens it reads, is not installed; or if the file
            is missing or another thing, or `spec` ends in a colon.
        """
        if spec.endswith(":"):
            raise ConfigError(f"{spec!r} names no weights; leave out the colon for the default")
        check_open_clip("sam3")
        self.spec = spec
        self.fingerprint = f"{_VERSION}:{weights_digest(weights, advice=_ADVICE)}"
        self._place = pick_device(device)
        self._model = load_sam3(weights).to(self._place)
        self._model.set_imgsz((_SIDE_PX, _SIDE_PX))
        self._texts: dict[str, tuple[Any, Any]] = {}
        self._frames_batch = BatchSize(_BATCH_FRAMES)
        self._texts_batch = BatchSize(_BATCH_TEXTS)

    def __call__(
        self, frames: Sequence[Frame], queries: Sequence[Sequence[Phrase]]
    ) -> list[Detections]:
        """Detects each frame's queries; frames without any are not looked at."""
        found = [Detections.empty() for _ in frames]
        busy = [row for row, wanted in enumerate(queries) if wanted]
        for start in range(0, len(busy), _BATCH_FRAMES):
            rows = busy[start : start + _BATCH_FRAMES]
            with self._computing():
                encoded = self._frames_batch.run(self._encode, [frames[row].image for row in rows])
            for row, features in zip(rows, encoded, strict=True):
                found[row] = self._detect(features, frames[row].image, queries[row])
        return found

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        """No gradients; float16 on a GPU alone, where the network is right with it."""
        import torch

        kind = self._place.type
        with torch.inference_mode(), torch.autocast(kind, torch.float16, enabled=kind == "cuda"):
            yield

    def _encode(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Features of each image, as `forward_grounding` takes them. Source: its predictor."""
        import cv2
        import torch

        resized = [cv2.resize(to_rgb(image), (_SIDE_PX, _SIDE_PX)) for image in images]
        pixels = np.stack(resized).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        encoded = self._model.backbone.forward_image(torch.from_numpy(pixels).to(self._place))
        return [
            {
                key: [level[row : row + 1] for level in encoded[key]]
                for key in ("backbone_fpn", "vision_pos_enc")
            }
            for row in range(len(images))
        ]

    def _learn(self, texts: Sequence[str]) -> None:
        """Encodes the texts not seen before, each by itself: no batch may change its features."""
        if len(self._texts) > _TEXTS_MAX:
            self._texts.clear()
        new = [text for text in texts if text not in self._texts]
        self._texts.update(zip(new, BatchSize(1).run(self._encode_text, new), strict=True))

    def _encode_text(self, texts: Sequence[str]) -> list[tuple[Any, Any]]:
        encoded = self._model.backbone.forward_text(list(texts))
        return [(encoded["language_features"], encoded["language_mask"])]

    def _detect(
        self, features: dict[str, Any], image: np.ndarray, queries: Sequence[Phrase]
    ) -> Detections:
        size_wh = (image.shape[1], image.shape[0])
        texts = distinct_texts(queries)
        with self._computing():
            self._learn(texts)
            answers = self._texts_batch.run(lambda part: self._ground(features, part), texts)
        boxes, scores, logits = (np.concatenate(column) for column in zip(*answers, strict=True))
        slots = np.repeat(np.arange(len(texts)), [len(answer[1]) for answer in answers])
        boxes, scores, kept = round_detections(
            boxes * [*size_wh, *size_wh], scores, size_wh=size_wh
        )
        best = best_of_texts(boxes, scores, slots[kept], num_texts=len(texts))
        boxes, scores, source = boxes[best], scores[best], kept[best]
        indices, rows = hand_out(queries, slots[source])
        too_large = are_too_large(boxes, size_wh=size_wh)
        windows = [
            NO_MASK if is_unfit else enlarge_logits(logits[row], size_wh)
            for row, is_unfit in zip(source, too_large, strict=True)
        ]
        masks = FrameMasks(windows, size_wh=size_wh)
        detections = Detections(boxes[rows], scores[rows], indices, masks.take(rows))
        return drop_unfit_boxes(detections, size_wh=size_wh)

    def _ground(
        self, features: dict[str, Any], texts: Sequence[str]
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """What each text finds in an image and is sure of: boxes (N, 4), scores, mask logits.

        Boxes are corners as shares of the image. Source: SAM3SemanticPredictor.postprocess.
        """
        import torch

        model = self._model
        known = [self._texts[text] for text in texts]
        model.text_embeddings = {
            "language_features": torch.cat([memory for memory, _ in known], dim=1),
            "language_mask": torch.cat([mask for _, mask in known]),
        }
        answer = model.forward_grounding(features, torch.arange(len(texts), device=self._place))
        present = answer["presence_logit_dec"].float().sigmoid()[:, :, None]
        scores = (answer["pred_logits"].float().sigmoid() * present)[..., 0].cpu().numpy()
        boxes = answer["pred_boxes_xyxy"].float().cpu().numpy()
        found = []
        for text, text_scores in enumerate(scores):
            sure = np.flatnonzero(text_scores >= SCORE_MIN)  # NaN is not
            masks = answer["pred_masks"][text, torch.from_numpy(sure).to(self._place)]
            found.append((boxes[text, sure], text_scores[sure], masks.float().cpu().numpy()))
        return found


def enlarge_logits(logits: np.ndarray, size_wh: tuple[int, int]) -> MaskWindow:
    """The frame's mask from the network's (h, w) logits of all of it."""
    # A value reaches half of the next one's place.
    reach = mask_boxes_xyxy(logits[None] > 0)[0] + [-0.5, -0.5, 0.5, 0.5]
    per_value = np.divide(size_wh, logits.shape[::-1])
    box = np.clip(reach * [*per_value, *per_value], 0, [*size_wh, *size_wh])
    return cut_logits(logits, size_wh=size_wh, box=box.tolist())


def load_sam3(path: Path) -> Any:
    """Loads a SAM 3 or 3.1 as its publisher saves it, on the CPU, in evaluation mode.

    Unlike ultralytics' own loader it unpickles no code, and refuses weights that are not all there.

    Raises: ConfigError if the file is cut, or is another thing.
    """
    import torch

    model = build_sam3()
    expected = "a checkpoint of SAM 3"
    try:
        is_zip = zipfile.is_zipfile(path)  # then its 3.4 GB are not in memory twice
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
        if isinstance(state.get("model"), Mapping):
            state = state["model"]
        # Source: ultralytics/models/sam/build_sam3.py; interactive_convs is SAM 3.1's name.
        state = {
            name.removeprefix("detector.").replace("interactive_convs", "sam2_convs"): tensor
            for name, tensor in state.items()
            if name.startswith("detector.")
        }
        wanted = {name for name, _ in model.named_parameters() if not name.startswith(_UNUSED)}
        if missing := sorted(wanted - state.keys()):
            raise ValueError(f"it lacks {len(missing)} tensors, such as {missing[0]}")
        model.load_state_dict(state, strict=False)
    except LOAD_ERRORS as error:
        raise bad_weights(path, expected, error) from error
    return model.eval()


def build_sam3() -> Any:
    """An untrained SAM 3 for texts, by ultralytics' builder, without what that would fetch."""
    from ilv_dataset.models.ultralytics_runtime import prepare_ultralytics

    prepare_ultralytics()
    import open_clip.tokenizer
    from ultralytics.models.sam import build_sam3 as builder

    # It wants the package `clip`, which it would install, for a tokenizer that open_clip has too;
    # and it wants to unpickle a checkpoint.
    clip = types.ModuleType("clip")
    clip.simple_tokenizer = open_clip.tokenizer  # type: ignore[attr-defined]
    with _swapped(sys.modules, "clip", clip), _swapped(vars(builder), "_load_checkpoint", _as_is):
        return builder.build_sam3_image_model("")


def _as_is(model: Any, _: object) -> Any:
    return model


@contextlib.contextmanager
def _swapped(names: MutableMapping[str, Any], name: str, value: object) -> Iterator[None]:
    """Gives a name another value while the block runs."""
    missing = object()
    before = names.get(name, missing)
    names[name] = value
    try:
        yield
    finally:
        if before is missing:
            del names[name]
        else:
            names[name] = before
