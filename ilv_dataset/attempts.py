"""What was tried for one phrase: the verdicts and the frames, as text for the written rows.

The text is JSON in ASCII, for a column of an RLDS dataset must be flat.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ilv_dataset.fields import METHODS, VERDICTS

REASON_MAX = 200  # characters of a reason that are kept; a model may say more


@dataclass(frozen=True, slots=True)
class Attempt:
    """One crop that a verifier was shown, and what it said."""

    method: str  # one of fields.METHODS
    camera: str
    frame_index: int  # step in the episode
    verdict: str  # one of fields.VERDICTS
    reason: str
    point_xy: tuple[float, float] | None = None  # the key point of a repair, pixels of the frame


@dataclass(frozen=True, slots=True)
class Look:
    """One frame in which a phrase was looked for."""

    method: str
    camera: str
    frame_index: int


def encode_attempts(attempts: Sequence[Attempt]) -> str:
    """A JSON list, in the order in which they were made.

    >>> encode_attempts([Attempt("detect", "image", 5, "match", "an orange carrot")])
    '[{"method": "detect", "camera": "image", "frame_index": 5, "verdict": "match", \
"reason": "an orange carrot"}]'
    """
    return json.dumps([_encode(attempt) for attempt in attempts])


def decode_attempts(text: str) -> tuple[Attempt, ...]:
    """Inverse of `encode_attempts`, but for what it cut off reasons.

    Raises: ValueError if the text is no such list.
    """
    try:
        return tuple(_decode(fields) for fields in json.loads(text))
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not a list of verdicts: {text[:80]!r}") from error


def encode_looks(looks: Sequence[Look]) -> str:
    """A JSON object, method -> camera -> steps in the order in which they were looked at.

    >>> encode_looks([Look("detect", "image", 0), Look("detect", "image", 5)])
    '{"detect": {"image": [0, 5]}}'
    """
    tree: dict[str, dict[str, list[int]]] = {}
    for look in dict.fromkeys(looks):
        tree.setdefault(look.method, {}).setdefault(look.camera, []).append(look.frame_index)
    return json.dumps(tree)


def decode_looks(text: str) -> tuple[Look, ...]:
    """Inverse of `encode_looks`, in the order of methods and cameras.

    Raises: ValueError if the text is no such object.
    """
    try:
        return tuple(
            Look(_known(method, METHODS), camera, int(step))
            for method, cameras in json.loads(text).items()
            for camera, steps in cameras.items()
            for step in steps
        )
    except (AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"not a table of frames: {text[:80]!r}") from error


def _encode(attempt: Attempt) -> dict[str, object]:
    point = {} if attempt.point_xy is None else {"point_xy": attempt.point_xy}
    return {
        "method": attempt.method,
        "camera": attempt.camera,
        "frame_index": attempt.frame_index,
        "verdict": attempt.verdict,
        "reason": " ".join(attempt.reason.split())[:REASON_MAX],
        **point,
    }


def _decode(fields: Mapping[str, Any]) -> Attempt:
    point = None
    if "point_xy" in fields:
        x, y = fields["point_xy"]
        point = (float(x), float(y))
    return Attempt(
        _known(fields["method"], METHODS),
        str(fields["camera"]),
        int(fields["frame_index"]),
        _known(fields["verdict"], VERDICTS),
        str(fields["reason"]),
        point,
    )


def _known(name: object, names: Sequence[str] | Mapping[str, str]) -> str:
    if name not in names:
        raise ValueError(f"expected one of {', '.join(names)}, got {name!r}")
    return str(name)
