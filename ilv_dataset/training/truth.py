"""Held-out stills as labelled images that `ilv eval crops --truth` reads."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ilv_dataset.masks import encode_rle
from ilv_dataset.training.detector_scores import PRESENT, Question, ask_scene
from ilv_dataset.training.prompts import vocabulary_of
from ilv_dataset.training.scenes import SceneFolder, TrainingScene


def main(arguments: Sequence[str]) -> None:
    """Writes the stills of --scenes, and truth.json about them, into --out."""
    parser = argparse.ArgumentParser(prog="python -m ilv_dataset.training truth")
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--held-out", action="store_true", help="ask for the held-out names alone")
    parser.add_argument("--seed", type=int, default=0, help="of the wording and the absent names")
    args = parser.parse_args(arguments)
    write_truth(args.out, SceneFolder(args.scenes), is_held_out=args.held_out, seed=args.seed)


def write_truth(
    folder: Path, scenes: Sequence[TrainingScene] | SceneFolder, *, is_held_out: bool, seed: int
) -> None:
    """Writes pictures as JPEG, and truth.json: COCO with phrases, masks and absent names.

    All that is seen is there under its name; what is not asked for, for too little of it is seen
    or because the others alone are, has no phrase.
    """
    from ilv_dataset.simulation.stills import HELD_OUT, PAIRS

    vocabulary = vocabulary_of(PAIRS)
    only = HELD_OUT if is_held_out else None
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(len(scenes)):
        scene = scenes[number]
        name = f"{scene.seed:09d}.jpg"
        pixels = np.ascontiguousarray(scene.rgb[..., ::-1])
        cv2.imwrite(str(folder / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
        questions = ask_scene(scene, vocabulary, np.random.default_rng([seed, number]), only=only)
        absent = [asked.text for asked in questions if asked.kind != PRESENT]
        size = {"width": scene.rgb.shape[1], "height": scene.rgb.shape[0]}
        images.append({"id": number, "file_name": name, **size, "absent": absent})
        annotations += _annotate(scene, number, questions)
    content = {"images": images, "annotations": annotations}
    (folder / "truth.json").write_text(json.dumps(content))


def _annotate(
    scene: TrainingScene, image: int, questions: Sequence[Question]
) -> list[dict[str, Any]]:
    phrases = {asked.row: asked.text for asked in questions if asked.kind == PRESENT}
    rows = []
    for row, (name, box, mask) in enumerate(
        zip(scene.names, scene.boxes_xyxy.tolist(), scene.masks(), strict=True)
    ):
        if not mask.any():
            continue
        x0, y0, x1, y1 = box
        rows.append(
            {
                "image_id": image,
                "name": name,
                "phrase": phrases.get(row),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "segmentation": json.loads(encode_rle(mask)),
            }
        )
    return rows
