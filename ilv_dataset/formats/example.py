"""tf.train.Example without TensorFlow: a wire-format reader that gives offsets, and a writer.

Values stay where they are in the record: bytes are ranges, floats are views. That is what lets
a frame be found in its shard by offset, and be copied on without being parsed again.

    Example  { Features features = 1; }
    Features { map<string, Feature> feature = 1; }
    Feature  { oneof: BytesList bytes_list = 1, FloatList float_list = 2, Int64List int64_list = 3 }
    each list { repeated value = 1 [packed for floats and ints]; }

Source: tensorflow/core/example/{example,feature}.proto; protobuf's encoding specification.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from ilv_dataset.errors import RecordError

_LENGTH_DELIMITED, _FIXED32, _VARINT = 2, 5, 0
_TAG_1_BYTES = (1 << 3) | _LENGTH_DELIMITED
_FEW_VARINTS = 8  # up to there, NumPy takes longer than a loop
_VARINTS_AT_ONCE = 1 << 16  # what is decoded or encoded at a time takes some 100 bytes a number


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
        for _, start, end in _submessages(payload, 0, len(payload), fields=1):
            for _, entry_start, entry_end in _submessages(payload, start, end, fields=1):
                name, values = _parse_entry(payload, entry_start, entry_end)
                example[name] = values
    except (IndexError, ValueError) as error:
        raise RecordError("malformed-record", f"not a tf.train.Example: {error}") from error
    return example


def encode_example(features: Mapping[str, Sequence[bytes] | Values]) -> bytes:
    """Serializes one Example with the features in order of their names.

    Arrays of a floating type become float_list (float32), of an integer or bool type
    int64_list, both flattened in C order; sequences of bytes become bytes_list.
    """
    return b"".join(stream_example(features)[1])


def stream_example(
    features: Mapping[str, Sequence[bytes] | Values],
) -> tuple[int, Iterator[bytes]]:
    """What `encode_example` gives, as its length and pieces: one frame in memory at a time."""
    entries = [_Entry.of(name, features[name]) for name in sorted(features)]
    content = sum(len(entry.head) + entry.num_bytes for entry in entries)
    head = _head(1, content)

    def pieces() -> Iterator[bytes]:
        yield head
        for entry in entries:
            yield entry.head
            for value in entry.values:
                yield _head(1, len(value))
                yield value

    return len(head) + content, pieces()


class _Entry(NamedTuple):
    """One feature on its way out: what is encoded already, then values of a bytes list."""

    head: bytes
    values: Sequence[bytes] | BytesValues
    num_bytes: int  # of the encoded values

    @classmethod
    def of(cls, name: str, values: Sequence[bytes] | Values) -> _Entry:
        """Encodes the name and everything that goes before the values of a bytes list."""
        if isinstance(values, np.ndarray):
            number, packed = _pack_numbers(values)
            content, left = (_head(1, len(packed)) + packed if packed else b""), 0
            values = ()
        else:
            sizes = (
                [len(value) for value in values]
                if isinstance(values, Sequence)
                else [end - start for start, end in values.ranges]
            )
            number, content = 1, b""
            left = sum(len(_head(1, size)) + size for size in sizes)
        key = name.encode()
        content = _head(number, len(content) + left) + content
        content = _head(2, len(content) + left) + content
        content = _head(1, len(key)) + key + content
        return cls(_head(1, len(content) + left) + content, values, left)


def _parse_entry(payload: bytes, start: int, end: int) -> tuple[str, Values]:
    name, features = "", []
    for number, field_start, field_end in _submessages(payload, start, end, fields=2):
        if number == 1:
            name = payload[field_start:field_end].decode("utf-8")
        else:
            features.append((field_start, field_end))
    return name, _parse_feature(payload, features)


def _parse_feature(payload: bytes, features: Sequence[tuple[int, int]]) -> Values:
    """The values of a feature: of the last kind of list in it; lists of one kind merge."""
    kind, lists = 0, list[tuple[int, int]]()
    for start, end in features:
        for number, list_start, list_end in _submessages(payload, start, end, fields=3):
            if number != kind:
                kind, lists = number, []
            lists.append((list_start, list_end))
    if kind == 2:
        octets, start, end = _gather_numbers(payload, lists, wire=_FIXED32)
        return np.frombuffer(octets, "<f4", (end - start) // 4, start)
    if kind == 3:
        return _decode_varints(*_gather_numbers(payload, lists, wire=_VARINT))
    ranges = [_bytes_ranges(payload, *span) for span in lists]
    return BytesValues(payload, ranges[0] if len(ranges) == 1 else tuple(chain(*ranges)))


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


def _gather_numbers(
    payload: bytes, lists: Sequence[tuple[int, int]], *, wire: int
) -> tuple[bytes | bytearray, int, int]:
    """Where the packed values of number lists are: (bytes, start, end).

    That is in the record itself; values that lie there in pieces are joined first.
    """
    whole: tuple[int, int] | None = None
    joined: bytearray | None = None
    for span in lists:
        for found, start, end in _packed_chunks(payload, *span):
            if found not in (wire, _LENGTH_DELIMITED) or _is_cut(payload, start, end, wire):
                raise ValueError("a list of numbers holds something else")
            if whole is None:
                whole = start, end
                continue
            if joined is None:
                joined = bytearray(payload[whole[0] : whole[1]])
            joined += payload[start:end]
    if joined is not None:
        return joined, 0, len(joined)
    return (payload, *whole) if whole else (payload, 0, 0)


def _is_cut(payload: bytes, start: int, end: int, wire: int) -> bool:
    """Whether packed values end within a value."""
    if wire == _FIXED32:
        return (end - start) % 4 != 0
    return end > start and payload[end - 1] >= 0x80


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


def _decode_varints(payload: bytes | bytearray, start: int, end: int) -> np.ndarray:
    """(N,) int64 of N packed varints, none cut; negative numbers are two's complements."""
    octets = np.frombuffer(payload, np.uint8, end - start, start)
    is_last = octets < 0x80
    if is_last.all():  # the common case: flags and small counts
        return octets.astype(np.int64)
    ends = np.flatnonzero(is_last) + 1
    numbers = np.empty(len(ends), np.int64)
    first = 0
    for row in range(0, len(ends), _VARINTS_AT_ONCE):
        some = ends[row : row + _VARINTS_AT_ONCE]
        last = int(some[-1])
        numbers[row : row + len(some)] = _join_groups(octets[first:last], some - first)
        first = last
    return numbers


