import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from ilv_dataset.bank import ImageMix
from ilv_dataset.formats.tables import EpisodeRow, GroundedObject
from ilv_dataset.instruction_tokens import encode_instruction, encode_words, pick_images

SIZES = SimpleNamespace(crop_px=2, max_images=2, max_tokens=5)
RED, BLUE = (np.full((2, 2, 3), colour, np.uint8) for colour in ([255, 0, 0], [0, 0, 255]))


def test_words_have_the_numbers_that_their_sha_256_gives():
    # printf put | sha256sum begins with 373cb2c6d4fe2778, which is 46 modulo 4094.
    assert encode_words("put") == [48]
    assert encode_words("PUT, put!") == encode_words("put") * 2
    assert encode_words("") == []


def test_placeholders_are_the_next_image():
    put, on = encode_words("put"), encode_words("on")
    assert encode_words("put <image> on <image>.") == [*put, 1, *on, 1]
    assert all(2 <= token < 4096 for token in put + on)


def test_a_word_that_is_written_like_a_placeholder_is_a_word():
    assert encode_words("lift <Image>") == encode_words("lift image")
    assert encode_words("<image><IMAGE>") == [1, *encode_words("image")]
    assert not encode_instruction("lift <Image>", (), SIZES).image_mask.any()


def test_instruction_is_padded_and_its_images_follow_the_tokens():
    found = encode_instruction("put <image> on <image>", [RED, BLUE], SIZES)
    put, on = encode_words("put on")
    assert found.tokens.tolist() == [put, 1, on, 1, 0]
    assert found.tokens.dtype == np.int64
    assert found.images[0, :, 0, 0].tolist() == [255, 0, 0]
    assert found.images[1, :, 0, 0].tolist() == [0, 0, 255]
    assert found.images.shape == (2, 3, 2, 2)
    assert found.image_mask.tolist() == [True, True]


def test_an_image_whose_token_is_cut_off_is_left_out():
    found = encode_instruction("a b <image> c d <image>", [RED, BLUE], SIZES)
    assert found.tokens.tolist().count(1) == 1
    assert found.image_mask.tolist() == [True, False]
    assert found.images[1].max() == 0


def test_a_text_has_no_image():
    found = encode_instruction("close it", (), SIZES)
    assert found.image_mask.tolist() == [False, False]
    assert found.images.max() == 0


@pytest.mark.parametrize(
    ("text", "images"), [("<image>", []), ("put", [RED]), ("<image> <image> <image>", [RED] * 3)]
)
def test_error_when_images_and_placeholders_do_not_fit(text, images):
    with pytest.raises(ValueError, match="expected at most 2"):
        encode_instruction(text, images, SIZES)


ROW = EpisodeRow(
    episode_id="demo__0", span=0, dataset="demo", split="train", source_shard="", record_index=0,
    step_start=0, step_end=2, instruction="put the carrot and the cup on the table by the plate",
    interleaved="put <image> and <image> on the table by <image>", images=(b"1", b"2", b"3"),
    objects=tuple(
        GroundedObject(name, start, start + len(name), name, "object", grounded=name != "table")
        for name, start in (("carrot", 8), ("cup", 23), ("table", 34), ("plate", 47))
    ),
    status="interleaved", reason="",
)  # fmt: skip


def pick(mix: ImageMix, row: EpisodeRow = ROW, *, epoch: int = 0, max_images: int = 3):
    return pick_images(row, mix, None, seed=0, epoch=epoch, max_images=max_images)


def test_own_crops_stand_where_the_instruction_has_them():
    assert pick(ImageMix()) == (ROW.interleaved, [b"1", b"2", b"3"])


def test_further_images_are_spelt_out():
    assert pick(ImageMix(), max_images=2) == (
        "put <image> and <image> on the table by the plate",
        [b"1", b"2"],
    )
    assert pick(ImageMix(), max_images=0) == (ROW.instruction, [])


def test_words_stand_where_the_mix_wants_them():
    assert pick(ImageMix(own=0, text=1)) == (ROW.instruction, [])
    half = [pick(ImageMix(own=1, text=1), epoch=epoch) for epoch in range(40)]
    assert pick(ImageMix(own=1, text=1), epoch=7) == half[7]
    assert 40 < sum(len(images) for _, images in half) < 80
    for text, images in half:
        assert text.count("<image>") == len(images)
        for jpeg, phrase in ((b"1", "the carrot"), (b"2", "the cup"), (b"3", "the plate")):
            assert (phrase in text) != (jpeg in images)


def test_phrases_of_a_summary_stand_alone():
    row = dataclasses.replace(
        ROW, instruction="please, put the carrot and also the cup there by the plate"
    )
    assert pick(ImageMix(), row, max_images=2)[0] == "put <image> and <image> on the table by plate"
    assert pick(ImageMix(), row) == (ROW.interleaved, [b"1", b"2", b"3"])
    assert pick(ImageMix(own=0, text=1), row) == (row.instruction, [])


def test_a_span_without_crops_is_its_text():
    row = dataclasses.replace(ROW, images=(), interleaved="", status="text_only")
    assert pick(ImageMix(), row) == (ROW.instruction, [])
