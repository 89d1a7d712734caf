import pyarrow as pa
import pytest
from builders import INSTRUCTION, make_object, make_phrase, make_row, make_span, scene_jpeg

from ilv_dataset.episodes import Probe, broken_span
from ilv_dataset.formats.tables import (
    EPISODES_SCHEMA,
    INDEX_SCHEMA,
    INSTRUCTIONS_SCHEMA,
    decode_episode,
    decode_indexed_span,
    decode_instruction,
    encode_episode,
    encode_indexed_span,
    encode_instruction,
)
from ilv_dataset.records import ParsedInstruction

PARSED = ParsedInstruction(
    INSTRUCTION, INSTRUCTION, (make_phrase(INSTRUCTION, "carrot"),), "parsed", "", "grammar"
)


def through(schema, row):
    """The row as it comes back from a table of this schema."""
    (back,) = pa.Table.from_pylist([row], schema=schema).to_pylist()
    return back


def test_an_instruction_comes_back():
    row = encode_instruction(PARSED)
    assert row["objects"] == (
        {"phrase": "carrot", "start": 8, "end": 14, "query": "carrot", "kind": "object"},
    )
    assert decode_instruction(through(INSTRUCTIONS_SCHEMA, row)) == PARSED


def test_a_rejected_instruction_comes_back():
    parsed = ParsedInstruction("", "", (), "rejected", "empty-instruction", "grammar")
    assert decode_instruction(through(INSTRUCTIONS_SCHEMA, encode_instruction(parsed))) == parsed


@pytest.mark.parametrize(
    "row",
    [
        make_row(),
        make_row(objects=(make_object(), make_object("plate", grounded=False, reason="absent"))),
        make_row(status="text_only", reason="no-crop", images=(), interleaved=""),
        make_row(
            status="failed", reason="no-steps", message="x", images=(), objects=(), instruction=""
        ),
    ],
)
def test_an_episode_comes_back(row):
    assert decode_episode(through(EPISODES_SCHEMA, encode_episode(row))) == row


def test_a_text_object_has_no_place():
    row = make_row(objects=(make_object(grounded=False, camera=None, box_xyxy=None),))
    (found,) = encode_episode(row)["objects"]
    assert (found["grounded"], found["camera"], found["box_xyxy"]) == (False, None, None)


def test_pictures_get_a_path_that_names_the_span():
    row = make_row(images=(scene_jpeg(0), scene_jpeg(1)), span=2)
    assert encode_episode(row)["images"] == [
        {"bytes": scene_jpeg(0), "path": "ilv_demo-train.tfrecord-00000-of-00001__0#2-0.jpg"},
        {"bytes": scene_jpeg(1), "path": "ilv_demo-train.tfrecord-00000-of-00001__0#2-1.jpg"},
    ]
    assert row.span_id == "ilv_demo-train.tfrecord-00000-of-00001__0#2"


@pytest.mark.parametrize(
    "indexed",
    [
        make_span(probes=[Probe("observation/image", 0, 2**40, 30), Probe("wrist", 5, 7, 0)]),
        make_span(b"\xff\x00", number=3, start=4, end=9, num_steps=12, record_index=2**33),
        broken_span(7, "missing-record", "the shard ends", offset=2**40, length=9),
    ],
)
def test_an_indexed_span_comes_back(indexed):
    row = encode_indexed_span(indexed)
    assert row.keys() == set(INDEX_SCHEMA.names)
    assert decode_indexed_span(through(INDEX_SCHEMA, row)) == indexed
