"""The loss of YOLO-World with several true prompts a box.

ultralytics' own takes one class a box. Its assigner and box loss are used as they are; an anchor
that is given a box answers to all prompts that are true of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ilv_dataset.models.ultralytics_runtime import prepare_ultralytics

# Source: ultralytics' defaults for YOLOv8 (cfg/default.yaml).
_BOX_GAIN, _NAME_GAIN, _DFL_GAIN = 7.5, 0.5, 1.5
# Source: ours; the choice among all words at the anchors of a box teaches words faster.
_WORD_GAIN = 0.5
_TOP_ANCHORS = 10  # a box; Source: ultralytics
_NO_LOGIT = -1e9  # finite: where no word is asked, infinity would make gradients NaN


@dataclass(frozen=True, eq=False)
class Targets:
    """The truth of a batch, padded to G boxes a picture; tensors."""

    boxes_xyxy: Any  # (B, G, 4) float32 pixels of the input
    is_box: Any  # (B, G, 1) float32: 0 for padding
    truth: Any  # (B, G, P) float32: prompt p is true of box g
    is_asked: Any  # (B, 1, P) float32: 0 where nobody knows what prompt p is true of


class DetectionLoss:
    """Loss of one batch; the last prompts are all nouns, then all colours.

    `prefers_small`: an anchor that two boxes claim goes to the smaller one, for the larger has
    others. Source: FCOS (arXiv:1904.01355), section 3.1. ultralytics gives it to the box that
    its prediction overlaps more; then what lies in a tray is hardly ever learned.
    """

    prefers_small = False

    def __init__(self, model: Any, *, num_nouns: int, num_colours: int) -> None:
        prepare_ultralytics()
        from ultralytics.utils.loss import BboxLoss
        from ultralytics.utils.tal import TaskAlignedAssigner

        self._head = model.model[-1]
        self._assigner = TaskAlignedAssigner(
            topk=_TOP_ANCHORS, num_classes=1, alpha=0.5, beta=6.0,
            stride=self._head.stride.tolist(),
        )  # fmt: skip
        self._settle_claims = self._assigner.select_highest_overlaps
        self._assigner.select_highest_overlaps = self._settle
        self._box_loss = BboxLoss(self._head.reg_max)
        self._num_nouns, self._num_colours = num_nouns, num_colours

    def __call__(self, outputs: Mapping[str, Any], targets: Targets) -> tuple[Any, dict[str, Any]]:
        """Returns the loss of an average picture, and its parts, detached."""
        import torch
        from ultralytics.utils.tal import dist2bbox, make_anchors

        head = self._head
        sides = outputs["boxes"].float().permute(0, 2, 1).contiguous()  # (B, A, 4 * reg_max)
        scores = outputs["scores"].float().permute(0, 2, 1).contiguous()  # (B, A, P)
        points, strides = make_anchors(outputs["feats"], head.stride, 0.5)
        points, strides = points.float(), strides.float()
        bins = torch.arange(head.reg_max, dtype=torch.float32)
        expected = sides.view(*sides.shape[:2], 4, -1).softmax(3) @ bins
        boxes = dist2bbox(expected, points, xywh=False)
        weights, goals, chosen = self._assign(scores, boxes, points, strides, targets)
        total = weights.sum().clamp(min=1)
        wanted = weights @ targets.truth  # (B, A, P)
        misses = torch.nn.functional.binary_cross_entropy_with_logits(
            scores, wanted, weight=targets.is_asked, reduction="sum"
        )
        names = misses / wanted.sum().clamp(min=1)
        align = weights.sum(2, keepdim=True)
        image_px = torch.tensor(outputs["feats"][0].shape[2:]) * head.stride[0]
        iou, dfl = self._box_loss(
            sides, boxes, points, goals / strides, align, total, chosen, image_px, strides
        )
        words = self._word_loss(scores, weights, targets, chosen, total)
        loss = _BOX_GAIN * iou + _NAME_GAIN * names + _DFL_GAIN * dfl + _WORD_GAIN * words
        parts = {"box": iou, "names": names, "dfl": dfl, "words": words}
        return loss, {name: part.detach() for name, part in parts.items()}

    def _assign(
        self, scores: Any, boxes: Any, points: Any, strides: Any, targets: Targets
    ) -> tuple[Any, Any, Any]:
        """Which anchors answer for which box.

        Returns: weights (B, A, G) of the box that each anchor got, its corners (B, A, 4), and
            (B, A) bool whether it got one.
        """
        import torch

        num_words, num_boxes = self._num_nouns + self._num_colours, targets.truth.shape[1]
        # How sure an anchor is of a box: the geometric mean of its noun's and its colour's score.
        chances = torch.nn.functional.logsigmoid(scores.detach()[..., -num_words:])
        sure = (chances @ targets.truth[..., -num_words:].transpose(1, 2) / 2).exp()
        labels = torch.arange(num_boxes).view(1, -1, 1).expand(len(scores), -1, 1)
        self._assigner.num_classes = num_boxes
        corners = targets.boxes_xyxy
        self._areas = (corners[..., 2:] - corners[..., :2]).prod(2, keepdim=True).clamp(min=1)
        _, goals, weights, chosen, _ = self._assigner(
            sure,
            boxes.detach() * strides,
            points * strides,
            labels,
            targets.boxes_xyxy,
            targets.is_box,
        )
        return weights.float(), goals, chosen.bool()

    def _settle(self, claims: Any, overlaps: Any, num_boxes: int, metric: Any) -> Any:
        """Settles which box gets an anchor, (B, G, A) claims; see `prefers_small`."""
        if self.prefers_small:
            overlaps = claims / self._areas
        return self._settle_claims(claims, overlaps, num_boxes, metric)

    def _word_loss(
        self, scores: Any, weights: Any, targets: Targets, chosen: Any, total: Any
    ) -> Any:
        """Cross-entropy of the right noun and the right colour at the anchors of boxes.

        Only those that are asked of a picture compete there.
        """
        import torch

        logits = scores.masked_fill(targets.is_asked == 0, _NO_LOGIT)[chosen]
        right = ((weights > 0).float() @ targets.truth)[chosen]
        weight = weights[chosen].sum(1)
        words = self._num_nouns + self._num_colours
        loss = scores.new_zeros(())
        for start, stop in ((-words, -self._num_colours), (-self._num_colours, None)):
            chances = torch.log_softmax(logits[:, start:stop], dim=1)
            loss = loss - ((chances * right[:, start:stop]).sum(1) * weight).sum() / total
        return loss
