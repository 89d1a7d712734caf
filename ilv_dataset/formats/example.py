"""tf.train.Example without TensorFlow: a wire-format reader that gives offsets, and a writer.

Values stay where they are in the record: bytes are ranges, floats are views. That is what lets
a frame be found in its shard by offset, and be copied on without being parsed again.

    Example  { Features features = 1; }
    Features { map<string, Feature> feature = 1; }
    Feature  { oneof: BytesList bytes_list = 1; FloatList float_list = 2; Int64List int64_list = 3; }
    each list { repeated value = 1 [packed for floats and ints]; }

Source: tensorflow/core/example/{example,feature}.proto; protobuf's encoding specification.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ilv_dataset.errors import RecordError

_LENGTH_DELIMITED, _FIXED32, _VARINT = 2, 5, 0
_TAG_1_BYTES = (1 << 3) | _LENGTH_DELIMITED


@dataclass(frozen=True, slots=True)
class BytesValues:
    """The values of a bytes feature, as ranges of the record; indexing copies one out."""

    payload: bytes
    ranges: tuple[tuple[int, int], ...]  # (start, end) in payload, end exclusive

    def __len__(self) -> int:
        return len(self.ranges)

    def __getitem__(self, index: int) -> bytes:
        start, end = self.ranges[index]
        return self.payload[start:end]

    def __iter__(self) -> Iterator[bytes]:
        return (self.payload[start:end] for start, end in self.ranges)


Values = BytesValues | np.ndarray  # (N,) float32 or int64
Example = Mapping[str, Values]


def parse_example(payload: bytes) -> dict[str, Values]:
    """Features by name; a feature with no values is an empty `BytesValues`.

    Several `features` messages merge and a repeated name takes its last value, as protobuf has
    it, so a record with appended features reads as one.

    Raises: RecordError malformed-record for anything that is not an Example.
    """
    example: dict[str, Values] = {}
    try:
        for number, start, end in _submessages(payload, 0, len(payload)):
            if number == 1:
                for entry_number, entry_start, entry_end in _submessages(payload, start, end):
                    if entry_number == 1:
                        name, values = _parse_entry(payload, entry_start, entry_end)
                        example[name] = values
    except (IndexError, ValueError) as error:
        raise RecordError("malformed-record", f"not a tf.train.Example: {error}") from error
    return example


def encode_example(features: Mapping[str, Sequence[bytes] | np.ndarray]) -> bytes:
    """Serializes one Example with the features in order of their names.

    Arrays of a floating type become float_list (float32), of an integer or bool type
    int64_list, both flattened in C order; sequences of bytes become bytes_list.
    """
    entries = []
    for name in sorted(features):
        key = name.encode()
        feature = _encode_feature(features[name])
        entry = _delimit(1, key) + _delimit(2, feature)
        entries.append(_delimit(1, entry))
    return _delimit(1, b"".join(entries))


def _parse_entry(payload: bytes, start: int, end: int) -> tuple[str, Values]:
    name, values = "", BytesValues(payload, ())
    parsed: Values = values
    for number, field_start, field_end in _submessages(payload, start, end):
        if number == 1:
            name = payload[field_start:field_end].decode("utf-8")
        elif number == 2:
            parsed = _parse_feature(payload, field_start, field_end)
    return name, parsed


def _parse_feature(payload: bytes, start: int, end: int) -> Values:
    values: Values = BytesValues(payload, ())
    for number, list_start, list_end in _submessages(payload, start, end):
        if number == 1:
            values = BytesValues(payload, _bytes_ranges(payload, list_start, list_end))
        elif number == 2:
            values = _floats(payload, list_start, list_end)
        elif number == 3:
            values = _ints(payload, list_start, list_end)
    return values


def _bytes_ranges(payload: bytes, start: int, end: int) -> tuple[tuple[int, int], ...]:
    """Ranges of a BytesList; the innermost loop of the scan, so varints are inlined."""
    ranges = []
    position = start
    while position < end:
        if payload[position] != _TAG_1_BYTES:
            raise ValueError(f"tag {payload[position]} at byte {position} of a bytes list")
        length = payload[position + 1]
        position += 2
        if length >= 0x80:
            length, position = _varint(payload, position - 1)
        value_end = position + length
        if value_end > end:
            raise ValueError(f"a value of {length} bytes passes the end of its list")
        ranges.append((position, value_end))
        position = value_end
    return tuple(ranges)


def _floats(payload: bytes, start: int, end: int) -> np.ndarray:
    chunks = []
    for wire, chunk_start, chunk_end in _packed_chunks(payload, start, end):
        if wire == _VARINT or (chunk_end - chunk_start) % 4:
            raise ValueError("a float list holds something else")
        count = (chunk_end - chunk_start) // 4
        chunks.append(np.frombuffer(payload, "<f4", count, chunk_start))
    if len(chunks) == 1:
        return chunks[0]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)


def _ints(payload: bytes, start: int, end: int) -> np.ndarray:
    chunks = []
    for wire, chunk_start, chunk_end in _packed_chunks(payload, start, end):
        if wire == _FIXED32:
            raise ValueError("an int64 list holds something else")
        chunks.append(_decode_varints(payload[chunk_start:chunk_end]))
    if len(chunks) == 1:
        return chunks[0]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int64)


def _packed_chunks(payload: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(wire type, start, end) of field 1, packed or one value at a time."""
    position = start
    while position < end:
        tag = payload[position]
        position += 1
        if tag == _TAG_1_BYTES:
            length, position = _varint(payload, position)
            stop = position + length
        elif tag == (1 << 3) | _FIXED32:
            stop = position + 4
        elif tag == (1 << 3) | _VARINT:
            stop = _varint(payload, position)[1]
        else:
            raise ValueError(f"tag {tag} at byte {position - 1} of a number list")
        if stop > end:
            raise ValueError("a value passes the end of its list")
        yield tag & 7, position, stop
        position = stop


