"""Builds TFDS folders, episodes and jobs for the tests; a test states only what matters to it.

Records are serialized by protobuf and framed here by hand, so what the library reads was not
written by the library.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from PIL import Image

from ilv_dataset.episodes import IndexedSpan, Probe
from ilv_dataset.formats.tables import EpisodeRow, GroundedObject, encode_episode
from ilv_dataset.jobs import Job
from ilv_dataset.planning import ConvertOptions, plan_job
from ilv_dataset.records import Candidate, Detections, Frame, Masks, Phrase, Span, Verdict

DATASET, VERSION = "ilv_demo", "1.0.0"  # the registered dataset that carries boxes
WIDTH, HEIGHT = 64, 48
CARROT_XYXY, PLATE_XYXY = (8, 8, 24, 16), (32, 24, 56, 40)
NAMES = ("carrot", "plate")
INSTRUCTION = "put the carrot on the plate"

CAMERA = "observation/image"
MARKED = ("demo", "--detector", "source")  # no model is loaded: the dataset marks its objects

Values = Sequence[bytes] | np.ndarray
Record = dict[str, Values]


class Converted(NamedTuple):
    """What a run of `ilv convert` ended with."""

    exit_code: int
    stderr: str


def make_episode(
    steps: int = 2,
    *,
    instruction: str | bytes | Sequence[str | bytes] = INSTRUCTION,
    names: Sequence[str] = NAMES,
    seed: int = 0,
    **changes: Values,
) -> Record:
    """The values of one record, by their keys; a change replaces a value, None removes it.

    Keys of changes are written with "__" for "/".
    """
    texts = [instruction] * steps if isinstance(instruction, str | bytes) else instruction
    numbers = np.arange(steps, dtype=np.float32)
    words = [[[step, 300], []] if step % 2 else [] for step in range(steps)]
    boxes = [box_yxyx(box) for box in (CARROT_XYXY, PLATE_XYXY)][: len(names)]
    record: Record = {
        "steps/observation/image": [scene_jpeg(seed + step) for step in range(steps)],
        "steps/observation/wrist": [noise_png(seed + step) for step in range(steps)],
        "steps/observation/segmentation": [labels_png(len(names))] * steps,
        **ragged("steps/observation/objects/name", [[n.encode() for n in names]] * steps),
        **ragged("steps/observation/objects/bbox", [boxes] * steps, np.float32),
        **ragged("steps/observation/words", words, np.int64, rank=2),
        "steps/observation/state": np.repeat(numbers, 7) + seed,
        "steps/observation/codes": np.array([codes(f"step {s}") for s in range(steps)], int),
        "steps/observation/flags": np.array([[s % 2 == 0, True] for s in range(steps)], bool),
        "steps/observation/note": [f"note {step}".encode() for step in range(steps)],
        "steps/observation/big": np.array([2**64 - 1 - s for s in range(steps)], np.uint64),
        "steps/observation/half": numbers + 0.5,
        "steps/observation/double": numbers + 0.25,
        "steps/action": np.repeat(numbers, 7) / 8,
        "steps/action_parts/future/xyz": np.arange(6 * steps, dtype=np.float32),
        "steps/language_instruction": [as_bytes(text) for text in texts],
        "steps/is_first": np.arange(steps) == 0,
        "steps/is_last": np.arange(steps) == steps - 1,
        "steps/is_terminal": np.arange(steps) == steps - 1,
        "steps/reward": (np.arange(steps) == steps - 1).astype(np.float32),
        "steps/discount": np.ones(steps, np.float32),
        "episode_metadata/file_path": [f"episode {seed}".encode()],
        "episode_metadata/tags": [b"kitchen", b"day"],
        "episode_metadata/count": np.array([seed]),
        **ragged("episode_metadata/pairs", [[1, 2], [], [3]], np.int64),
    }
    record |= {name.replace("__", "/"): value for name, value in changes.items()}
    return {name: value for name, value in record.items() if value is not None}


def features_json(**changes: object) -> str:
    """features.json of `make_episode`'s records; a change replaces a feature of the steps."""
    step = _fields(
        observation=_fields(
            image=_image(HEIGHT, WIDTH, 3, "jpeg"),
            wrist=_image(4, 6, 3, None),
            segmentation=_image(HEIGHT, WIDTH, 1, "png"),
            objects=_sequence(_fields(name=_TEXT, bbox=_BOX)),
            words=_sequence(_sequence(_tensor("int64"))),
            state=_tensor("float32", 7),
            codes=_tensor("int32", 512),
            flags=_tensor("bool", 2),
            note=_tensor("string"),
            big=_tensor("uint64"),
            half=_tensor("float16"),
            double=_tensor("float64"),
        ),
        action=_tensor("float32", 7),
        action_parts=_fields(**{"future/xyz": _tensor("float32", 2, 3)}),
        language_instruction=_TEXT,
        is_first=_tensor("bool"),
        is_last=_tensor("bool"),
        is_terminal=_tensor("bool"),
        reward=_tensor("float32"),
        discount=_tensor("float32"),
    )
    step["featuresDict"]["features"].update(changes)
    metadata = _fields(
        file_path=_TEXT,
        tags=_sequence(_TEXT),
        count=_tensor("int64"),
        pairs=_sequence(_sequence(_tensor("int64"))),
    )
    steps = {"pythonClassName": f"{_PACKAGE}.dataset_feature.Dataset", **_sequence(step)}
    steps["pythonClassName"] = f"{_PACKAGE}.dataset_feature.Dataset"
    return json.dumps(_fields(steps=steps, episode_metadata=metadata))


