"""From options to a job: finds the dataset, checks that it fits, and prints what will be done.

Everything that can be wrong with the options is found here, before any work begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from ilv_dataset.dataset_keys import check_spec, detect_spec, fit_vectors
from ilv_dataset.dataset_specs import DatasetSpec
from ilv_dataset.datasets import adopt_info, find_dataset, resolve_data_dir, unregistered
from ilv_dataset.errors import ConfigError, StorageError
from ilv_dataset.fields import ILV_LAYOUT, INTERLEAVE_VLA_LAYOUT, PICTURED_KINDS
from ilv_dataset.formats import files
from ilv_dataset.formats.dataset_info import DatasetInfo, decode_dataset_info
from ilv_dataset.formats.features import Feature, decode_features
from ilv_dataset.jobs import Job
from ilv_dataset.layout import Layout
from ilv_dataset.llm_options import LlmOptions, model_of, resolve_extractor
from ilv_dataset.messages import count_noun
from ilv_dataset.models.chat import ChatOptions
from ilv_dataset.models.endpoints import shown_url
from ilv_dataset.models.verifier import check_verifier
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
    extractor: str = "auto"
    detector: str | None = None
    segmenter: str = "auto"
    verifier: str = "agreement"
    formats: tuple[str, ...] = ()  # empty: parquet, or rlds where a layout of it is named
    rlds_layout: str = ILV_LAYOUT
    max_images: int | None = None
    include: tuple[str, ...] = ()
    picture_kinds: tuple[str, ...] = PICTURED_KINDS
    max_failed: float = 0.0
    overwrite: bool = False
    image_keys: tuple[str, ...] = ()
    instruction_key: str | None = None
    llm: LlmOptions = field(default_factory=LlmOptions)
    is_part: bool = False  # of a mixture: what --data-dir lacks is taken from its source

    @property
    def written_formats(self) -> tuple[str, ...]:
        """The formats that are asked for."""
        return self.formats or (("parquet",) if self.rlds_layout == ILV_LAYOUT else ("rlds",))


def plan_job(options: ConvertOptions) -> Job:
    """Resolves the options of one dataset.

    Raises: ConfigError for anything that does not exist or does not fit.
    """
    max_images = _room_for_images(options)
    spec, data_dir = _find_source(options)
    info = decode_dataset_info(_read_info(data_dir, options))
    features = decode_features(_read_text(data_dir, "features.json"))
    spec = _fit_spec(spec, info, features, options)
    if options.rlds_layout == INTERLEAVE_VLA_LAYOUT:
        spec = fit_vectors(spec, features)
    shards = select_records(info, splits=options.splits, max_episodes=options.max_episodes)
    _check_shards(shards, data_dir)
    detector = options.detector or spec.detector or DEFAULT_DETECTOR
    if detector == SOURCE_DETECTOR:
        spec = _probe_marked_camera(spec)
    layout = Layout(options.out, spec.tfds_name, info.version)
    _check_out(options.out)
    _check_apart(layout.root, data_dir)
    return Job(
        layout=layout,
        spec=spec,
        data_dir=data_dir,
        features=features,
        shards=shards,
        extractor=resolve_extractor(options.extractor, is_demo=spec.key == "demo"),
        detector=detector,
        segmenter=_choose_segmenter(spec, options),
        verifier=options.verifier,
        chat=_verifier_chat(options),
        reply_cache=options.llm.cache_folder(options.out),
        picture_kinds=options.picture_kinds,
        include=options.include,
        rlds_layout=options.rlds_layout,
        max_images=max_images,
    )


def describe_plan(job: Job, llm: LlmOptions) -> list[str]:
    """Lines that say what will be done, before it is."""
    num_selected = sum(shard.num_selected for shard in job.shards)
    lines = [
        f"dataset    {job.spec.key} ({job.spec.tfds_name} {job.layout.version}) in {job.data_dir}",
        f"episodes   {num_selected:,} in {count_noun(len(job.shards), 'shard')}" + _expected(job),
        f"instruct.  {job.spec.instruction_key}",
        f"cameras    {', '.join(camera.key for camera in job.spec.probe_cameras)}",
        f"extractor  {job.extractor}" + _asked(job, llm, num_selected),
        f"detector   {job.detector}",
        f"segmenter  {job.segmenter}",
        f"verifier   {job.verifier}" + (f" at {shown_url(job.chat.base_url)}" if job.chat else ""),
        *_described_layout(job),
        f"output     {job.layout.root}",
    ]
    return lines


def _described_layout(job: Job) -> list[str]:
    if job.rlds_layout == ILV_LAYOUT:
        return []
    kind = job.spec.state_kind or "none: there is no observation/state of 7 numbers, so zeros"
    images = count_noun(job.max_images or 0, "picture")
    return [f"layout     {job.rlds_layout}: {images} an instruction, state {kind}"]


def _room_for_images(options: ConvertOptions) -> int | None:
    """How many pictures each step has room for; None where the layout has room for all.

    Raises: ConfigError where options do not go together.
    """
    if options.rlds_layout != INTERLEAVE_VLA_LAYOUT:
        if options.max_images is not None:
            raise ConfigError(f"--max-images goes with --layout {INTERLEAVE_VLA_LAYOUT} alone")
        return None
    if "rlds" not in options.written_formats:
        named = ",".join(options.written_formats)
        raise ConfigError(
            f"--layout {INTERLEAVE_VLA_LAYOUT} is one of rlds, and --formats is {named}: add rlds"
        )
    return 1 if options.max_images is None else options.max_images


def _choose_segmenter(spec: DatasetSpec, options: ConvertOptions) -> str:
    """As told; else what belongs to the dataset's own detector, unless that is another."""
    is_default = options.segmenter == "auto" and options.detector in (None, spec.detector)
    return spec.segmenter if is_default and spec.segmenter else options.segmenter


