import io
import struct

import pytest
from builders import frame
from hypothesis import given, settings
from hypothesis import strategies as st

from ilv_dataset.formats.tfrecord import (
    BrokenRecord,
    RawRecord,
    frame_record,
    mask_crc,
    read_record_at,
    read_records,
    stream_record,
    unmask_crc,
)

# The records b"abc" and b"", written by tf.io.TFRecordWriter of TensorFlow 2.21.
BY_TENSORFLOW = bytes.fromhex(
    "0300000000000000b099490e6162636e57f121" + "000000000000000029039807d8ea82a2"
)


def read(data, *, size=None):
    return list(read_records(io.BytesIO(data), size=len(data) if size is None else size))


def test_read_records_that_tensorflow_wrote():
    assert read(BY_TENSORFLOW) == [
        RawRecord(0, 12, b"abc", 0x364B3FB7),
        RawRecord(1, 31, b"", 0),
    ]


def test_frame_record_is_what_tensorflow_writes():
    assert b"".join(frame_record(b"abc") + frame_record(b"")) == BY_TENSORFLOW


def test_frame_record_extends_a_known_checksum():
    whole = b"".join(frame_record(b"abc"))
    assert b"".join(frame_record(b"ab", b"", b"c")) == whole
    assert b"".join(frame_record(b"a", b"bc", crc=0xC1D04330)) == whole


def test_stream_record_is_frame_record_piece_by_piece():
    pieces = iter([b"a", b"", b"bc"])
    assert b"".join(stream_record(pieces, num_bytes=3)) == b"".join(frame_record(b"abc"))


def test_an_empty_file_has_no_records():
    assert read(b"") == []


@pytest.mark.parametrize("crc", [0, 1, 0x364B3FB7, 0xFFFFFFFF])
def test_unmask_crc_is_the_inverse_of_mask_crc(crc):
    assert unmask_crc(mask_crc(crc)) == crc


def test_a_wrong_payload_checksum_breaks_one_record_and_reading_goes_on():
    data = bytearray(frame(b"one") + frame(b"two") + frame(b"three"))
    data[19 + 12] ^= 1
    first, second, third = read(bytes(data))
    assert (first.payload, third.payload, third.index, third.offset) == (b"one", b"three", 2, 50)
    assert (second.index, second.reason) == (1, "wrong-checksum")
    assert "stored CRC32C" in second.message


def test_a_wrong_length_checksum_ends_the_file():
    data = bytearray(frame(b"one") + frame(b"two") + frame(b"three"))
    data[19 + 8] ^= 1
    first, second = read(bytes(data))
    assert first.payload == b"one"
    assert (second.index, second.reason) == (1, "wrong-length-checksum")


@pytest.mark.parametrize(
    ("length", "reason"),
    [
        (2**60, "absurd-length"),
        (2**64 - 1, "absurd-length"),
        (2**31, "absurd-length"),
        (2**31 - 1, "truncated-record"),
        (4, "truncated-record"),
    ],
)
def test_a_length_beyond_the_file_is_never_read(length, reason):
    header = struct.pack("<Q", length)
    crc = frame(header)[-4:]  # the masked checksum of these eight bytes
    (only,) = read(header + crc + b"abc" + b"\0\0\0\0")
    assert (only.index, only.reason) == (0, reason)
    assert str(length) in only.message


@pytest.mark.parametrize("kept", [1, 11, 12, 14, 15, 18])
def test_a_cut_in_header_payload_or_footer_is_a_truncated_record(kept):
    first, second = read(frame(b"one") + frame(b"two")[:kept])
    assert first.payload == b"one"
    assert (second.index, second.reason) == (1, "truncated-record")


def test_a_file_that_shrinks_while_it_is_read_is_a_truncated_record():
    data = frame(b"one")
    assert [r.reason for r in read(data[:-2], size=len(data))] == ["truncated-record"]
    assert [r.reason for r in read(data[:14], size=len(data))] == ["truncated-record"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=4), st.data())
def test_any_prefix_gives_the_records_before_the_cut_and_one_fault(payloads, data):
    framed = [frame(payload) for payload in payloads]
    whole = b"".join(framed)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [0]
    for part in framed:
        ends.append(ends[-1] + len(part))
    num_whole = sum(end <= cut for end in ends[1:])
    found = read(whole[:cut])
    assert [r.payload for r in found if isinstance(r, RawRecord)] == payloads[:num_whole]
    broken = [r for r in found if isinstance(r, BrokenRecord)]
    assert len(broken) == (cut not in ends)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100))
def test_no_bytes_raise(data):
    assert all(isinstance(record, RawRecord | BrokenRecord) for record in read(data))


def test_read_record_at_gives_the_payload_and_its_checksum():
    file = io.BytesIO(BY_TENSORFLOW)
    assert read_record_at(file, offset=31, length=0) == (b"", 0)
    assert read_record_at(file, offset=12, length=3) == (b"abc", 0x364B3FB7)


@pytest.mark.parametrize(
    ("offset", "length", "message"),
    [
        (12, 4, "record at byte 12 has 3 bytes, not 4"),
        (500, 3, "record at byte 500 has 0 bytes, not 3"),
    ],
)
def test_read_record_at_a_place_that_no_longer_holds_it(offset, length, message):
    with pytest.raises(ValueError, match=message):
        read_record_at(io.BytesIO(BY_TENSORFLOW), offset=offset, length=length)


@pytest.mark.parametrize("data", [BY_TENSORFLOW.replace(b"abc", b"abd"), BY_TENSORFLOW[:17]])
def test_read_record_at_checks_the_checksum_again(data):
    with pytest.raises(ValueError, match="record at byte 12 has another checksum"):
        read_record_at(io.BytesIO(data), offset=12, length=3)