def write_tfds_folder(
    root: Path,
    splits: Mapping[str, Sequence[Sequence[Record | bytes]]] | None = None,
    *,
    name: str = DATASET,
    features: str | None = None,
    lengths: Mapping[str, Sequence[int]] | None = None,
) -> Path:
    """Writes ROOT/name/1.0.0 and returns ROOT, what --data-dir takes.

    Args:
        splits: name -> shards -> records; bytes are a record that is serialized already.
        lengths: what dataset_info.json says of the shards, where that is not the truth.
    """
    splits = {"train": [[make_episode()]]} if splits is None else splits
    folder = root / name / VERSION
    folder.mkdir(parents=True)
    for split, shards in splits.items():
        for index, records in enumerate(shards):
            file = folder / f"{name}-{split}.tfrecord-{index:05d}-of-{len(shards):05d}"
            file.write_bytes(b"".join(frame(serialize(record)) for record in records))
    (folder / "features.json").write_text(features or features_json())
    said = {split: list(map(len, shards)) for split, shards in splits.items()} | dict(lengths or {})
    (folder / "dataset_info.json").write_text(dataset_info_json(said, name=name))
    return root


def shard_path(
    root: Path, split: str = "train", index: int = 0, count: int = 1, *, name: str = DATASET
) -> Path:
    """The file of one shard that `write_tfds_folder` wrote."""
    return root / name / VERSION / f"{name}-{split}.tfrecord-{index:05d}-of-{count:05d}"


def dataset_info_json(lengths: Mapping[str, Sequence[int]], *, name: str = DATASET) -> str:
    splits = [
        {
            "name": split,
            "shardLengths": [str(length) for length in found],
            "numBytes": "1",
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        }
        for split, found in lengths.items()
    ]
    info = {"name": name, "version": VERSION, "fileFormat": "tfrecord", "splits": splits}
    return json.dumps({**info, "citation": "@misc{toy}"})


def serialize(record: Record | bytes) -> bytes:
    """The bytes of a tf.train.Example, by protobuf."""
    if isinstance(record, bytes):
        return record
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    for name, values in record.items():
        feature = example.features.feature[name]
        if not isinstance(values, np.ndarray):
            feature.bytes_list.value.extend(values)
        elif values.dtype.kind == "f":
            feature.float_list.value.extend(values.astype(np.float32).ravel().tolist())
        else:
            feature.int64_list.value.extend(values.astype(np.int64).ravel().tolist())
    return example.SerializeToString(deterministic=True)


def frame(payload: bytes) -> bytes:
    """One record as it lies in a TFRecord file."""
    length = struct.pack("<Q", len(payload))
    return length + _masked(length) + payload + _masked(payload)


def make_job(data_dir: Path, out: Path, **options: Any) -> Job:
    """The job of `ilv convert demo --detector source --data-dir ... --out ...`."""
    given = {"dataset": "demo", "data_dir": str(data_dir), "out": str(out), "detector": "source"}
    given |= options
    return plan_job(ConvertOptions(**given))