def _verifier_chat(options: ConvertOptions) -> ChatOptions | None:
    """Where the verifier's model is asked, by the workers; None where it has none.

    Raises: ConfigError where there is no such verifier.
    """
    check_verifier(options.verifier)
    model = model_of(options.verifier)
    return options.llm.chat(model, is_verifier=True) if model else None


def _asked(job: Job, llm: LlmOptions, num_selected: int) -> str:
    """Where a model is asked, and how much that can be; how many are equal is not known yet."""
    model = model_of(job.extractor)
    if model is None:
        return ""
    num_requests = math.ceil(num_selected / llm.items)
    return (
        f" at {shown_url(llm.chat(model).base_url)}: for one instruction an episode at most "
        f"{num_selected:,} items in {num_requests:,} requests, and each item once more where its "
        f"answer is no good; {llm.items} a request, {llm.concurrency} requests at a time"
    )


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


def _read_info(data_dir: str, options: ConvertOptions) -> str:
    """The text of dataset_info.json; of a mixture, an error says which of its datasets it is."""
    try:
        return _read_text(data_dir, "dataset_info.json")
    except StorageError as error:
        if not options.is_part:
            raise
        lacks = f" is not in --data-dir {options.data_dir}, and" if options.data_dir else ":"
        raise StorageError(f"{options.dataset}{lacks} {error}") from error


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
            f"{data_dir} holds none of {count_noun(len(shards), 'wanted shard')}, "
            f"such as {shards[0].file_name}"
        )


def _check_out(out: str) -> None:
    if not files.is_remote(out) and Path(out).is_file():
        raise ConfigError(f"--out {out} is a file, not a folder")


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


def _read_text(folder: str, name: str) -> str:
    path = files.join_path(folder, name)
    if not files.exists(path):
        raise ConfigError(f"{path} does not exist: not a TFDS folder")
    try:
        return files.read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from error