def _decode_varints(data: bytes) -> np.ndarray:
    """(N,) int64 of N packed varints, negative numbers as two's complement of 64 bits."""
    octets = np.frombuffer(data, np.uint8)
    last = octets < 0x80
    if last.all():  # the common case: flags and small counts
        return octets.astype(np.int64)
    if not last[-1]:
        raise ValueError("the last varint is cut")
    ends = np.flatnonzero(last)
    starts = np.concatenate(([0], ends[:-1] + 1))
    if int((ends - starts).max()) > 9:
        raise ValueError("a varint has more than 10 bytes")
    shifts = (np.arange(len(octets)) - np.repeat(starts, ends - starts + 1)) * 7
    parts = (octets & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
    return np.add.reduceat(parts, starts).astype(np.int64)


def _submessages(payload: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, start, end) of the length-delimited fields of a message."""
    position = start
    while position < end:
        tag, position = _varint(payload, position)
        if tag & 7 != _LENGTH_DELIMITED:
            raise ValueError(f"wire type {tag & 7} at byte {position - 1}")
        length, position = _varint(payload, position)
        stop = position + length
        if stop > end:
            raise ValueError(f"a field of {length} bytes passes the end of its message")
        yield tag >> 3, position, stop
        position = stop


def _varint(payload: bytes, position: int) -> tuple[int, int]:
    """One varint, at most 10 bytes: (value, position behind it)."""
    value = shift = 0
    while shift < 70:
        octet = payload[position]
        position += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, position
        shift += 7
    raise ValueError(f"a varint at byte {position - 10} has more than 10 bytes")


def _encode_varint(value: int) -> bytes:
    octets = bytearray()
    while value >= 0x80:
        octets.append((value & 0x7F) | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def _delimit(number: int, content: bytes) -> bytes:
    return bytes([(number << 3) | _LENGTH_DELIMITED]) + _encode_varint(len(content)) + content


def _encode_feature(values: Sequence[bytes] | np.ndarray) -> bytes:
    if not isinstance(values, np.ndarray):
        return _delimit(1, b"".join(_delimit(1, value) for value in values))
    if np.issubdtype(values.dtype, np.floating):
        packed = np.ascontiguousarray(values, "<f4").tobytes()
        return _delimit(2, _delimit(1, packed) if packed else b"")
    if values.dtype == np.bool_ or np.issubdtype(values.dtype, np.integer):
        flat = values.astype(np.int64).ravel()
        if len(flat) == 0 or (flat.min() >= 0 and flat.max() < 0x80):
            packed = flat.astype(np.uint8).tobytes()
        else:
            packed = b"".join(_encode_varint(v & 0xFFFFFFFFFFFFFFFF) for v in flat.tolist())
        return _delimit(3, _delimit(1, packed) if packed else b"")
    raise TypeError(f"no Example holds values of dtype {values.dtype}")