def convert(data_dir: Path | str, out: Path | str, *arguments: str) -> Converted:
    """Runs `ilv convert demo --detector source --data-dir ... --out ... <arguments>` here."""
    from click.testing import CliRunner

    from ilv_dataset.cli import main

    command = ["convert", *MARKED, "--data-dir", str(data_dir), "--out", str(out), *arguments]
    result = CliRunner().invoke(main, command)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Converted(result.exit_code, result.stderr)


def read_table(path: Path | str) -> list[dict[str, Any]]:
    """The rows of a Parquet file, or of all those in a folder, in the order of their names."""
    import pyarrow.parquet as pq

    path = Path(path)
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def read_tree(root: Path) -> dict[str, bytes]:
    """Every file below `root` that a run leaves, but for its notes and its lock."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] not in (".tmp", ".lock")
    }


@functools.cache
def scene_jpeg(seed: int = 0) -> bytes:
    """A frame of 64 x 48 with a carrot and a plate on a background that differs by `seed`."""
    return encode(scene(seed), "JPEG", quality=90)


def scene(seed: int = 0) -> np.ndarray:
    """The pixels of `scene_jpeg`, (48, 64, 3) uint8 RGB."""
    image = np.full((HEIGHT, WIDTH, 3), 40 + 5 * seed % 150, np.uint8)
    for (x0, y0, x1, y1), colour in ((CARROT_XYXY, (255, 120, 0)), (PLATE_XYXY, (240, 240, 240))):
        image[y0:y1, x0:x1] = colour
    return image


@functools.cache
def noise_png(seed: int = 0, height: int = 4, width: int = 6) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return encode(pixels, "PNG")


@functools.cache
def labels_png(num_objects: int = 2) -> bytes:
    """The label image of `scene`: 1 where the carrot is, 2 where the plate is."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for value, (x0, y0, x1, y1) in enumerate((CARROT_XYXY, PLATE_XYXY)[:num_objects], 1):
        labels[y0:y1, x0:x1] = value
    return encode(labels, "PNG")


