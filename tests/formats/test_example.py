import functools

import numpy as np
import pytest
from builders import make_episode, serialize
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ilv_dataset.errors import RecordError
from ilv_dataset.formats.example import (
    BytesValues,
    encode_example,
    parse_example,
    stream_example,
)
from ilv_dataset.formats.tfrecord import read_records

# Example { features { feature { key: "a" value { bytes_list { value: "xy" value: "" } } }
#                      feature { key: "b" value { float_list { value: 1.5 } } }
#                      feature { key: "c" value { int64_list { value: [1, 300, -1] } } } } }
BY_HAND = bytes.fromhex(
    "0a 36"
    "0a0d 0a0161 1208 0a06 0a027879 0a00"
    "0a0d 0a0162 1208 1206 0a040000c03f"
    "0a16 0a0163 1211 1a0f 0a0d 01 ac02 ffffffffffffffffff01"
)


def as_lists(record):
    return {name: list(values) for name, values in record.items()}


def by_protobuf(payload):
    from tensorflow_datasets.proto import tf_example_pb2

    found = {}
    for name, feature in tf_example_pb2.Example.FromString(payload).features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = list(getattr(feature, kind).value) if kind else []
    return found


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, values in found.items():
        ours, theirs = list(values), list(expected[name])
        if ours and isinstance(ours[0], float | np.floating):
            assert np.array_equal(ours, np.float32(theirs), equal_nan=True), name
        else:
            assert ours == theirs, name


def test_parse_example_by_hand():
    parsed = parse_example(BY_HAND)
    assert as_lists(parsed) == {"a": [b"xy", b""], "b": [1.5], "c": [1, 300, -1]}
    assert parsed["b"].dtype == np.float32
    assert parsed["c"].dtype == np.int64
    assert parsed["a"].ranges == ((13, 15), (17, 17))
    assert BY_HAND[13:15] == b"xy"


def test_encode_example_by_hand():
    values = {"c": np.array([1, 300, -1]), "a": [b"xy", b""], "b": np.array([1.5])}
    assert encode_example(values) == BY_HAND


def test_stream_example_says_its_length_and_gives_values_one_by_one():
    values = {"a": [b"xy", b""], "b": np.array([1.5]), "c": np.array([1, 300, -1])}
    length, pieces = stream_example(values)
    pieces = list(pieces)
    assert b"".join(pieces) == BY_HAND
    assert length == len(BY_HAND)
    assert b"xy" in pieces


def test_slices_of_a_record_are_encoded_again_without_a_copy_between():
    parsed = parse_example(BY_HAND)
    part = {"a": BytesValues(parsed["a"].payload, parsed["a"].ranges[:1]), "c": parsed["c"][1:]}
    assert as_lists(parse_example(encode_example(part))) == {"a": [b"xy"], "c": [300, -1]}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("1204 0d0000c0", None),  # a float of three bytes
        ("120a 0d0000c03f 0d00000040", [1.5, 2.0]),
        ("1a04 0801 0802", [1, 2]),
        ("1a06 0801 0a02 0304", [1, 3, 4]),
        ("0a03 0a0161 0a03 0a0162", [b"a", b"b"]),  # lists of one kind merge
        ("0a03 0a0161 1a02 0805", [5]),  # of two kinds the last counts
        ("2200", None),  # a field that no feature has
        ("", []),
        ("0a00", []),
        ("1200", []),
    ],
)
def test_forms_in_which_protobuf_may_write_a_list(content, expected):
    value = bytes.fromhex(content)
    entry = b"\x0a\x01k\x12" + bytes([len(value)]) + value
    feature = b"\x0a" + bytes([len(entry)]) + entry
    payload = b"\x0a" + bytes([len(feature)]) + feature
    if expected is None:
        with pytest.raises(RecordError, match=r"not a tf\.train\.Example") as caught:
            parse_example(payload)
        assert caught.value.reason == "malformed-record"
        return
    assert list(parse_example(payload)["k"]) == expected == by_protobuf(payload)["k"]


