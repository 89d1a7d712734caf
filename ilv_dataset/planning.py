"""From options to a job: finds the dataset, checks that it fits, and prints what will be done.

Everything that can be wrong with the options is found here, before any work begins.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from ilv_dataset import __version__
from ilv_dataset.dataset_keys import check_spec, detect_spec
from ilv_dataset.dataset_specs import DatasetSpec
from ilv_dataset.datasets import adopt_info, find_dataset, resolve_data_dir, unregistered
from ilv_dataset.errors import ConfigError
from ilv_dataset.fields import PICTURED_KINDS
from ilv_dataset.formats import atomic, files
from ilv_dataset.formats.dataset_info import DatasetInfo, decode_dataset_info
from ilv_dataset.formats.features import Feature, decode_features
from ilv_dataset.jobs import Job
from ilv_dataset.layout import Layout
from ilv_dataset.models.loading import detector_of_process, segmenter_of_process
from ilv_dataset.selection import ShardPlan, select_records

DEFAULT_DETECTOR = "yolo-world:yolov8x-worldv2.pt"
SOURCE_DETECTOR = "source"
_GRAMMAR_FILES = ("grammar.py", "words.py", "lexicon.py", "lexicon.toml", "phrases.py")
_MATCHING_FILES = ("matching.py", "synonyms.toml")
_DIGESTS_OF_WEIGHTS = ("detector weights", "segmenter weights")


@dataclass(frozen=True)
class ConvertOptions:
    """The options of `ilv convert`, as given."""

    dataset: str
    out: str
    data_dir: str | None = None
    splits: tuple[str, ...] = ()
    max_episodes: int | None = None
    extractor: str = "grammar"
    detector: str | None = None
    segmenter: str = "auto"
    verifier: str = "none"
    formats: tuple[str, ...] = ("parquet",)
    include: tuple[str, ...] = ()
    picture_kinds: tuple[str, ...] = PICTURED_KINDS
    max_failed: float = 0.0
    overwrite: bool = False
    image_keys: tuple[str, ...] = ()
    instruction_key: str | None = None
    is_part: bool = False  # of a mixture: what --data-dir lacks is taken from its source


def plan_job(options: ConvertOptions) -> Job:
    """Resolves the options of one dataset.

    Raises: ConfigError for anything that does not exist or does not fit.
    """
    spec, data_dir = _find_source(options)
    info = decode_dataset_info(_read_text(data_dir, "dataset_info.json"))
    features = decode_features(_read_text(data_dir, "features.json"))
    spec = _fit_spec(spec, info, features, options)
    shards = select_records(info, splits=options.splits, max_episodes=options.max_episodes)
    _check_shards(shards, data_dir)
    detector = options.detector or (SOURCE_DETECTOR if spec.source_objects else DEFAULT_DETECTOR)
    if detector == SOURCE_DETECTOR:
        spec = _probe_marked_camera(spec)
    layout = Layout(options.out, spec.tfds_name, info.version)
    _check_apart(layout.root, data_dir)
    return Job(
        layout=layout,
        spec=spec,
        data_dir=data_dir,
        features=features,
        shards=shards,
        extractor=options.extractor,
        detector=detector,
        segmenter=options.segmenter,
        verifier=options.verifier,
        picture_kinds=options.picture_kinds,
        include=options.include,
    )


def fingerprint_job(
    job: Job, options: ConvertOptions, *, load_models: bool = True
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
    info = _read_text(job.data_dir, "dataset_info.json")
    splits = options.splits or [split.name for split in decode_dataset_info(info).splits]
    return {
        "ilv_dataset": __version__,
        "source": digest_texts([info, _read_text(job.data_dir, "features.json")]),
        "--split": sorted(set(splits)),
        "--max-episodes": options.max_episodes,
        "--image-key": [[c.key, c.channel_order] for c in job.spec.probe_cameras],
        "--instruction-key": [job.spec.instruction_key, job.spec.instruction_decoder],
        "--extractor": f"{job.extractor}:{_digest_files(_GRAMMAR_FILES)}",
        "--detector": _without_folder(job.detector),
        "detector weights": detector.fingerprint if detector else None,
        "class names": _digest_files(_MATCHING_FILES),
        "--segmenter": _without_folder(job.segmenter),
        "segmenter weights": segmenter.fingerprint if segmenter else None,
        "--verifier": job.verifier,
        "--picture-kinds": sorted(job.picture_kinds),
        "--include": sorted(job.include),
    }


def open_output(
    job: Job, fingerprint: Mapping[str, object], *, overwrite: bool
) -> dict[str, object]:
    """Writes plan.json, or checks that the one that is there is of the same run.

    The same plan resumes, with or without `overwrite`; that makes way for another.

    Returns: the fingerprint, with the digests of weights that an earlier step knew.
    Raises: ConfigError naming what differs.
    """
    path = job.layout.plan
    there = files.list_names(job.layout.root)
    before = _read_plan(path) if files.exists(path) else None
    if before is None and there:
        raise ConfigError(
            f"{job.layout.root} holds {there[0]} but no plan.json: not an output of ours; "
            "use another --out"
        )
    differing = _differing(before or {}, fingerprint)
    if before is not None and differing:
        if not overwrite:
            key = differing[0]
            raise ConfigError(
                f"{path} is of another run: {key} was {before.get(key)!r} and is "
                f"{fingerprint[key]!r}; use another --out, or --overwrite to start afresh"
            )
        _remove_output(job.layout)
        before = None
    merged = {
        key: (before or {}).get(key) if value is None else value
        for key, value in fingerprint.items()
    }
    if merged != before:
        atomic.write_json(path, merged, out=job.layout.out)
    return merged


def describe_plan(job: Job) -> list[str]:
    """Lines that say what will be done, before it is."""
    num_selected = sum(shard.num_selected for shard in job.shards)
    lines = [
        f"dataset    {job.spec.key} ({job.spec.tfds_name} {job.layout.version}) in {job.data_dir}",
        f"episodes   {num_selected:,} in {len(job.shards):,} shards" + _expected(job),
        f"instruct.  {job.spec.instruction_key}",
        f"cameras    {', '.join(camera.key for camera in job.spec.probe_cameras)}",
        f"extractor  {job.extractor}",
        f"detector   {job.detector}",
        f"segmenter  {job.segmenter}",
        f"verifier   {job.verifier}",
        f"output     {job.layout.root}",
    ]
    return lines


def _expected(job: Job) -> str:
    share = job.spec.share_without_instruction
    if not share:
        return ""
    return (
        f"; about {job.num_expected:,} expected to be interleaved, "
        f"for {share:.0%} have no instruction"
    )


def _find_source(options: ConvertOptions) -> tuple[DatasetSpec, str]:
    """The spec, registered or not, and the folder of dataset_info.json."""
    data_dir = options.data_dir
    if data_dir and not files.is_remote(data_dir) and not Path(data_dir).is_dir():
        raise ConfigError(f"--data-dir {data_dir}: no such folder")
    try:
        spec = find_dataset(options.dataset, others=_folder_names(data_dir))
    except ConfigError:
        if not data_dir or not _is_folder_of(data_dir, options.dataset):
            raise
        spec = unregistered(options.dataset)
    found = resolve_data_dir(
        spec,
        data_dir,
        exists=files.exists,
        list_names=files.list_names,
        fallback=options.is_part,
    )
    return spec, found


def _folder_names(data_dir: str | None) -> list[str]:
    """What a local --data-dir holds; a bucket is too large to list for the sake of a hint."""
    return [] if not data_dir or files.is_remote(data_dir) else files.list_names(data_dir)


def _is_folder_of(data_dir: str, name: str) -> bool:
    """Whether --data-dir holds, or is, a TFDS folder of this name."""
    info = files.join_path(data_dir, "dataset_info.json")
    if files.exists(info):
        return decode_dataset_info(_read_text(data_dir, "dataset_info.json")).name == name
    if files.exists(files.join_path(data_dir, name)) or name in _folder_names(data_dir):
        return True
    return name in data_dir.rstrip("/").split("/")[-3:]


def _fit_spec(
    spec: DatasetSpec,
    info: DatasetInfo,
    features: tuple[Feature, ...],
    options: ConvertOptions,
) -> DatasetSpec:
    spec = adopt_info(spec, info)
    chosen = options.image_keys or options.instruction_key
    if spec.cameras and not chosen:
        check_spec(spec, features)
        return spec
    detected = detect_spec(
        spec.tfds_name,
        info.version,
        features,
        image_keys=options.image_keys,
        instruction_key=options.instruction_key or spec.instruction_key or None,
    )
    if not spec.cameras:
        return detected
    registered = {camera.key: camera for camera in spec.cameras}
    named = tuple(
        replace(registered.get(camera.key, camera), is_probed=True) for camera in detected.cameras
    )
    fitted = replace(
        spec,
        cameras=named if options.image_keys else spec.cameras,
        instruction_key=detected.instruction_key,
        instruction_decoder=detected.instruction_decoder,
    )
    check_spec(fitted, features)
    return fitted


def _check_shards(shards: tuple[ShardPlan, ...], data_dir: str) -> None:
    """A shard that is missing fails its records; all missing is a wrong folder."""
    if not shards:
        raise ConfigError(f"{data_dir}: dataset_info.json lists no records")
    there = set(files.list_names(data_dir))
    if not any(shard.file_name.split("/")[0] in there for shard in shards):
        raise ConfigError(
            f"{data_dir} holds none of the {len(shards)} shards that are wanted, "
            f"such as {shards[0].file_name}"
        )


def _check_apart(root: str, data_dir: str) -> None:
    """The output must not lie in the source, nor around it."""
    if files.is_remote(root) != files.is_remote(data_dir):
        return
    paths = [root, data_dir]
    if not files.is_remote(root):
        paths = [str(Path(path).resolve()) for path in paths]
    ours, theirs = (f"{path.rstrip('/')}/" for path in paths)
    if ours.startswith(theirs) or theirs.startswith(ours):
        raise ConfigError(f"{root} would be written over its source {data_dir}; use another --out")


def _probe_marked_camera(spec: DatasetSpec) -> DatasetSpec:
    """Boxes of the dataset mean the pixels of one camera: only that one is looked at."""
    if spec.source_objects is None:
        raise ConfigError(f"--detector source: {spec.key} carries no boxes; name another detector")
    marked = spec.source_objects.camera
    if marked not in [camera.key for camera in spec.cameras]:
        raise ConfigError(f"--detector source: the boxes are those of --image-key {marked}")
    cameras = tuple(replace(camera, is_probed=camera.key == marked) for camera in spec.cameras)
    return replace(spec, cameras=cameras)


def _read_plan(path: str) -> dict[str, object]:
    try:
        plan = json.loads(files.read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not a plan of ours: {error}; use another --out") from error
    if not isinstance(plan, dict):
        raise ConfigError(f"{path}: not a plan of ours; use another --out")
    return plan


def _differing(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """What two plans differ in; a digest that one of them does not know agrees with any."""
    unknown = [key for key in _DIGESTS_OF_WEIGHTS if None in (before.get(key), now.get(key))]
    return [key for key in now if key not in unknown and before.get(key) != now[key]]


def _remove_output(layout: Layout) -> None:
    """Deletes what we write and nothing else; plan.json last, for it says that this is ours."""
    for path in (layout.run, *layout.folders, layout.plan):
        files.remove_tree(path)


def digest_texts(texts: Sequence[str]) -> str:
    """SHA-256 of texts, told apart."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _digest_files(names: Sequence[str]) -> str:
    """A short digest of files of this package, which are code or tables of words."""
    folder = resources.files("ilv_dataset")
    return digest_texts([folder.joinpath(name).read_text("utf-8") for name in names])[:16]


def _without_folder(backend: str) -> str:
    """A backend's string without the folder of its weights."""
    name, colon, weights = backend.partition(":")
    return f"{name}{colon}{weights.replace(os.sep, '/').rpartition('/')[2]}"


def _read_text(folder: str, name: str) -> str:
    path = files.join_path(folder, name)
    if not files.exists(path):
        raise ConfigError(f"{path} does not exist: not a TFDS folder")
    try:
        return files.read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from error
