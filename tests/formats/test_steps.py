import numpy as np
import pyarrow as pa
import pytest
from builders import features_json, make_episode, make_row, noise_png, scene_jpeg, serialize

from ilv_dataset.formats import steps as steps_module
from ilv_dataset.formats.example import BytesValues, encode_example, parse_example
from ilv_dataset.formats.features import Feature, decode_features
from ilv_dataset.formats.parquet import IMAGE
from ilv_dataset.formats.steps import cut_steps, join_steps, own_features, steps_schema

FEATURES = decode_features(features_json())


def read_steps(record, row, features=FEATURES, *, num_steps):
    """The steps of a span as rows."""
    example = parse_example(serialize(record))
    pieces = list(cut_steps(row, example, features, num_steps=num_steps))
    return join_steps(pieces, steps_schema(features)).to_pylist()


def read_feature(feature, record, *, num_steps=2):
    """The column of one feature of the steps."""
    text = Feature("steps/is_first", "tensor", "bool", (), 0, True, None)
    example = parse_example(encode_example({"steps/is_first": np.ones(num_steps), **record}))
    features = (feature, text)
    row = make_row(step_end=num_steps)
    pieces = list(cut_steps(row, example, features, num_steps=num_steps))
    return join_steps(pieces, steps_schema(features))[feature.key].to_pylist()


def tensor(dtype, *shape, rank=0, optional=False):
    return Feature("steps/observation/x", "tensor", dtype, shape, rank, True, None, optional)


def test_columns_are_ours_then_the_sources_observations_and_actions():
    types = {column.name: str(column.type) for column in steps_schema(FEATURES)}
    assert list(types)[:9] == [
        "episode_id", "span", "step", "is_first", "is_last", "is_terminal", "reward", "discount",
        "language_instruction",
    ]  # fmt: skip
    image = "struct<bytes: binary, path: string>"
    assert {name: types[name] for name in list(types)[9:]} == {
        "action": "fixed_size_list<item: float>[7]",
        "action_parts/future/xyz": ("fixed_size_list<item: fixed_size_list<item: float>[3]>[2]"),
        "observation/big": "uint64",
        "observation/codes": "fixed_size_list<item: int32>[512]",
        "observation/double": "double",
        "observation/flags": "fixed_size_list<item: bool>[2]",
        "observation/half": "float",
        "observation/image": image,
        "observation/note": "string",
        "observation/objects/bbox": "list<item: fixed_size_list<item: float>[4]>",
        "observation/objects/name": "list<item: string>",
        "observation/segmentation": image,
        "observation/state": "fixed_size_list<item: float>[7]",
        "observation/words": "list<item: list<item: int64>>",
        "observation/wrist": image,
    }


def test_every_form_of_feature_equals_the_source():
    first, second = read_steps(make_episode(2, seed=3), make_row(), num_steps=2)
    assert second.pop("observation/codes")[:7] == [115, 116, 101, 112, 32, 49, 0]  # "step 1"
    assert second.pop("observation/segmentation")["bytes"].startswith(b"\x89PNG")
    assert second == {
        "episode_id": "ilv_demo-train.tfrecord-00000-of-00001__0",
        "span": 0,
        "step": 1,
        "is_first": False,
        "is_last": True,
        "is_terminal": True,
        "reward": 1.0,
        "discount": 1.0,
        "language_instruction": "put the carrot on the plate",
        "action": [0.125] * 7,
        "action_parts/future/xyz": [[6.0, 7.0, 8.0], [9.0, 10.0, 11.0]],
        "observation/big": 2**64 - 2,
        "observation/double": 1.25,
        "observation/flags": [False, True],
        "observation/half": 1.5,
        "observation/image": {"bytes": scene_jpeg(4), "path": None},
        "observation/note": "note 1",
        "observation/objects/bbox": [
            [np.float32(1 / 6), 0.125, np.float32(1 / 3), 0.375],
            [0.5, 0.5, np.float32(5 / 6), 0.875],
        ],
        "observation/objects/name": ["carrot", "plate"],
        "observation/state": [4.0] * 7,
        "observation/words": [[1, 300], []],
        "observation/wrist": {"bytes": noise_png(4), "path": None},
    }
    assert first["observation/words"] == []
    assert (first["is_first"], first["is_last"], first["reward"]) == (True, False, 0.0)


