"""What the cascade, prompts of each image's own, and one encoding a frame save."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import timing
from rows import Row

from ilv_dataset.models.detector import load_detector
from ilv_dataset.models.sam import SamSegmenter
from ilv_dataset.records import Frame, Phrase
from ilv_dataset.simulation.stills import draw_still

NUM_FRAMES, NUM_PROMPTS, NUM_BOXES = 16, 3, 4
NUM_SAM_ROUNDS = 2  # an encoding of ViT-B takes seconds, and both sides are mostly that


def measure_grounding(
    folder: Path, *, num_episodes: int, num_rounds: int, has_sam: bool
) -> Iterator[Row]:
    """Rows of frames a span, memory, prompts and, where it is asked for, of SAM ViT-B."""
    own = timing.run_script("own_grounding.py", folder, str(num_episodes))
    yield Row(
        f"ground: frames a span of {own['steps'] / own['spans']:.0f} steps",
        f"{own['frames'] / own['spans']:.2f} with the cascade",
        f"{own['probes'] / own['spans']:.2f} without",
        own["probes"] / own["frames"],
        at_least=3,
    )
    memory_mb = own["memory_mb"]
    what = "ground: peak memory, bundled models"
    yield Row(what, f"{memory_mb:,.0f} MB", value=memory_mb, unit="MB", at_most=2000)
    yield _compare_prompts(num_rounds)
    if has_sam:
        yield _compare_encodings(folder)


def _compare_prompts(num_rounds: int) -> Row:
    """A batch in which each image has prompts of its own, beside one call an image.

    That is what `set_classes` comes to, whose text encoder, run anew each time, is left out.
    """
    detector = load_detector("yolo-world:tabletop")
    stills = [draw_still(seed) for seed in range(NUM_FRAMES)]
    frames = [Frame("image", 0, still.rgb) for still in stills]
    queries = [
        [Phrase(t.name, 0, len(t.name), t.name, "object") for t in still.things[:NUM_PROMPTS]]
        for still in stills
    ]

    def ask_one_by_one() -> None:
        for frame, wanted in zip(frames, queries, strict=True):
            detector([frame], [wanted])

    actions = {
        "together": timing.Action(lambda: detector(frames, queries)),
        "one by one": timing.Action(ask_one_by_one),
    }
    seconds = timing.time_in_turn(actions, num_rounds=num_rounds)
    together, alone = (timing.median(seconds[name]) / NUM_FRAMES for name in actions)
    return Row(
        "detect: prompts of each image's own",
        f"{1 / together:.1f} frames/s",
        f"one image a call {1 / alone:.1f} frames/s",
        alone / together,
    )


def _compare_encodings(folder: Path) -> Row:
    """SAM ViT-B with random weights: the same work as with trained ones."""
    import torch
    from segment_anything import sam_model_registry

    path = folder / "sam_vit_b.pth"
    torch.save(sam_model_registry["vit_b"]().state_dict(), path)
    segmenter = SamSegmenter(path, spec="sam")
    image = draw_still(0).rgb
    boxes = np.array([[20 + 50 * n, 60, 60 + 50 * n, 120] for n in range(NUM_BOXES)], np.float32)

    def encode_for_each() -> None:
        for box in boxes:
            segmenter([image], [box[None]])

    actions = {
        "once": timing.Action(lambda: segmenter([image], [boxes])),
        "each": timing.Action(encode_for_each),
    }
    seconds = timing.time_in_turn(actions, num_rounds=NUM_SAM_ROUNDS)
    once, each = (timing.median(seconds[name]) for name in actions)
    return Row(
        f"segment: SAM ViT-B, {NUM_BOXES} boxes of a frame",
        f"{once:.2f} s, encoded once",
        f"an encoding a box {each:.2f} s",
        each / once,
    )
