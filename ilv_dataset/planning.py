"""From options to a job: finds the dataset, checks that it fits, and prints what will be done.

Everything that can be wrong with the options is found here, before any work begins.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

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
    if detector == SOURCE_DETECTOR and spec.source_objects is None:
        raise ConfigError(f"--detector source: {spec.key} carries no boxes; name another detector")
    return Job(
        layout=Layout(options.out, spec.tfds_name, info.version),
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

    Formats, workers and the runner are not in it, nor the place of the data.

    Args:
        load_models: false where the weights are on the workers alone.

    Raises: ConfigError where a model cannot be loaded.
    """
    detector = detector_of_process(job.detector) if load_models else None
    segmenter = segmenter_of_process(job.segmenter, job.detector) if load_models else None
    texts = [_read_text(job.data_dir, name) for name in ("dataset_info.json", "features.json")]
    return {
        "ilv_dataset": __version__,
        "source": hashlib.sha256("\0".join(texts).encode()).hexdigest(),
        "--split": sorted(options.splits),
        "--max-episodes": options.max_episodes,
        "--image-key": list(options.image_keys),
        "--instruction-key": options.instruction_key,
        "--extractor": job.extractor,
        "--detector": job.detector,
        "detector weights": detector.fingerprint if detector else None,
        "--segmenter": job.segmenter,
        "segmenter weights": segmenter.fingerprint if segmenter else None,
        "--verifier": job.verifier,
        "--picture-kinds": sorted(job.picture_kinds),
        "--include": sorted(job.include),
    }


def open_output(job: Job, fingerprint: Mapping[str, object], *, overwrite: bool) -> None:
    """Writes plan.json, or checks that the one that is there is the same.

    Raises: ConfigError naming what differs, unless `overwrite`, which starts afresh.
    """
    path = job.layout.plan
    if overwrite:
        for name in files.list_names(job.layout.root):
            files.remove_tree(files.join_path(job.layout.root, name))
    elif files.exists(path):
        _check_same(path, fingerprint)
        return
    elif files.list_names(job.layout.root):
        raise ConfigError(
            f"{job.layout.root} holds files but no plan.json: not an output of ours; "
            "use another --out, or --overwrite to delete them"
        )
    atomic.write_json(path, fingerprint, out=job.layout.out)


def describe_plan(job: Job) -> list[str]:
    """Lines that say what will be done, before it is."""
    num_selected = sum(shard.num_selected for shard in job.shards)
    lines = [
        f"dataset    {job.spec.key} ({job.spec.tfds_name} {job.layout.version}) in {job.data_dir}",
        f"episodes   {num_selected:,} in {len(job.shards):,} shards" + _expected(job),
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
    try:
        spec = find_dataset(options.dataset)
    except ConfigError:
        spec = unregistered(options.dataset)
        if not options.data_dir or not _is_folder_of(options.data_dir, options.dataset):
            raise
    found = resolve_data_dir(
        spec, options.data_dir, exists=files.exists, list_names=files.list_names
    )
    return spec, found


def _is_folder_of(data_dir: str, name: str) -> bool:
    """Whether --data-dir holds, or is, a TFDS folder of this name."""
    return name in files.list_names(data_dir) or name in data_dir.rstrip("/").split("/")[-2:]


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
    cameras = tuple(registered.get(camera.key, camera) for camera in detected.cameras)
    return replace(
        spec,
        cameras=cameras if options.image_keys else spec.cameras,
        instruction_key=detected.instruction_key,
        instruction_decoder=detected.instruction_decoder,
    )


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


def _check_same(path: str, fingerprint: Mapping[str, object]) -> None:
    try:
        before = json.loads(files.read_bytes(path))
        differing = [key for key in fingerprint if before.get(key) != fingerprint[key]]
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: not a plan of ours: {error}; use --overwrite") from error
    if differing:
        key = differing[0]
        raise ConfigError(
            f"{path} is of another run: {key} was {before.get(key)!r} and is "
            f"{fingerprint[key]!r}; use another --out, or --overwrite to start afresh"
        )


def _read_text(folder: str, name: str) -> str:
    path = files.join_path(folder, name)
    if not files.exists(path):
        raise ConfigError(f"{path} does not exist: not a TFDS folder")
    try:
        return files.read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from error
