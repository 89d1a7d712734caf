import dataclasses

import numpy as np
import pytest
from builders import (
    INSTRUCTION,
    codes,
    features_json,
    make_episode,
    noise_png,
    ragged,
    scene_jpeg,
    serialize,
)

from ilv_dataset.dataset_specs import Camera
from ilv_dataset.datasets import find_dataset
from ilv_dataset.episodes import (
    Probe,
    broken_span,
    check_features,
    decode_instructions,
    index_episode,
    is_whole_image,
    probe_steps,
    split_spans,
)
from ilv_dataset.errors import RecordError
from ilv_dataset.formats.example import encode_example, parse_example
from ilv_dataset.formats.features import Feature, decode_features
from ilv_dataset.records import Span

FEATURES = decode_features(features_json())
SPEC = find_dataset("demo")
JPEG, PNG = scene_jpeg(), noise_png()


def index(record, *, spec=SPEC, features=FEATURES, offset=1000):
    payload = serialize(record)
    return index_episode(
        parse_example(payload), features, spec, record_index=4, offset=offset, length=len(payload)
    )


def check(record, *features):
    return check_features(parse_example(encode_example(record)), features)


def feature(path, kind="tensor", dtype="float32", shape=(), rank=0, **rest):
    return Feature(path, kind, dtype, shape, rank, path.startswith("steps/"), None, **rest)


def test_split_spans_of_runs():
    assert split_spans([b"a", b"a", b"b", b"a"]) == [
        Span(0, 0, 2, b"a"),
        Span(1, 2, 3, b"b"),
        Span(2, 3, 4, b"a"),
    ]


def test_split_spans_compares_bytes():
    assert [s.instruction for s in split_spans([b"a", b"a ", b"A"])] == [b"a", b"a ", b"A"]


def test_split_spans_of_one_and_of_none():
    assert split_spans([b""]) == [Span(0, 0, 1, b"")]
    assert split_spans([]) == []


@pytest.mark.parametrize(
    ("start", "end", "steps"),
    [
        (0, 1, [0]),
        (0, 5, [0]),
        (0, 6, [0, 5]),
        (3, 14, [3, 8, 13]),
        (0, 50, [0, 5, 10, 15, 20, 25, 30, 35, 40, 45]),
        (0, 51, [0, 6, 12, 18, 24, 30, 36, 42, 48]),
        (10, 110, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]),
    ],
)
def test_probe_steps(start, end, steps):
    assert probe_steps(Span(0, start, end, b"")) == steps


def test_index_episode_of_one_span():
    record = make_episode(6)
    (row,) = index(record)
    payload = serialize(record)
    assert (row.record_index, row.offset, row.length, row.num_steps) == (4, 1000, len(payload), 6)
    assert row.span == Span(0, 0, 6, INSTRUCTION.encode())
    assert row.is_whole_episode
    assert [(probe.camera, probe.step) for probe in row.probes] == [
        ("observation/image", 0),
        ("observation/image", 5),
    ]
    frames = [payload[p.offset - 1000 : p.offset - 1000 + p.length] for p in row.probes]
    assert frames == [scene_jpeg(0), scene_jpeg(5)]


def test_index_episode_of_several_spans():
    rows = index(make_episode(3, instruction=["a", "b", "b"]))
    assert [(row.span.step_start, row.span.step_end) for row in rows] == [(0, 1), (1, 3)]
    assert [[probe.step for probe in row.probes] for row in rows] == [[0], [1]]
    assert not any(row.is_whole_episode for row in rows)


def test_probes_go_camera_by_camera_over_those_that_are_probed():
    cameras = tuple(
        Camera(f"observation/{name}", is_probed=probed)
        for name, probed in (("wrist", True), ("segmentation", False), ("image", True))
    )
    (row,) = index(make_episode(6), spec=dataclasses.replace(SPEC, cameras=cameras))
    assert [(probe.camera, probe.step) for probe in row.probes] == [
        ("observation/wrist", 0),
        ("observation/wrist", 5),
        ("observation/image", 0),
        ("observation/image", 5),
    ]


def test_a_cut_frame_fails_its_span_alone():
    frames = [JPEG, JPEG, JPEG[:-2], JPEG]
    rows = index(
        make_episode(4, instruction=["a", "b", "b", "c"], steps__observation__image=frames)
    )
    assert [row.reason for row in rows] == ["", "undecodable-image", ""]
    assert rows[1].message == "steps/observation/image of step 2 is cut or no image"
    assert rows[1].probes == ()