def _join_groups(octets: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(N,) int64 of the varints that end before `ends`, (N,) int64, the first at octets[0]."""
    sizes = np.diff(ends, prepend=0)
    if int(sizes.max()) > 10:
        raise ValueError("a varint has more than 10 bytes")
    starts = ends - sizes
    shifts = (np.arange(len(octets)) - np.repeat(starts, sizes)) * 7
    groups = (octets & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
    return np.add.reduceat(groups, starts).astype(np.int64)


def _submessages(
    payload: bytes, start: int, end: int, *, fields: int
) -> Iterator[tuple[int, int, int]]:
    """(field number, start, end) of the fields of a message, which are 1 to `fields`.

    An Example has no others; where there is one, it is no Example.
    """
    position = start
    while position < end:
        tag, position = _varint(payload, position)
        if tag & 7 != _LENGTH_DELIMITED or not 1 <= tag >> 3 <= fields:
            raise ValueError(f"tag {tag} at byte {position - 1} of a message")
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


@functools.lru_cache(1024)
def _encode_varint(value: int) -> bytes:
    octets = bytearray()
    while value >= 0x80:
        octets.append((value & 0x7F) | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


@functools.lru_cache(1024)  # of some dozen names and sizes, over and over
def _head(number: int, length: int) -> bytes:
    """What goes before `length` bytes of the field `number`."""
    return bytes([(number << 3) | _LENGTH_DELIMITED]) + _encode_varint(length)


def _pack_numbers(values: np.ndarray) -> tuple[int, bytes]:
    """Field number in Feature, and the packed values."""
    if values.dtype.kind == "f":
        return 2, np.ascontiguousarray(values, "<f4").tobytes()
    if values.dtype.kind in "biu":
        flat = values.astype(np.int64).ravel()
        if len(flat) <= _FEW_VARINTS:
            return 3, b"".join([_encode_varint(value % 2**64) for value in flat.tolist()])
        return 3, b"".join(
            _encode_varints(flat[row : row + _VARINTS_AT_ONCE])
            for row in range(0, len(flat), _VARINTS_AT_ONCE)
        )
    raise TypeError(f"no Example holds values of dtype {values.dtype}")


def _encode_varints(numbers: np.ndarray) -> bytes:
    """Packed varints of (N,) int64."""
    if numbers.view(np.uint64).max() < 0x80:
        return numbers.astype(np.uint8).tobytes()
    rest = numbers.view(np.uint64)[:, None] >> np.arange(0, 70, 7, dtype=np.uint64)
    is_used = rest > 0
    is_used[:, 0] = True  # a zero takes one byte as well
    groups = (rest & 0x7F).astype(np.uint8)
    groups[:, :-1] |= np.where(is_used[:, 1:], 0x80, 0).astype(np.uint8)
    return groups[is_used].tobytes()