def encode(pixels: np.ndarray, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
    """Pixels of a JPEG or PNG, as they are stored."""
    return np.asarray(Image.open(io.BytesIO(data)))


def box_yxyx(box_xyxy: tuple[int, int, int, int]) -> list[float]:
    """A box of the scene as TFDS stores it: (ymin, xmin, ymax, xmax) in 0..1."""
    x0, y0, x1, y1 = box_xyxy
    return [y0 / HEIGHT, x0 / WIDTH, y1 / HEIGHT, x1 / WIDTH]


def codes(text: str, length: int = 512) -> np.ndarray:
    """UTF-8 as zero-padded character codes, (length,) int64."""
    octets = np.frombuffer(text.encode(), np.uint8)
    return np.pad(octets, (0, length - len(octets))).astype(np.int64)


def ragged(path: str, rows: Sequence[Any], dtype: Any = None, *, rank: int = 1) -> Record:
    """How a record holds rows of differing lengths; `dtype` None is bytes."""
    record: Record = {}
    for level in range(rank):
        record[f"{path}/ragged_row_lengths_{level}"] = np.array([len(r) for r in rows], np.int64)
        rows = [value for row in rows for value in row]
    flat: Values = list(rows) if dtype is None else np.array(rows, dtype).ravel()
    return {**record, f"{path}/ragged_flat_values": flat}


def as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def make_phrase(text: str, phrase: str, *, kind: str = "object", query: str = "") -> Phrase:
    """The first occurrence of `phrase` in `text`."""
    start = text.index(phrase)
    return Phrase(phrase, start, start + len(phrase), query or phrase, kind)


def make_span(
    instruction: bytes = INSTRUCTION.encode(),
    *,
    number: int = 0,
    start: int = 0,
    end: int = 2,
    num_steps: int | None = None,
    record_index: int = 0,
    probes: Sequence[Probe] = (),
) -> IndexedSpan:
    span = Span(number, start, end, instruction)
    whole = end if num_steps is None else num_steps
    return IndexedSpan(record_index, 12, 100, whole, span, probes=tuple(probes))


CARROT = make_phrase(INSTRUCTION, "carrot")
PLATE = make_phrase(INSTRUCTION, "plate", kind="container")


def probed(*steps: int, camera: str = CAMERA, **rest: Any) -> IndexedSpan:
    """A span whose probe frames are those of some steps."""
    return make_span(probes=[Probe(camera, step, 0, 0) for step in steps], **rest)


def load_scene(indexed: IndexedSpan, probe: Probe) -> Frame:
    """The frame of a probe: `scene`, on a background that differs by the step."""
    return Frame(probe.camera, probe.step, scene(probe.step))


def make_object(phrase: str = "carrot", **changes: Any) -> GroundedObject:
    found = GroundedObject(
        phrase, 8, 8 + len(phrase), phrase, "object", grounded=True, camera="observation/image",
        frame_index=0, box_xyxy=(8.0, 8.0, 24.0, 16.0), box_score=1.0, mask_rle="{}",
        mask_score=None, scale=9.75, method="detect", verdict="unverified", verifier="none",
        source="episode",
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


def make_row(**changes: Any) -> EpisodeRow:
    """A row of the episodes table: an episode of two steps with one picture."""
    row = EpisodeRow(
        episode_id=f"{DATASET}-train.tfrecord-00000-of-00001__0", span=0, dataset=DATASET,
        split="train", source_shard=f"{DATASET}-train.tfrecord-00000-of-00001", record_index=0,
        step_start=0, step_end=2, instruction=INSTRUCTION, interleaved="put <image> on the plate",
        images=(scene_jpeg(),), objects=(make_object(),), status="interleaved", reason="",
    )  # fmt: skip
    return dataclasses.replace(row, **changes)


def encode_episode_rows(rows: Sequence[EpisodeRow]) -> list[dict[str, object]]:
    """Rows of the episodes table as they are written."""
    return [encode_episode(row) for row in rows]


class FakeDetector:
    """Finds what its table has: query -> (box, score), the same in every frame; remembers."""

    spec = fingerprint = "fake"
    has_masks = False
    is_independent = False
    needs_source_objects = False

    def __init__(self, table: Mapping[Any, tuple[Sequence[float], float]]) -> None:
        """Keys of `table` are queries, or (query, frame_index) for one frame."""
        self.table = table
        self.calls: list[list[tuple[int, tuple[str, ...]]]] = []  # a batch: (step, queries)

    def __call__(
        self, frames: Sequence[Frame], queries: Sequence[Sequence[Phrase]]
    ) -> list[Detections]:
        asked = [tuple(phrase.query for phrase in wanted) for wanted in queries]
        self.calls.append([(f.frame_index, q) for f, q in zip(frames, asked, strict=True)])
        return [self._find(f.frame_index, wanted) for f, wanted in zip(frames, asked, strict=True)]

    def _find(self, step: int, queries: Sequence[str]) -> Detections:
        found = [
            (position, *answer)
            for position, query in enumerate(queries)
            if (answer := self.table.get((query, step), self.table.get(query)))
        ]
        return Detections(
            np.array([box for _, box, _ in found], np.float32).reshape(-1, 4),
            np.array([score for _, _, score in found], np.float32),
            np.array([position for position, _, _ in found], np.int64),
        )


class FakeSegmenter:
    """Cuts the middle half of each box out, or nothing at all; remembers how often it ran."""

    spec = fingerprint = "fake"

    def __init__(self, *, is_blind: bool = False) -> None:
        self.is_blind = is_blind
        self.boxes: list[list[list[float]]] = []
        self.points: list[list[list[float]]] = []
        self.point_score: Callable[[np.ndarray], float] = lambda _: 0.5

    def __call__(
        self, images: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]
    ) -> list[Masks]:
        self.boxes.extend(boxes.tolist() for boxes in boxes_xyxy)
        return [self._cut(image, boxes) for image, boxes in zip(images, boxes_xyxy, strict=True)]

    def segment_points(
        self, images: Sequence[np.ndarray], points_xy: Sequence[np.ndarray]
    ) -> list[Masks]:
        """Cuts 10 x 8 pixels around each point."""
        self.points.extend(points.tolist() for points in points_xy)
        return [self._cut_points(*pair) for pair in zip(images, points_xy, strict=True)]

    def _cut_points(self, image: np.ndarray, points: np.ndarray) -> Masks:
        masks = np.zeros((len(points), *image.shape[:2]), bool)
        for mask, (x, y) in zip(masks, points.astype(int), strict=True):
            if not self.is_blind:
                mask[max(0, y - 4) : y + 4, max(0, x - 5) : x + 5] = True
        return Masks(masks, np.full(len(points), self.point_score(image), np.float32))

    def _cut(self, image: np.ndarray, boxes: np.ndarray) -> Masks:
        masks = np.zeros((len(boxes), *image.shape[:2]), bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int), strict=True):
            if not self.is_blind:
                quarter_x, quarter_y = (x1 - x0) // 4, (y1 - y0) // 4
                mask[y0 + quarter_y : y1 - quarter_y, x0 + quarter_x : x1 - quarter_x] = True
        return Masks(masks, np.full(len(boxes), 0.75, np.float32))