def test_a_part_of_an_episode_begins_and_ends_where_it_is_cut():
    row = make_row(step_start=1, step_end=3, span=1)
    found = read_steps(make_episode(5), row, num_steps=5)
    assert [(r["step"], r["span"], r["is_first"], r["is_last"]) for r in found] == [
        (1, 1, True, False),
        (2, 1, False, True),
    ]
    assert [r["observation/words"] for r in found] == [[[1, 300], []], []]
    assert [r["observation/note"] for r in found] == ["note 1", "note 2"]
    assert [r["is_terminal"] for r in found] == [False, False]


def test_a_whole_episode_keeps_the_flags_of_the_source():
    record = make_episode(2, steps__is_last=np.array([False, False]))
    assert [row["is_last"] for row in read_steps(record, make_row(), num_steps=2)] == [False, False]


def test_what_the_source_lacks_or_has_in_another_form_is_null():
    record = make_episode(
        2, steps__reward=None, steps__is_first=None, steps__discount=np.ones(4, np.float32)
    )
    found = read_steps(record, make_row(), num_steps=2)
    assert [(r["reward"], r["is_first"], r["discount"]) for r in found] == [(None,) * 3] * 2
    (first,) = read_steps(record, make_row(step_end=1), num_steps=2)
    assert (first["is_first"], first["is_last"]) == (True, True)


def test_an_integer_reward_becomes_a_float():
    record = make_episode(2, steps__reward=np.array([0, 2**24 + 1]))
    assert [r["reward"] for r in read_steps(record, make_row(), num_steps=2)] == [0.0, 2.0**24]


def test_large_episodes_come_in_pieces(monkeypatch):
    record = make_episode(6)
    example = parse_example(serialize(record))
    monkeypatch.setattr(steps_module, "CHUNK_BYTES", len(serialize(record)))
    row = make_row(step_start=0, step_end=5)
    pieces = list(cut_steps(row, example, FEATURES, num_steps=6))
    assert sum(piece.num_rows for piece in pieces) == 5
    assert 1 < len(pieces) < 5
    whole = join_steps(pieces, steps_schema(FEATURES)).to_pylist()
    assert [r["step"] for r in whole] == [0, 1, 2, 3, 4]
    assert [r["observation/image"]["bytes"] for r in whole] == [scene_jpeg(n) for n in range(5)]


def test_pieces_of_several_spans_are_one_table_whatever_each_of_them_lacks():
    records = [make_episode(2), make_episode(3, steps__reward=None, steps__is_first=None)]
    rows = [make_row(), make_row(span=1, step_start=1, step_end=3, instruction="wipe the table")]
    pieces = [
        piece
        for record, row, num_steps in zip(records, rows, (2, 3), strict=True)
        for piece in cut_steps(row, parse_example(serialize(record)), FEATURES, num_steps=num_steps)
    ]
    table = join_steps(pieces, steps_schema(FEATURES))
    names = ["span", "step", "is_first", "is_last", "reward", "language_instruction"]
    assert [tuple(row.values()) for row in table.select(names).to_pylist()] == [
        (0, 0, True, False, 0.0, "put the carrot on the plate"),
        (0, 1, False, True, 1.0, "put the carrot on the plate"),
        (1, 1, True, False, None, "wipe the table"),
        (1, 2, None, True, None, "wipe the table"),
    ]
    frames = [row["bytes"] for row in table["observation/image"].to_pylist()]
    assert frames == [scene_jpeg(n) for n in (0, 1, 1, 2)]


