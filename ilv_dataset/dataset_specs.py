"""What is known of a dataset: its source, its keys, its robot. Values, and how TOML spells them.

The entries themselves are in `datasets.toml`; `datasets.py` finds them and checks them against
a features.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BUNDLED = "bundled"

CHANNEL_ORDERS = ("rgb", "bgr")
CAMERA_ROLES = ("main", "secondary", "wrist")
DECODERS = {
    "text": "bytes of UTF-8",
    "codes": "integers, one a byte of UTF-8, padded with zeros",
}
TRANSFORMS = {
    "copy": "the numbers as they are, as floats",
    "invert": "1 - x",
    "clip-invert": "1 - x, x clipped to 0..1 first",
    "rel2abs": "a relative gripper (1 closes, -1 opens, 0 keeps), integrated to 1 open, 0 closed",
    "euler": "a quaternion x, y, z, w as roll, pitch, yaw",
    "zeros": "zeros, without a source",
    "ones": "ones, without a source",
}
STATE_KINDS = {
    "pose": "x, y, z, roll, pitch, yaw, gripper",
    "joints": "joint angles, for no pose is given; then the gripper where there is one",
    "unknown": "seven numbers of a dataset that is not registered",
    "": "not mapped",
}
ROTATIONS = ("roll-pitch-yaw", "axis-angle")
VECTOR_LENGTH = 7


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera of a dataset."""

    key: str  # relative to a step, e.g. "observation/image"
    channel_order: str = "rgb"  # of the decoded image: "rgb" | "bgr"
    role: str = "main"  # one of CAMERA_ROLES
    size_hw: tuple[int, int] | None = None  # pixels in the full release; None where not known
    is_probed: bool = True  # whether its frames are searched for objects

    def __post_init__(self) -> None:
        _check_one_of("channel_order", self.channel_order, CHANNEL_ORDERS)
        _check_one_of("role", self.role, CAMERA_ROLES)


@dataclass(frozen=True, slots=True)
class Split:
    """What the full release holds of one split."""

    name: str
    num_episodes: int
    num_shards: int


@dataclass(frozen=True, slots=True)
class VectorPart:
    """A piece of the 7-D action or state: `transform` of the source's values [start, stop)."""

    transform: str  # one of TRANSFORMS
    num_values: int  # how many numbers it yields
    key: str = ""  # relative to a step; "" where the transform takes no source
    start: int = 0
    stop: int = 0

    def __post_init__(self) -> None:
        _check_one_of("transform", self.transform, TRANSFORMS)
        if (self.transform in ("zeros", "ones")) != (self.key == ""):
            raise ValueError(f"{self.transform} with the source {self.key!r}")


