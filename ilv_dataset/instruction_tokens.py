"""An instruction as a policy reads it: words as numbers, and which pictures stand in it."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Collection, Sequence
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np

from ilv_dataset.bank import Bank, ImageMix, pick_image
from ilv_dataset.fields import IMAGE_PLACEHOLDER
from ilv_dataset.formats.frames import fit_square
from ilv_dataset.formats.tables import EpisodeRow, GroundedObject
from ilv_dataset.interleave import interleave_instruction
from ilv_dataset.records import Phrase

PADDING, NEXT_IMAGE, FIRST_WORD, NUM_TOKENS = 0, 1, 2, 4096


class InstructionSizes(Protocol):
    """What of a policy's settings decides the form of an instruction."""

    @property
    def crop_px(self) -> int:
        """Side of a picture."""

    @property
    def max_images(self) -> int:
        """Pictures of an instruction; further ones are spelt out."""

    @property
    def max_tokens(self) -> int:
        """Words and pictures of an instruction; further ones are cut off."""


class EncodedInstruction(NamedTuple):
    """One instruction as arrays."""

    tokens: np.ndarray  # (max_tokens,) int64
    images: np.ndarray  # (max_images, 3, crop_px, crop_px) uint8 RGB
    image_mask: np.ndarray  # (max_images,) bool


def encode_words(text: str) -> list[int]:
    """One token a word, 2 to 4095, by SHA-256 of its lower case; `<image>` is NEXT_IMAGE.

    >>> encode_words("<image>")
    [1]
    """
    first, *others = (
        [_word_token(word) for word in re.findall(r"\w+", part.lower())]
        for part in text.split(IMAGE_PLACEHOLDER)  # as it is: "<Image>" is a word
    )
    return first + [token for other in others for token in (NEXT_IMAGE, *other)]


def encode_instruction(
    interleaved: str, images: Sequence[np.ndarray], config: InstructionSizes
) -> EncodedInstruction:
    """Tokens and images of one instruction; an image whose token is cut off is left out.

    Args:
        images: (H, W, 3) uint8 RGB, one for each `<image>`, at most `max_images`.

    Raises: ValueError where there are more or fewer.
    """
    tokens = encode_words(interleaved)
    num_images = tokens.count(NEXT_IMAGE)
    if num_images != len(images) or num_images > config.max_images:
        raise ValueError(
            f"{interleaved!r} has {num_images} images, got {len(images)}, "
            f"expected at most {config.max_images}"
        )
    tokens = tokens[: config.max_tokens]
    side, num_images = config.crop_px, tokens.count(NEXT_IMAGE)
    squares = np.zeros((config.max_images, side, side, 3), np.uint8)
    for position, image in enumerate(images[:num_images]):
        squares[position] = fit_square(image, side)
    return EncodedInstruction(
        tokens=np.pad(np.array(tokens, np.int64), (0, config.max_tokens - len(tokens))),
        images=squares.transpose(0, 3, 1, 2),
        image_mask=np.arange(config.max_images) < num_images,
    )


def pick_images(
    row: EpisodeRow, mix: ImageMix, bank: Bank | None, *, seed: int, epoch: int, max_images: int
) -> tuple[str, list[bytes]]:
    """The interleaved instruction of a span and its encoded pictures, as the mix has them.

    Where the mix wants words, and behind the first `max_images` pictures, the instruction's own
    stand, articles too; all of it where no picture is left.

    Raises: ConfigError where the mix needs a bank.
    """
    if not row.images:
        return row.instruction, []
    grounded = [found for found in row.objects if found.grounded]
    shown: dict[int, bytes] = {}  # by place among the grounded
    for slot, (found, own) in enumerate(zip(grounded, row.images, strict=True)):
        if len(shown) == max_images:
            break
        jpeg = pick_image(
            mix, bank, seed=seed, epoch=epoch, span_id=row.span_id,
            episode_id=row.episode_id, slot=slot, name=found.phrase, own=own,
        ).jpeg  # fmt: skip
        if jpeg is not None:
            shown[slot] = jpeg
    return _place_images(row, grounded, shown), list(shown.values())


def _place_images(
    row: EpisodeRow, grounded: Sequence[GroundedObject], shown: Collection[int]
) -> str:
    """The instruction with a placeholder for each of the objects that are shown."""
    if not shown:
        return row.instruction
    phrases = [
        Phrase(found.phrase, found.start, found.end, found.query, found.kind) for found in grounded
    ]
    with contextlib.suppress(ValueError):
        if interleave_instruction(row.instruction, phrases) == row.interleaved:
            return interleave_instruction(row.instruction, [phrases[slot] for slot in shown])
    # They index a summary, of which only its interleaved form is in the row.
    text, *rest = row.interleaved.split(IMAGE_PLACEHOLDER)
    for slot, (phrase, behind) in enumerate(zip(phrases, rest, strict=True)):
        text += (IMAGE_PLACEHOLDER if slot in shown else phrase.phrase) + behind
    return text


@cache
def _word_token(word: str) -> int:
    number = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
    return FIRST_WORD + number % (NUM_TOKENS - FIRST_WORD)
