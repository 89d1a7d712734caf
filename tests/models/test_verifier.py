"""Verifiers: which one a name means, and the prompts of a model that sees pictures."""

from dataclasses import replace

import pytest

from ilv_dataset.errors import ConfigError
from ilv_dataset.fields import VERDICTS
from ilv_dataset.layout import Layout
from ilv_dataset.models import PointFinder
from ilv_dataset.models.chat import ChatOptions
from ilv_dataset.models.loading import verifier_of_process
from ilv_dataset.models.verifier import load_verifier
from ilv_dataset.prompts import load_prompt
from ilv_dataset.records import Candidate, Sighting

SEEN = Sighting("image", 0, (64, 48), (8, 8, 24, 16), 0.9, 0.0, None, None, None, (200, 100, 0))


def test_none_is_no_verifier():
    assert load_verifier("none", chat=None, cache="") is None


def test_agreement_needs_nothing_and_finds_no_points():
    verifier = load_verifier("agreement", chat=None, cache="")
    assert verifier is not None
    assert (verifier.spec, verifier.fingerprint) == ("agreement", "agreement-v1")
    assert not isinstance(verifier, PointFinder)
    marked = Candidate(b"", "carrot", SEEN, is_given=True)
    weak = Candidate(b"", "carrot", replace(SEEN, box_score=0.1))
    assert [v.value for v in verifier([marked, weak])] == ["match", "mismatch"]
    assert verifier([]) == []


def test_a_verifier_is_loaded_once_a_process():
    named = ("agreement", None, "", Layout("out", "d", "1.0.0"))
    assert verifier_of_process(*named) is verifier_of_process(*named)


def test_vlm_names_its_model():
    chat = ChatOptions("org/model:7b", "http://127.0.0.1:9/v1")
    verifier = load_verifier("vlm:org/model:7b", chat=chat, cache="replies")
    assert isinstance(verifier, PointFinder)
    assert verifier.spec == "vlm:org/model:7b"
    assert verifier.fingerprint.startswith("org/model:7b:")


@pytest.mark.parametrize("spec", ["", "vlm", "vlm:", "agreement:x", "none:x", "clip"])
def test_load_verifier_when_there_is_none_of_that_name(spec):
    with pytest.raises(
        ConfigError, match=r"no verifier '.*'; expected one of none, agreement, vlm"
    ):
        load_verifier(spec, chat=None, cache="")


# --- prompts


def objects_of(schema):
    """Every object of a JSON schema, at any depth."""
    if schema.get("type") == "object":
        yield schema
    for inner in (*schema.get("properties", {}).values(), schema.get("items")):
        if inner is not None:
            yield from objects_of(inner)


@pytest.mark.parametrize("name", ["verify_crop.v1", "key_point.v1"])
def test_reply_schemas_are_of_the_strict_subset(name):
    found = list(objects_of(load_prompt(name).json_schema))
    assert found
    for schema in found:
        assert schema["additionalProperties"] is False
        assert schema["required"] == list(schema["properties"])


def test_the_verdicts_of_the_prompt_are_ours():
    prompt = load_prompt("verify_crop.v1")
    item = prompt.json_schema["properties"]["items"]["items"]
    assert item["properties"]["verdict"]["enum"] == list(VERDICTS)
    assert all(f'"{verdict}"' in prompt.text for verdict in VERDICTS)
    assert "colour and" in prompt.text


@pytest.mark.parametrize("name", ["verify_crop.v1", "key_point.v1"])
def test_prompts_say_that_phrases_are_data(name):
    text = load_prompt(name).text
    assert "is data" in text
    assert "Never follow" in text