def test_a_cut_frame_of_a_list_of_frames_is_found_too():
    views = feature("steps/observation/views", "image", "uint8", (4, 6, 3), rank=1)
    record = {
        **make_episode(3, instruction=["a", "b", "c"]),
        **ragged("steps/observation/views", [[PNG, PNG], [], [PNG, PNG[:-1]]]),
    }
    rows = index(record, features=(*FEATURES, views))
    assert [row.reason for row in rows] == ["", "", "undecodable-image"]


def test_an_instruction_that_is_not_utf8_fails_its_span_alone():
    rows = index(make_episode(2, instruction=[b"lift \xff", b"lift \xc3\xa9"]))
    assert [row.reason for row in rows] == ["invalid-utf8", ""]


def test_an_episode_without_steps_is_refused():
    with pytest.raises(RecordError, match="the episode has no steps") as caught:
        index(make_episode(0))
    assert caught.value.reason == "no-steps"


def test_decode_instructions_of_character_codes():
    values = np.concatenate([codes("lift"), codes("é", 512), codes("")])
    example = parse_example(encode_example({"steps/observation/codes": values}))
    spec = dataclasses.replace(SPEC, instruction_key="observation/codes")
    assert decode_instructions(example, spec, 3) == [b"lift", b"\xc3\xa9", b""]


def test_an_instruction_of_the_episode_is_that_of_every_step():
    spec = dataclasses.replace(SPEC, instruction_key="meta/task")
    example = parse_example(encode_example({"meta/task": [b"lift"]}))
    assert decode_instructions(example, spec, 3) == [b"lift", b"lift", b"lift"]
    example = parse_example(encode_example({"meta/task": codes("é", 512)}))
    assert decode_instructions(example, spec, 2) == [b"\xc3\xa9", b"\xc3\xa9"]


def test_an_instruction_of_the_steps_goes_before_one_of_the_episode():
    example = parse_example(encode_example({"task": [b"all"], "steps/task": [b"a", b"b"]}))
    spec = dataclasses.replace(SPEC, instruction_key="task")
    assert decode_instructions(example, spec, 2) == [b"a", b"b"]


def test_index_episode_whose_instruction_stands_outside_the_steps():
    record = {**make_episode(6), "meta/task": [b"lift the lid"]}
    spec = dataclasses.replace(SPEC, instruction_key="meta/task")
    (row,) = index(record, spec=spec, features=(*FEATURES, feature("meta/task", "text", "string")))
    assert row.span == Span(0, 0, 6, b"lift the lid")
    assert [probe.step for probe in row.probes] == [0, 5]


@pytest.mark.parametrize("code", [-1, 256])
def test_codes_that_are_no_bytes(code):
    spec = dataclasses.replace(SPEC, instruction_key="codes")
    with pytest.raises(RecordError, match="an instruction code is not a byte"):
        decode_instructions({"steps/codes": np.array([65, code])}, spec, 1)


def test_a_record_without_its_instruction():
    with pytest.raises(RecordError, match="the record has no steps/language_instruction"):
        decode_instructions({}, SPEC, 1)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (JPEG, True),
        (PNG, True),
        (JPEG + b"\0" * 5, True),
        (PNG + b"\0" * 5, True),
        (JPEG[:-1], False),
        (JPEG[:-2], False),
        (JPEG + b"x", False),
        (PNG[:-1], False),
        (PNG[:-8], False),
        (b"", False),
        (b"\0" * 20, False),
        (b"\xff\xd8\xff", False),
        (b"\x89PNG\r\n\x1a\n", False),
        (b"GIF89a" + b"\xff\xd9", False),
        (PNG[:8] + JPEG[-2:], False),
    ],
)
def test_is_whole_image(data, expected):
    assert is_whole_image(b"\xff\xd9" + data + b"\xff\xd9", 2, 2 + len(data)) is expected


def test_check_features_counts_the_steps():
    record = {"steps/action": np.ones(21, np.float32), "steps/note": [b""] * 3, "id": [b"x"]}
    features = (
        feature("id", "text", "string"),
        feature("steps/action", shape=(7,)),
        feature("steps/note", "text", "string"),
    )
    assert check(record, *features) == 3


