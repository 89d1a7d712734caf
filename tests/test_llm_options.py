"""Which extractor is meant, where it is asked, and what it costs."""

import pytest

from ilv_dataset.errors import ConfigError
from ilv_dataset.llm_options import LlmOptions, model_of, resolve_extractor


@pytest.mark.parametrize(
    ("extractor", "variable", "is_demo", "resolved"),
    [
        ("auto", None, False, "grammar"),
        ("auto", "", False, "grammar"),
        ("auto", "gpt", False, "llm:gpt"),
        ("auto", "gpt", True, "grammar"),
        ("grammar", "gpt", False, "grammar"),
        ("llm", "gpt", False, "llm:gpt"),
        ("llm:other", "gpt", False, "llm:other"),
        ("llm:other", None, True, "llm:other"),
        ("llm:llama3:8b", None, False, "llm:llama3:8b"),
        ("llm:org/model", None, False, "llm:org/model"),
    ],
)
def test_the_extractor_is_resolved(monkeypatch, extractor, variable, is_demo, resolved):
    if variable is not None:
        monkeypatch.setenv("ILV_LLM_MODEL", variable)
    assert resolve_extractor(extractor, is_demo=is_demo) == resolved


def test_a_key_or_an_endpoint_alone_changes_nothing(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    assert resolve_extractor("auto", is_demo=False) == "grammar"


@pytest.mark.parametrize("extractor", ["llm", "llm:"])
def test_a_model_must_be_named(extractor):
    with pytest.raises(ConfigError, match=r"name the model, as in --extractor llm:.*ILV_LLM_MODEL"):
        resolve_extractor(extractor, is_demo=False)


@pytest.mark.parametrize("extractor", ["", "gpt-4o", "LLM:x", "grammar:x", "auto:x", "llama:x"])
def test_another_extractor_is_refused(monkeypatch, extractor):
    monkeypatch.setenv("ILV_LLM_MODEL", "gpt")
    with pytest.raises(ConfigError, match="expected auto, grammar, llm, llm:MODEL"):
        resolve_extractor(extractor, is_demo=False)


def test_the_model_is_what_follows_the_first_colon():
    assert model_of("grammar") is None
    assert model_of("llm:llama3:8b") == "llama3:8b"


def test_the_endpoint_is_that_of_the_option_then_of_the_environment_then_openai(monkeypatch):
    assert LlmOptions().chat("m").base_url == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://b:2/v1/")
    assert LlmOptions().chat("m").base_url == "http://b:2/v1"
    assert LlmOptions(base_url="http://a:1/v1/").chat("m").base_url == "http://a:1/v1"


def test_replies_are_kept_beside_the_datasets_unless_told():
    assert LlmOptions().cache_folder("out/") == "out/.cache/replies"
    assert LlmOptions().cache_folder("gs://b/out") == "gs://b/out/.cache/replies"
    assert LlmOptions(cache="gs://b/shared").cache_folder("out") == "gs://b/shared"


def test_prices_of_the_verifier_are_those_of_the_extractor_unless_told():
    both, own = LlmOptions(prices=(0.15, 0.6)), LlmOptions(prices=(0.15, 0.6), vlm_prices=(1, 2))
    assert both.chat("m").prices == both.chat("m", is_verifier=True).prices == (0.15, 0.6)
    assert (own.chat("m").prices, own.chat("m", is_verifier=True).prices) == ((0.15, 0.6), (1, 2))
    assert LlmOptions().chat("m").prices is None