@pytest.mark.parametrize(
    ("feature", "values", "expected"),
    [
        (tensor("bool"), np.array([0, 1]), [False, True]),
        (tensor("uint8"), np.array([255, 0]), [255, 0]),
        (tensor("uint64"), np.array([-1, 2**63 - 1]), [2**64 - 1, 2**63 - 1]),
        (tensor("int8"), np.array([-128, 300]), [-128, 44]),  # as TensorFlow casts it
        (tensor("float64"), np.array([0.5, -2.0]), [0.5, -2.0]),
        (tensor("bfloat16"), np.array([0.5, -2.0]), [0.5, -2.0]),
        (tensor("float16", 1), np.array([0.5, -2.0]), [[0.5], [-2.0]]),
        (tensor("string"), [b"a", b"\xff"], ["a", "\ufffd"]),
        (tensor("string", 2), [b"a", b"b", b"c", b"d"], [["a", "b"], ["c", "d"]]),
        (tensor("int64", 2, 1, 2), np.arange(8), [[[[0, 1]], [[2, 3]]], [[[4, 5]], [[6, 7]]]]),
        (tensor("int64", None), np.arange(6), [[0, 1, 2], [3, 4, 5]]),
        (tensor("int64", None), np.zeros(0, np.int64), [[], []]),
        (tensor("int64", None, 2), np.arange(4), [[[0, 1]], [[2, 3]]]),
        (tensor("int64", 2, None), np.arange(4), [[[0], [1]], [[2], [3]]]),
        (tensor("float32", 0), np.zeros(0, np.float32), [[], []]),
        (tensor("float32", 2, 0), [], [[[], []], [[], []]]),
        (
            Feature("steps/observation/x", "bytes", "float32", (9, 9), 0, True, None),
            [b"\xff", b""],
            [b"\xff", b""],
        ),
    ],
)
def test_a_feature_of_each_type(feature, values, expected):
    assert read_feature(feature, {"steps/observation/x": values}) == expected


def test_an_optional_feature_that_a_record_lacks_is_null():
    assert read_feature(tensor("float32", 2, optional=True), {}) == [None, None]
    assert read_feature(tensor("float32", 2, rank=1, optional=True), {}) == [None, None]


@pytest.mark.parametrize(
    ("kind", "dtype", "shape"),
    [
        ("text", "string", ()),
        ("image", "uint8", (4, 6, 3)),
        ("tensor", "float32", (4,)),
        ("tensor", "int64", ()),
        ("bytes", "int64", (2,)),
        ("tensor", "bool", (None,)),
    ],
)
def test_ragged_rows_that_are_all_empty(kind, dtype, shape):
    """An empty list has no type in a record."""
    feature = Feature("steps/observation/x", kind, dtype, shape, 1, True, None)
    record = {
        "steps/observation/x/ragged_row_lengths_0": np.array([0, 0]),
        "steps/observation/x/ragged_flat_values": BytesValues(b"", ()),
    }
    assert read_feature(feature, record) == [[], []]


def test_ragged_pictures():
    feature = Feature("steps/observation/x", "image", "uint8", (4, 6, 3), 1, True, "png")
    record = {
        "steps/observation/x/ragged_row_lengths_0": np.array([2, 0]),
        "steps/observation/x/ragged_flat_values": [b"1", b"2"],
    }
    pictures = [{"bytes": b"1", "path": None}, {"bytes": b"2", "path": None}]
    assert read_feature(feature, record) == [pictures, []]
    assert steps_schema((feature,)).field("observation/x").type == pa.list_(IMAGE)


def test_own_features_are_those_of_the_steps_without_a_column_yet():
    def step(key, in_steps=True):
        path = f"steps/{key}" if in_steps else key
        return Feature(path, "tensor", "float32", (), 0, in_steps, None)

    kept = [step(key) for key in ("action", "action_dict/x", "image", "observation/y", "state")]
    left = [step("reward"), step("language_instruction"), step("observation_id", in_steps=False)]
    assert own_features([*kept, *left]) == tuple(kept)