class FakeVerifier:
    """Says what its table has: phrase -> verdict, "match" where it has none; remembers."""

    spec = fingerprint = "fake"

    def __init__(self, table: Mapping[Any, str] | None = None) -> None:
        """Keys of `table` are phrases, or (phrase, frame_index) for one frame."""
        self.table = table or {}
        self.calls: list[list[tuple[str, int]]] = []  # a batch: (phrase, step)
        self.candidates: list[Candidate] = []

    def __call__(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        asked = [(c.phrase, c.sighting.frame_index) for c in candidates]
        self.calls.append(asked)
        self.candidates.extend(candidates)
        values = [self.table.get(key, self.table.get(key[0], "match")) for key in asked]
        return [Verdict(value, f"looks like a {value}") for value in values]


class FakePointFinder(FakeVerifier):
    """Also points at what `points` has: phrase, or (phrase, value of a frame's corner) -> x, y."""

    def __init__(self, table: Mapping[Any, str] | None = None, points: Any = None) -> None:
        super().__init__(table)
        self.points = points or {}
        self.asked: list[list[str]] = []

    def find_points(
        self, images: Sequence[np.ndarray], phrases: Sequence[str]
    ) -> list[tuple[float, float] | None]:
        self.asked.append(list(phrases))
        keys = [
            (phrase, int(image[0, 0, 0])) for image, phrase in zip(images, phrases, strict=True)
        ]
        return [self.points.get(key, self.points.get(key[0])) for key in keys]


_PACKAGE = "tensorflow_datasets.core.features"
_TEXT = {"pythonClassName": f"{_PACKAGE}.text_feature.Text", "text": {}}
_BOX = {"pythonClassName": f"{_PACKAGE}.bounding_boxes.BBoxFeature", "boundingBox": {}}


def _fields(**features: object) -> dict[str, Any]:
    name = f"{_PACKAGE}.features_dict.FeaturesDict"
    return {"pythonClassName": name, "featuresDict": {"features": features}}


def _tensor(dtype: str, *dimensions: int) -> dict[str, Any]:
    shape = {"dimensions": [str(size) for size in dimensions]} if dimensions else {}
    content = {"shape": shape, "dtype": dtype, "encoding": "none"}
    return {"pythonClassName": f"{_PACKAGE}.tensor_feature.Tensor", "tensor": content}


def _image(height: int, width: int, channels: int, form: str | None) -> dict[str, Any]:
    content: dict[str, Any] = {
        "shape": {"dimensions": [str(height), str(width), str(channels)]},
        "dtype": "uint8",
    }
    if form is not None:
        content["encodingFormat"] = form
    return {"pythonClassName": f"{_PACKAGE}.image_feature.Image", "image": content}


def _sequence(feature: object) -> dict[str, Any]:
    name = f"{_PACKAGE}.sequence_feature.Sequence"
    return {"pythonClassName": name, "sequence": {"feature": feature, "length": "-1"}}


def _masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def assert_same_detections(one: Detections, other: Detections) -> None:
    """What two runs of a detector found is the same, but for the last digit that is kept."""
    np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=0.11)
    np.testing.assert_allclose(one.scores, other.scores, atol=0.0011)
    np.testing.assert_array_equal(one.query_indices, other.query_indices)
