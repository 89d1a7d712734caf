"""Fits specs to a features.json: checks the keys of a registered dataset, finds any other's."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from ilv_dataset.dataset_specs import VECTOR_LENGTH, Camera, DatasetSpec, VectorPart
from ilv_dataset.errors import ConfigError
from ilv_dataset.formats.features import Feature

# Names that TFDS datasets give to instructions, and words that others contain.
_INSTRUCTION_NAMES = ("language_instruction", "natural_language_instruction", "instruction")
_INSTRUCTION_WORDS = re.compile(r"instruction|language|command|task|goal|caption|prompt")
# Views in which objects are rarely whole, and pictures that are none.
_WRIST_WORDS = re.compile(r"wrist|gripper|(^|[_/])hand([_/]|$)")
_DEPTH_WORDS = re.compile(r"depth|segmentation|mask|tactile")


def check_spec(spec: DatasetSpec, features: Sequence[Feature]) -> None:
    """Checks that features.json has every key that the spec promises, in the form it needs.

    Raises: ConfigError naming what is missing or of another form, and what is there.
    """
    steps = _by_key(features)
    faults = [*_camera_faults(spec, steps), *_instruction_faults(spec, features)]
    faults += [*_source_object_faults(spec, steps)]
    for part in (*spec.action, *spec.state):
        faults += _part_faults(part, steps)
    if faults:
        there = ", ".join(steps) or "nothing"
        raise ConfigError(
            f"features.json does not fit {spec.key} ({spec.tfds_name} {spec.version}): "
            f"{'; '.join(dict.fromkeys(faults))}; the steps hold {there}"
        )


def fit_vectors(spec: DatasetSpec, features: Sequence[Feature]) -> DatasetSpec:
    """The spec with 7-D actions: those of the registry, or else `action` as it is.

    Without seven numbers at `observation/state` there is no state.

    Raises: ConfigError where neither is there, saying what is.
    """
    if spec.action:
        return spec
    steps = _by_key(features)
    if not _is_vector(steps.get("action")):
        there = ", ".join(
            f"{name} {step.dtype}{list(step.shape)}"
            for name, step in steps.items()
            if step.kind == "tensor" and step.dtype != "string"
        )
        raise ConfigError(
            f"{spec.tfds_name}: no 7-D action is known of it; expected `action`, float32[7] "
            "(x, y, z, roll, pitch, yaw, gripper), in its steps, or an entry of the registry "
            f"that maps it; numbers there: {there or 'none'}"
        )
    action = (VectorPart("copy", VECTOR_LENGTH, "action", 0, VECTOR_LENGTH),)
    if not _is_vector(steps.get("observation/state")):
        return replace(spec, action=action)
    state = VectorPart("copy", VECTOR_LENGTH, "observation/state", 0, VECTOR_LENGTH)
    return replace(spec, action=action, state=(state,), state_kind="unknown")


def detect_spec(
    tfds_name: str,
    version: str,
    features: Sequence[Feature],
    *,
    image_keys: Sequence[str] = (),
    instruction_key: str | None = None,
) -> DatasetSpec:
    """Makes the spec of a dataset that is not registered from its features.

    Args:
        tfds_name: name in dataset_info.json, becomes the key as well.
        version: version in dataset_info.json.
        features: the decoded features.json.
        image_keys: the option --image-key; empty takes every colour image, main views first; those
            that are no photos, such as depth, are then not searched for objects.
        instruction_key: the option --instruction-key; None takes the obvious one, of the steps
            or else of the episode.

    Raises:
        ConfigError: no or several candidates; the message names the option that settles it.
    """
    steps = _by_key(features)
    instruction = _find_instruction(tfds_name, features, instruction_key)
    return DatasetSpec(
        key=tfds_name,
        tfds_name=tfds_name,
        version=version,
        cameras=tuple(_find_cameras(tfds_name, steps, image_keys)),
        instruction_key=instruction.key,
        instruction_decoder="codes" if _is_codes(instruction) else "text",
    )


def _by_key(features: Sequence[Feature]) -> dict[str, Feature]:
    return {feature.key: feature for feature in features if feature.in_steps}


def _instructions(features: Sequence[Feature]) -> dict[str, Feature]:
    """What can hold an instruction, of the episode or of a step; that of a step goes first."""
    usable = [feature for feature in features if _is_text(feature) or _is_codes(feature)]
    return {feature.key: feature for feature in usable if not feature.in_steps} | _by_key(usable)


def _is_text(feature: Feature) -> bool:
    is_string = feature.kind == "text" or (feature.kind == "tensor" and feature.dtype == "string")
    return is_string and feature.shape in ((), (1,)) and feature.sequence_rank == 0


def _is_codes(feature: Feature) -> bool:
    is_integer = feature.kind == "tensor" and feature.dtype.lstrip("u").startswith("int")
    return is_integer and len(feature.shape) == 1 and feature.sequence_rank == 0


def _is_vector(feature: Feature | None) -> bool:
    """Whether it is seven floating numbers a step."""
    if feature is None or feature.kind != "tensor" or feature.sequence_rank:
        return False
    return feature.shape == (VECTOR_LENGTH,) and "float" in feature.dtype


def _is_picture(feature: Feature) -> bool:
    """Whether it is an image of 8 bits, of any number of channels."""
    return feature.kind == "image" and feature.sequence_rank == 0 and feature.dtype == "uint8"


def _is_colour_image(feature: Feature) -> bool:
    return _is_picture(feature) and feature.shape[-1] in (3, 4, None)


def _camera_faults(spec: DatasetSpec, steps: Mapping[str, Feature]) -> Iterator[str]:
    for camera in spec.cameras:
        if camera.key not in steps:
            yield f"no {camera.key}"
        elif not _is_colour_image(steps[camera.key]):
            yield f"{camera.key} is no image of 3 or 4 channels"


def _instruction_faults(spec: DatasetSpec, features: Sequence[Feature]) -> Iterator[str]:
    there = {feature.key: feature for feature in features}
    feature = (there | _by_key(features)).get(spec.instruction_key)
    if feature is None:
        yield f"no {spec.instruction_key}"
    elif spec.instruction_decoder == "text" and not _is_text(feature):
        yield f"{spec.instruction_key} is no text"
    elif spec.instruction_decoder == "codes" and not _is_codes(feature):
        yield f"{spec.instruction_key} is no list of character codes"


def _source_object_faults(spec: DatasetSpec, steps: Mapping[str, Feature]) -> Iterator[str]:
    if spec.source_objects is None:
        return
    names = steps.get(spec.source_objects.names)
    boxes = steps.get(spec.source_objects.boxes)
    labels = steps.get(spec.source_objects.labels)
    if names is None or names.dtype != "string" or names.sequence_rank != 1:
        yield f"no list of names {spec.source_objects.names}"
    if boxes is None or boxes.shape != (4,) or boxes.sequence_rank != 1:
        yield f"no list of boxes {spec.source_objects.boxes}"
    if labels is None or labels.kind != "image" or labels.shape[-1] != 1:
        yield f"no label image {spec.source_objects.labels}"


def _part_faults(part: VectorPart, steps: Mapping[str, Feature]) -> Iterator[str]:
    if not part.key:
        return
    feature = steps.get(part.key)
    if feature is None:
        yield f"no {part.key}"
    elif feature.kind != "tensor" or feature.num_values is None or feature.num_values < part.stop:
        yield f"{part.key} has not the {part.stop} numbers that are needed"


def _find_instruction(tfds_name: str, features: Sequence[Feature], key: str | None) -> Feature:
    usable = _instructions(features)
    in_steps = [name for name, feature in usable.items() if feature.in_steps]
    texts = [name for name, feature in usable.items() if _is_text(feature)]
    if key is not None:
        option = "--instruction-key"
        return usable[_match_key(tfds_name, key, usable, "text", option, preferred=in_steps)]
    named = [name for name in usable if name.rsplit("/", 1)[-1] in _INSTRUCTION_NAMES]
    telling = [name for name in texts if _INSTRUCTION_WORDS.search(name)]
    candidates = (
        [name for name in named if name in in_steps]
        or [name for name in telling if name in in_steps]
        or named
        or telling
    )
    if len(candidates) == 1:
        return usable[candidates[0]]
    what = "several texts could be the instruction" if candidates else "no obvious instruction"
    there = ", ".join(candidates or texts) or "none"
    raise ConfigError(
        f"{tfds_name}: {what}; say which with --instruction-key KEY; candidates: {there}"
    )


def _find_cameras(
    tfds_name: str, steps: Mapping[str, Feature], image_keys: Sequence[str]
) -> Iterator[Camera]:
    images = {name: step for name, step in steps.items() if _is_colour_image(step)}
    if image_keys:
        images = {name: step for name, step in steps.items() if _is_picture(step)}
        keys = [_match_key(tfds_name, key, images, "image", "--image-key") for key in image_keys]
    else:
        observed = [name for name in images if name.startswith("observation/")]
        found = observed if any(map(_is_photo, observed)) else images
        keys = sorted(found, key=lambda name: (_view_rank(name), name))
    if not image_keys and not any(map(_is_photo, keys)):
        others = ", ".join(name for name, step in steps.items() if step.kind == "image") or "none"
        raise ConfigError(
            f"{tfds_name}: no image of 3 or 4 channels in the steps to search for objects "
            f"(--image-key KEY names one); images there: {others}"
        )
    for number, key in enumerate(keys):
        height, width, _ = images[key].shape
        role = "wrist" if _view_rank(key) == 1 else "main" if number == 0 else "secondary"
        size_hw = (height, width) if height is not None and width is not None else None
        is_probed = bool(image_keys) or _is_photo(key)
        yield Camera(key, role=role, size_hw=size_hw, is_probed=is_probed)


def _view_rank(key: str) -> int:
    """0 for a view of the scene, 1 for one from the hand, 2 for a picture that is no photo."""
    return 2 if _DEPTH_WORDS.search(key) else 1 if _WRIST_WORDS.search(key) else 0


def _is_photo(key: str) -> bool:
    return _view_rank(key) < 2


def _match_key(
    tfds_name: str,
    key: str,
    there: Mapping[str, Feature],
    what: str,
    option: str,
    *,
    preferred: Collection[str] = (),
) -> str:
    """The full key that a user means: as it is, with `steps/` before it, or its last parts.

    Of several, one of `preferred` is meant.
    """
    name = key.removeprefix("steps/")
    matches = [name] if name in there else [full for full in there if full.endswith(f"/{name}")]
    matches = [full for full in matches if full in preferred] or matches
    if len(matches) != 1:
        raise ConfigError(
            f"{tfds_name}: {option} {key!r} names {'several' if matches else 'no'} {what}s; "
            f"there is: {', '.join(matches or there) or 'none'}"
        )
    return matches[0]
