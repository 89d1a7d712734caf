"""Everything that changes results, as a value that plan.json keeps and a later run compares."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from importlib import resources

from ilv_dataset import __version__
from ilv_dataset.fields import INTERLEAVE_VLA_LAYOUT
from ilv_dataset.formats import files
from ilv_dataset.formats.dataset_info import decode_dataset_info
from ilv_dataset.jobs import Job
from ilv_dataset.llm_options import model_of
from ilv_dataset.models.loading import (
    detector_of_process,
    segmenter_of_process,
    verifier_of_process,
)
from ilv_dataset.prompts import load_prompt

_GRAMMAR_FILES = ("grammar.py", "words.py", "lexicon.py", "lexicon.toml", "phrases.py")
_LLM_PROMPTS = ("noun_phrases.v1", "summarise.v1")
_VECTOR_FILES = ("robot_actions.py",)
_MATCHING_FILES = ("matching.py", "synonyms.toml")


def fingerprint_job(
    job: Job, *, splits: Sequence[str], max_episodes: int | None, load_models: bool = True
) -> dict[str, object]:
    """Everything that changes results, by the option it comes from.

    Formats, workers and the runner are not in it, nor the place of the data and the weights.

    Args:
        load_models: false where the weights are not needed, or are on the workers alone; what
            their digests are is then None, which agrees with any.

    Raises: ConfigError where a model cannot be loaded.
    """
    detector = detector_of_process(job.detector) if load_models else None
    segmenter = segmenter_of_process(job.segmenter, job.detector) if load_models else None
    verifier = (
        verifier_of_process(job.verifier, job.chat, job.reply_cache, job.layout)
        if load_models
        else None
    )
    info = _read_source(job, "dataset_info.json")
    splits = splits or [split.name for split in decode_dataset_info(info).splits]
    return {
        "ilv_dataset": __version__,
        "source": digest_texts([info, _read_source(job, "features.json")]),
        "--split": sorted(set(splits)),
        "--max-episodes": max_episodes,
        "--image-key": [[c.key, c.channel_order] for c in job.spec.probe_cameras],
        "--instruction-key": [job.spec.instruction_key, job.spec.instruction_decoder],
        "--extractor": f"{job.extractor}:{_digest_extractor(job)}",
        "--detector": _without_folder(job.detector),
        "detector weights": detector.fingerprint if detector else None,
        "class names": _digest_files(_MATCHING_FILES),
        "--segmenter": _without_folder(job.segmenter),
        "segmenter weights": segmenter.fingerprint if segmenter else None,
        "--verifier": job.verifier,
        "verifier version": verifier.fingerprint if verifier else None,
        "--picture-kinds": sorted(job.picture_kinds),
        "--include": sorted(job.include),
        "--layout": job.rlds_layout,
        "--max-images": job.max_images,
        "7-D mapping": _digest_vectors(job),
    }


def digest_texts(texts: Sequence[str]) -> str:
    """SHA-256 of texts, told apart."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _digest_extractor(job: Job) -> str:
    """Of the grammar, which is also what a model falls back on, and of the prompts."""
    digests = [_digest_files(_GRAMMAR_FILES)]
    if model_of(job.extractor) is not None:
        digests += [load_prompt(name).digest for name in _LLM_PROMPTS]
    return "+".join(digests)


def _digest_vectors(job: Job) -> str | None:
    """Of what makes the 7-D actions and states, where the layout has them."""
    if job.rlds_layout != INTERLEAVE_VLA_LAYOUT:
        return None
    spec = job.spec
    mapping = (spec.action, spec.state, spec.state_kind, spec.rotation, spec.drop_first_step)
    frames = (spec.cameras[0].key, spec.cameras[0].channel_order)
    return digest_texts([repr(mapping), repr(frames), _digest_files(_VECTOR_FILES)])[:16]


def _digest_files(names: Sequence[str]) -> str:
    """A short digest of files of this package, which are code or tables of words."""
    folder = resources.files("ilv_dataset")
    return digest_texts([folder.joinpath(name).read_text("utf-8") for name in names])[:16]


def _without_folder(backend: str) -> str:
    """A backend's string without the folder of its weights."""
    name, colon, weights = backend.partition(":")
    return f"{name}{colon}{weights.replace(os.sep, '/').rpartition('/')[2]}"


def _read_source(job: Job, name: str) -> str:
    return files.read_bytes(files.join_path(job.data_dir, name)).decode("utf-8")