@pytest.mark.parametrize(
    ("record", "found", "message"),
    [
        ({}, feature("steps/x"), "the record has no steps/x"),
        ({}, feature("x"), "the record has no x"),
        ({"steps/x": [b"a"]}, feature("steps/x"), "steps/x holds bytes values, expected float"),
        (
            {"steps/x": np.array([1])},
            feature("steps/x"),
            "steps/x holds integer values, expected float",
        ),
        (
            {"steps/x": np.array([1.0])},
            feature("steps/x", dtype="bool"),
            "steps/x holds float values, expected integer",
        ),
        (
            {"steps/x": np.array([1])},
            feature("steps/x", "image", "uint8", (4, 4, 3)),
            "steps/x holds integer values, expected bytes",
        ),
        (
            {"steps/x": np.ones(5)},
            feature("steps/x", shape=(2,)),
            "steps/x has 5 values, expected 2 of 2",
        ),
        ({"x": np.ones(2)}, feature("x"), "x has 2 values, expected 1 of 1"),
        ({"x": np.ones(5)}, feature("x", shape=(2,), rank=1), "x has 5 values, expected rows of 2"),
        (
            {"steps/ok": np.ones(2), "steps/x": np.ones(3)},
            feature("steps/x", shape=(None,)),
            "steps/x has 3 values, expected 2 of any number",
        ),
        (ragged("steps/x", [[1], []], np.int64), feature("steps/x", rank=1),
         "steps/x/ragged_flat_values holds integer values, expected float"),
        ({**ragged("steps/x", [[1], []], np.float32), "steps/x/ragged_flat_values": np.ones(2)},
         feature("steps/x", rank=1), "steps/x/ragged_flat_values has 2 values, expected 1 of 1"),
        (ragged("steps/x", [[1]], np.float32), feature("steps/x", rank=1),
         "steps/x/ragged_row_lengths_0 has 1 rows, expected 2"),
    ],
)  # fmt: skip
def test_a_record_that_does_not_fit_names_the_feature(record, found, message):
    features = (
        (feature("steps/ok"), found) if "steps/ok" in record or found.ragged_rank else (found,)
    )
    values = {"steps/ok": np.ones(2), **record} if found.ragged_rank else record
    with pytest.raises(RecordError) as caught:
        check(values, *features)
    assert caught.value.reason == "features-mismatch"
    assert str(caught.value) == message


def test_forms_that_a_feature_may_take():
    record = {
        "steps/ok": np.ones(2),
        "steps/loose": np.ones(6),
        "pairs/ragged_flat_values": np.array([1, 2, 3]),
        "pairs/ragged_row_lengths_0": np.array([2, 0, 1]),
        "tags": [b"a", b"b", b"c"],
        "none": [],
    }
    features = (
        feature("gone", optional=True),
        feature("none", rank=1),
        feature("pairs", dtype="int64", rank=2),
        feature("steps/gone", optional=True),
        feature("steps/gone_rows", rank=1, optional=True),
        feature("steps/loose", shape=(None,)),
        feature("steps/ok"),
        feature("steps/zero", shape=(0,)),
        feature("tags", "text", "string", rank=1),
    )
    assert check({**record, "steps/zero": np.zeros(0)}, *features) == 2


@pytest.mark.parametrize("stored", [{}, {"steps/a": np.ones(5)}, {"steps/a/b": [b"x"]}])
def test_an_opaque_feature_is_not_looked_at(stored):
    features = (feature("meta", "opaque", ""), feature("steps/a", "opaque", "", rank=1))
    assert check({"steps/ok": np.ones(2), **stored}, *features, feature("steps/ok")) == 2


def test_an_opaque_feature_does_not_tell_the_number_of_steps():
    record = {"steps/a": np.ones(6), "steps/ok": np.ones(2)}
    assert check(record, feature("steps/a", "opaque", ""), feature("steps/ok")) == 2


def test_broken_span():
    row = broken_span(3, "missing-record", "why")
    assert (row.record_index, row.reason, row.message) == (3, "missing-record", "why")
    assert row.span == Span(0, 0, 0, b"")
    assert row.probes == ()
    assert Probe("a", 1, 2, 3).length == 3
