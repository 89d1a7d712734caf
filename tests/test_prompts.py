"""The prompts as they are shipped: each with a schema that servers with structured outputs take."""

from dataclasses import replace
from importlib import resources

import pytest

from ilv_dataset.fields import KINDS
from ilv_dataset.prompts import Prompt, load_prompt

NAMES = sorted(
    path.name.removesuffix(".txt")
    for path in resources.files("ilv_dataset.prompts").iterdir()
    if path.name.endswith(".txt")
)
# Schemas without a prompt: those of the files that are written, and of `ilv phrases`.
OF_FILES = {"episodes.v1", "instructions.v1", "phrases.v1", "steps.v1"}
# Source: platform.openai.com/docs/guides/structured-outputs, "Supported schemas".
KEYWORDS = {"type", "properties", "required", "additionalProperties", "items", "enum"}
KEYWORDS |= {"description", "anyOf"}


def schemas_within(schema):
    yield schema
    for inner in (*schema.get("properties", {}).values(), *schema.get("anyOf", ())):
        yield from schemas_within(inner)
    if "items" in schema:
        yield from schemas_within(schema["items"])


def test_each_prompt_has_a_schema_of_its_name_and_each_other_schema_is_of_a_file():
    found = {
        path.name.removesuffix(".json")
        for path in resources.files("ilv_dataset.schemas").iterdir()
        if path.name.endswith(".json")
    }
    assert set(NAMES) >= {"noun_phrases.v1", "summarise.v1"}
    assert found - OF_FILES == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_loads_and_says_json_and_that_texts_are_data(name):
    prompt = load_prompt(name)
    assert prompt.name == name
    assert prompt.text.strip() == prompt.text.rstrip("\n")
    assert "JSON" in prompt.text  # servers with json_object ask for the word
    assert "data" in prompt.text
    assert len(prompt.text) < 4000  # it goes out with every request


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_in_the_strict_subset(name):
    schema = load_prompt(name).json_schema
    assert schema["type"] == "object"
    for inner in schemas_within(schema):
        assert set(inner) <= KEYWORDS
        if inner.get("type") == "object":
            assert inner["additionalProperties"] is False
            assert inner["required"] == list(inner["properties"])


def test_the_schema_of_phrases_knows_every_kind():
    item = load_prompt("noun_phrases.v1").json_schema["properties"]["items"]["items"]
    kind = item["properties"]["objects"]["items"]["properties"]["kind"]
    assert kind["enum"] == list(KINDS)
    assert all(f'"{name}"' in load_prompt("noun_phrases.v1").text for name in KINDS)


def test_the_digest_tells_texts_and_schemas_apart():
    prompt = Prompt("find.v1", "ab", "c")
    others = [replace(prompt, text="aB"), replace(prompt, schema="C"), Prompt("", "a", "bc")]
    digests = {other.digest for other in (prompt, *others)}
    assert len(digests) == 4
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in digests)
    assert replace(prompt).digest == prompt.digest


def test_a_prompt_that_is_not_there_is_an_error():
    with pytest.raises(FileNotFoundError):
        load_prompt("noun_phrases.v999")
