"""TFRecord framing: length, checksum of the length, payload, checksum of the payload.

Knows nothing about what a payload holds. Checksums are CRC32C, masked as TensorFlow masks them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import google_crc32c

HEADER_BYTES = 12  # uint64 length, uint32 masked CRC32C of the length
FOOTER_BYTES = 4  # uint32 masked CRC32C of the payload
ABSURD_LENGTH = 2**31  # bytes; a protobuf message cannot be longer
_GZIP = b"\x1f\x8b\x08"  # RFC 1952
_MASK_DELTA = 0xA282EAD8  # tensorflow/core/lib/hash/crc32c.h


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One record whose framing and checksum are right."""

    index: int  # in the shard
    offset: int  # of the payload in the file, bytes
    payload: bytes
    crc32c: int  # of the payload, not masked


@dataclass(frozen=True, slots=True)
class BrokenRecord:
    """One record that could not be read; `reason` is one of `fields.FAILED_REASONS`."""

    index: int
    reason: str
    message: str


def mask_crc(crc: int) -> int:
    """Masks a CRC32C the way TFRecord files store it."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def unmask_crc(masked: int) -> int:
    """Inverse of `mask_crc`."""
    rotated = (masked - _MASK_DELTA) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def frame_record(payload: bytes, *appended: bytes, crc: int | None = None) -> tuple[bytes, ...]:
    """Parts of the framed record of `payload` + `appended`, to be written in order.

    Args:
        crc: CRC32C of `payload` where it is known already; it is extended, not recomputed.
    """
    total = google_crc32c.value(payload) if crc is None else crc
    for part in appended:
        total = google_crc32c.extend(total, part)
    length = struct.pack("<Q", len(payload) + sum(map(len, appended)))
    header = length + struct.pack("<I", mask_crc(google_crc32c.value(length)))
    return (header, payload, *appended, struct.pack("<I", mask_crc(total)))


def stream_record(pieces: Iterable[bytes], *, num_bytes: int) -> Iterator[bytes]:
    """Parts of the framed record of pieces that are `num_bytes` long in all, one at a time."""
    length = struct.pack("<Q", num_bytes)
    yield length + struct.pack("<I", mask_crc(google_crc32c.value(length)))
    crc = 0
    for piece in pieces:
        crc = google_crc32c.extend(crc, piece)
        yield piece
    yield struct.pack("<I", mask_crc(crc))


def read_records(file: BinaryIO, *, size: int) -> Iterator[RawRecord | BrokenRecord]:
    """Streams the records of one shard of `size` bytes, one in memory at a time.

    A wrong payload checksum is one `BrokenRecord` and reading goes on; where the framing itself
    is broken, one `BrokenRecord` ends the stream, for nothing behind it can be found. Lengths
    are bounded by the file's size before they are trusted.
    """
    offset = index = 0
    while offset < size:
        header = file.read(HEADER_BYTES)
        fault = _header_fault(header, left=size - offset)
        if fault:
            yield BrokenRecord(index, *fault)
            return
        (length,) = struct.unpack_from("<Q", header)
        payload, footer = file.read(length), file.read(FOOTER_BYTES)
        if len(payload) + len(footer) < length + FOOTER_BYTES:
            yield BrokenRecord(index, "truncated-record", "the file ended while it was read")
            return
        crc = google_crc32c.value(payload)
        stored = unmask_crc(struct.unpack("<I", footer)[0])
        if crc == stored:
            yield RawRecord(index, offset + HEADER_BYTES, payload, crc)
        else:
            text = f"stored CRC32C {stored:08x}, computed {crc:08x}"
            yield BrokenRecord(index, "wrong-checksum", text)
        del payload  # before the next is read: one in memory, not two
        offset += HEADER_BYTES + length + FOOTER_BYTES
        index += 1


def read_record_at(file: BinaryIO, *, offset: int, length: int) -> tuple[bytes, int]:
    """The payload at a known place and its CRC32C, checked again.

    Raises: ValueError where the file no longer holds that record there.
    """
    file.seek(offset - HEADER_BYTES)
    (stored_length,) = struct.unpack("<Q4x", file.read(HEADER_BYTES).ljust(HEADER_BYTES, b"\0"))
    if stored_length != length:
        raise ValueError(f"the record at byte {offset} has {stored_length} bytes, not {length}")
    payload, footer = file.read(length), file.read(FOOTER_BYTES)
    crc = google_crc32c.value(payload)
    if len(footer) < FOOTER_BYTES or unmask_crc(struct.unpack("<I", footer)[0]) != crc:
        raise ValueError(f"the record at byte {offset} has another checksum")
    return payload, crc


def _header_fault(header: bytes, *, left: int) -> tuple[str, str] | None:
    """Reason and message where a record cannot begin with `header`; None where it can."""
    if len(header) < HEADER_BYTES:
        return "truncated-record", f"{len(header)} bytes of a {HEADER_BYTES}-byte header are left"
    length, masked = struct.unpack("<QI", header)
    crc = google_crc32c.value(header[:8])
    if crc != unmask_crc(masked):
        text = f"stored CRC32C {unmask_crc(masked):08x}, computed {crc:08x}"
        if header.startswith(_GZIP):
            text = "the file is gzip-compressed; unpack it"
        return "wrong-length-checksum", text
    needed = HEADER_BYTES + length + FOOTER_BYTES
    if needed <= left:
        return None
    # A cut file misses part of a plausible record; no protobuf message is longer than 2 GiB.
    reason = "truncated-record" if length < ABSURD_LENGTH else "absurd-length"
    return reason, f"a record of {length} bytes does not fit the {left} bytes that are left"
