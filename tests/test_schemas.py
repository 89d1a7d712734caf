"""The column specs for readers in other languages list what the code writes."""

import json

import pyarrow as pa
import pytest
from builders import features_json

from ilv_dataset import fields
from ilv_dataset.formats.features import decode_features
from ilv_dataset.formats.parquet import IMAGE
from ilv_dataset.formats.steps import own_features, steps_schema
from ilv_dataset.formats.tables import EPISODES_SCHEMA, INSTRUCTIONS_SCHEMA


def as_spec(columns):
    """Arrow columns in the form of the specs, without what they mean."""
    return [_column(column.name, column.type) for column in columns]


def _column(name, kind):
    is_list = pa.types.is_list(kind)
    value = kind.value_type if is_list else kind
    if not pa.types.is_struct(value):
        return {"name": name, "type": f"list<{value}>" if is_list else str(kind)}
    form = "list<struct>" if is_list else "struct"
    return {"name": name, "type": form, "fields": as_spec(value)}


def without_meaning(columns):
    kept = []
    for column in columns:
        assert set(column) <= {"name", "type", "meaning", "fields"}
        assert column["meaning"].strip()
        bare = {name: value for name, value in column.items() if name != "meaning"}
        if "fields" in bare:
            bare["fields"] = without_meaning(bare["fields"])
        kept.append(bare)
    return kept


@pytest.fixture
def spec(repository):
    return lambda name: json.loads((repository / "schemas" / f"{name}.v1.json").read_text())


@pytest.mark.parametrize(
    ("name", "schema"), [("instructions", INSTRUCTIONS_SCHEMA), ("episodes", EPISODES_SCHEMA)]
)
def test_a_spec_lists_the_columns_that_are_written(spec, name, schema):
    assert without_meaning(spec(name)["columns"]) == as_spec(schema)


def test_the_spec_of_steps_lists_our_own_columns(spec):
    features = decode_features(features_json())
    ours = list(steps_schema(features))[: -len(own_features(features))]
    assert without_meaning(spec("steps")["columns"]) == as_spec(ours)


def test_specs_name_every_status_and_reason(spec):
    episode = {column["name"]: column for column in spec("episodes")["columns"]}
    found = {column["name"]: column["meaning"] for column in episode["objects"]["fields"]}
    assert all(status in episode["status"]["meaning"] for status in fields.STATUSES)
    assert all(reason in found["reason"] for reason in fields.OBJECT_REASONS)
    assert all(kind in found["kind"] for kind in fields.KINDS)
    (reasons,) = [c["meaning"] for c in spec("instructions")["columns"] if c["name"] == "reason"]
    assert all(reason in reasons for reason in fields.REJECTED_REASONS)


def test_images_are_in_the_form_that_hugging_face_shows():
    assert [(field.name, str(field.type)) for field in IMAGE] == [
        ("bytes", "binary"),
        ("path", "string"),
    ]
