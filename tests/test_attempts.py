import json

import pytest

from ilv_dataset.attempts import (
    Attempt,
    Look,
    decode_attempts,
    decode_looks,
    encode_attempts,
    encode_looks,
)

REJECTED = Attempt("detect", "observation/image", 5, "mismatch", "a green block")
REPAIRED = Attempt("repair", "wrist", 0, "match", "an orange carrot", (16.5, 12.0))


def test_attempts_come_back():
    text = encode_attempts([REJECTED, REPAIRED])
    assert decode_attempts(text) == (REJECTED, REPAIRED)
    assert "point_xy" not in json.loads(text)[0]
    assert decode_attempts(encode_attempts([])) == ()


def test_a_reason_becomes_one_short_line_of_ascii():
    text = encode_attempts([Attempt("detect", "image", 0, "unsure", "grün\n\x1b[31m" + "x" * 999)])
    assert text.isascii()
    assert text.isprintable()
    reason = json.loads(text)[0]["reason"]
    assert reason.startswith("grün \x1b[31mxxx")
    assert len(reason) == 200


def test_frames_are_listed_by_method_and_camera():
    looks = [Look("detect", "a", 0), Look("detect", "a", 5), Look("detect", "b", 0),
             Look("repair", "a", 5), Look("repair", "a", 5)]  # fmt: skip
    text = encode_looks(looks)
    assert text == '{"detect": {"a": [0, 5], "b": [0]}, "repair": {"a": [5]}}'
    assert decode_looks(text) == tuple(looks[:4])


@pytest.mark.parametrize(
    "text",
    ["", "{", "5", "[5]", "[{}]", '[{"method": "detect"}]', "[" * 100_000,
     '[{"method": "guess", "camera": "a", "frame_index": 0, "verdict": "match", "reason": ""}]',
     '[{"method": "detect", "camera": "a", "frame_index": 0, "verdict": "yes", "reason": ""}]',
     '[{"method": "detect", "camera": "a", "frame_index": "x", "verdict": "match", "reason": ""}]',
     '[{"method": "repair", "camera": "a", "frame_index": 0, "verdict": "match", "reason": "",'
     ' "point_xy": [1]}]'],
)  # fmt: skip
def test_what_is_no_list_of_attempts_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        decode_attempts(text)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"detect": 5}', '{"detect": {"a": 5}}', '{"guess": {"a": [5]}}',
             '{"detect": {"a": [null]}}']
)  # fmt: skip
def test_what_is_no_table_of_frames_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        decode_looks(text)