@dataclass(frozen=True, slots=True)
class SourceObjectKeys:
    """Where a dataset keeps the boxes and masks of objects that it carries itself.

    `names` and `boxes` are sequences of one length a step; box i is TFDS's BBox (ymin, xmin,
    ymax, xmax, normalised). In the image `labels`, (H, W, 1) uint8, object i has the value i + 1.
    """

    camera: str  # whose pixels the boxes and labels mean
    names: str
    boxes: str
    labels: str


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """Everything that is known of one dataset; keys are relative to a step."""

    key: str  # the name people use, e.g. "bridge"
    tfds_name: str  # the folder's name, e.g. "bridge_dataset"
    version: str  # "" where any will do
    title: str = ""
    source: str = ""  # gs://..., https://..., BUNDLED, or "" where only a folder is given
    splits: tuple[Split, ...] = ()
    size_gib: float | None = None
    cameras: tuple[Camera, ...] = ()  # main first, in the order in which they are probed
    instruction_key: str = ""  # of a step, or else of the episode
    instruction_decoder: str = "text"  # one of DECODERS
    is_long_instruction: bool = False  # paragraphs, to be summarised first
    share_without_instruction: float = 0.0  # of the episodes, about
    action: tuple[VectorPart, ...] = ()  # yields 7 numbers; empty where not mapped
    state: tuple[VectorPart, ...] = ()
    state_kind: str = ""  # one of STATE_KINDS
    rotation: str = "roll-pitch-yaw"  # what numbers 3 to 5 of action and pose are
    drop_first_step: bool = False  # its action is no action
    hz: float | None = None
    robot: str = ""
    license: str = ""
    citation: str = ""
    notes: str = ""
    source_objects: SourceObjectKeys | None = None
    detector: str = ""  # what finds its objects by default, and cuts them out; "" as all others
    segmenter: str = ""

    def __post_init__(self) -> None:
        _check_one_of("instruction_decoder", self.instruction_decoder, DECODERS)
        _check_one_of("state_kind", self.state_kind, STATE_KINDS)
        _check_one_of("rotation", self.rotation, ROTATIONS)
        if self.action and sum(part.num_values for part in self.action) != VECTOR_LENGTH:
            raise ValueError(f"{self.key}: the parts of the action do not yield {VECTOR_LENGTH}")
        num_state = sum(part.num_values for part in self.state)
        if self.state_kind == "pose" and num_state != VECTOR_LENGTH:
            raise ValueError(f"{self.key}: the parts of the pose yield {num_state} numbers")
        if bool(self.state) != bool(self.state_kind):
            raise ValueError(f"{self.key}: state and state_kind go together")

    @property
    def num_episodes(self) -> int | None:
        """Episodes of all splits of the full release; None where not known."""
        return sum(split.num_episodes for split in self.splits) if self.splits else None

    @property
    def num_shards(self) -> int | None:
        """Shards of all splits of the full release; None where not known."""
        return sum(split.num_shards for split in self.splits) if self.splits else None

    @property
    def probe_cameras(self) -> tuple[Camera, ...]:
        """The cameras whose frames are searched for objects, in order."""
        return tuple(camera for camera in self.cameras if camera.is_probed)


@dataclass(frozen=True, slots=True)
class MixturePart:
    """One dataset of a mixture and how many of its source episodes are taken at most."""

    dataset: str
    max_episodes: int


@dataclass(frozen=True, slots=True)
class Mixture:
    """Several datasets that are converted one after another."""

    name: str
    title: str
    parts: tuple[MixturePart, ...]


def decode_spec(key: str, entry: Mapping[str, Any]) -> DatasetSpec:
    """Decodes one `[datasets.KEY]` table; an unknown field is a TypeError."""
    fields = dict(entry)
    for name in ("action", "state"):
        fields[name] = tuple(_decode_part(part) for part in fields.get(name, ()))
    fields["cameras"] = tuple(_decode_camera(camera) for camera in fields.get("cameras", ()))
    fields["splits"] = tuple(Split(**split) for split in fields.get("splits", ()))
    if "source_objects" in fields:
        fields["source_objects"] = SourceObjectKeys(**fields["source_objects"])
    return DatasetSpec(key=key, **fields)


def decode_mixture(name: str, entry: Mapping[str, Any]) -> Mixture:
    """Decodes one `[mixtures.NAME]` table."""
    caps = entry["max_episodes"].items()
    parts = tuple(MixturePart(dataset, max_episodes) for dataset, max_episodes in caps)
    return Mixture(name, entry["title"], parts)


def _decode_camera(camera: Mapping[str, Any]) -> Camera:
    fields = dict(camera)
    if "size_hw" in fields:
        height, width = fields.pop("size_hw")
        fields["size_hw"] = (height, width)
    return Camera(**fields)


def _decode_part(part: Mapping[str, Any]) -> VectorPart:
    transform = part.get("transform", "copy")
    if "slice" not in part:
        return VectorPart(transform, part["num_values"])
    start, stop = part["slice"]
    num_values = 3 if transform == "euler" else stop - start
    return VectorPart(transform, num_values, part["key"], start, stop)


def _check_one_of(name: str, value: str, known: Mapping[str, str] | tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