def test_an_appended_example_reads_as_one():
    first = encode_example({"a": [b"old"], "b": np.array([1])})
    second = encode_example({"a": [b"new"], "z": np.array([2.5])})
    merged = parse_example(first + second)
    assert as_lists(merged) == {"a": [b"new"], "b": [1], "z": [2.5]}
    assert as_lists(merged) == by_protobuf(first + second)


def test_a_record_without_features_is_an_empty_example():
    assert parse_example(b"") == {}
    assert parse_example(encode_example({})) == {}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floating_arrays_become_floats(dtype):
    encoded = encode_example({"x": np.array([[0.5, 2.0]], dtype)})
    assert list(parse_example(encoded)["x"]) == [0.5, 2.0]


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        (np.array([True, False]), [1, 0]),
        (np.array([2**64 - 1], np.uint64), [-1]),
        (np.array([-(2**63), 2**63 - 1]), [-(2**63), 2**63 - 1]),
        (np.array([[127, 128], [16383, 16384]], np.int32), [127, 128, 16383, 16384]),
        (np.zeros(0, np.int64), []),
    ],
)
def test_integers_and_flags_become_int64(values, stored):
    encoded = encode_example({"x": values})
    assert list(parse_example(encoded)["x"]) == stored == by_protobuf(encoded)["x"]


def test_many_integers_are_read_and_written_in_pieces():
    numbers = np.arange(200_000, dtype=np.int64) * 977 - 10_000_000
    assert np.array_equal(parse_example(encode_example({"x": numbers}))["x"], numbers)


def test_an_array_of_texts_is_no_value_of_an_example():
    with pytest.raises(TypeError, match="no Example holds values of dtype"):
        encode_example({"x": np.array(["text"])})


def test_parse_example_agrees_with_protobuf_on_every_form_of_feature():
    payload = serialize(make_episode(5))
    assert_equal(parse_example(payload), by_protobuf(payload))


def test_ranges_point_into_the_record():
    record = make_episode(2)
    payload = serialize(record)
    values = parse_example(payload)["steps/observation/image"]
    assert [payload[start:end] for start, end in values.ranges] == record["steps/observation/image"]


features = st.dictionaries(
    st.text(max_size=5),
    st.lists(st.binary(max_size=9), max_size=4)
    | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=9).map(lambda v: np.array(v, np.int64))
    | st.lists(st.floats(width=32), max_size=5).map(lambda v: np.array(v, np.float32)),
    max_size=4,
)


@settings(max_examples=100, deadline=None)
@given(features)
def test_parse_example_is_the_inverse_of_encode_example(values):
    encoded = encode_example(values)
    assert_equal(parse_example(encoded), values)
    assert_equal(by_protobuf(encoded), values)


@functools.cache
def real_record():
    return serialize(make_episode(2, steps__observation__image=[b"\xff\xd8\xff" * 9] * 2))


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), max_size=4),
    st.integers(0, 1 << 30),
    st.booleans(),
)
@example([], 0, True)
def test_a_mutated_record_is_read_as_protobuf_reads_it_or_refused(changes, cut, is_cut):
    payload = bytearray(real_record())
    for position, value in changes:
        payload[position % len(payload)] = value
    payload = bytes(payload[: cut % len(payload)] if is_cut else payload)
    try:
        parsed = parse_example(payload)
    except RecordError:
        return
    assert_equal(parsed, by_protobuf(payload))


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=60))
@example(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(b"\x0a\x80")
@example(b"\xff" * 60)
def test_no_bytes_raise_anything_but_a_record_error(payload):
    try:
        parsed = parse_example(payload)
    except RecordError:
        return
    assert_equal(parsed, by_protobuf(payload))


@pytest.mark.parametrize(
    "dataset", ["bridge_dataset/1.0.0", "bridge/0.1.0", "fractal20220817_data/0.1.0"]
)
def test_parse_example_agrees_with_protobuf_on_real_records(shared_data, dataset):
    for path in sorted((shared_data / "rlds" / dataset).glob("*.tfrecord-*")):
        with path.open("rb") as file:
            for record in read_records(file, size=path.stat().st_size):
                assert_equal(parse_example(record.payload), by_protobuf(record.payload))
