"""Which language model finds the objects, where it is asked, and how much that may be."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ilv_dataset.errors import ConfigError
from ilv_dataset.formats.files import join_path
from ilv_dataset.models.budgets import Prices
from ilv_dataset.models.chat import ChatOptions
from ilv_dataset.models.endpoints import OPENAI_URL

MODEL_VARIABLE = "ILV_LLM_MODEL"
URL_VARIABLE = "OPENAI_BASE_URL"
GRAMMAR = "grammar"
EXTRACTORS = ("auto", GRAMMAR, "llm", "llm:MODEL")
ITEMS_PER_REQUEST = 20  # Source: ours; `ilv eval phrases` prints the tokens that an answer takes


@dataclass(frozen=True)
class LlmOptions:
    """The options --llm-*, as given; nothing in it changes results."""

    base_url: str | None = None
    vlm_base_url: str | None = None  # of the verifier, where it is another
    concurrency: int = ChatOptions.concurrency
    items: int = ITEMS_PER_REQUEST  # a request
    timeout: float = ChatOptions.timeout_s
    max_requests: int | None = None
    max_tokens: int | None = None
    prices: Prices | None = None
    vlm_prices: Prices | None = None  # of the verifier's model, where they are others
    cache: str | None = None
    batch: bool = False
    retry_fallbacks: bool = False

    def chat(self, model: str, *, is_verifier: bool = False) -> ChatOptions:
        """Where and how `model` is asked."""
        urls = (self.vlm_base_url if is_verifier else None, self.base_url)
        named = [*urls, os.environ.get(URL_VARIABLE), OPENAI_URL]
        return ChatOptions(
            model=model,
            base_url=next(url for url in named if url).rstrip("/"),
            concurrency=self.concurrency,
            timeout_s=self.timeout,
            max_requests=self.max_requests,
            max_tokens=self.max_tokens,
            prices=(self.vlm_prices if is_verifier else None) or self.prices,
        )

    def cache_folder(self, out: str) -> str:
        """Where replies are kept: beside the datasets of an output folder, unless told."""
        return self.cache or join_path(out, ".cache", "replies")


def resolve_extractor(extractor: str, *, is_demo: bool) -> str:
    """`grammar` or `llm:MODEL`.

    `auto` asks a model only where one is named: a key alone changes nothing.

    Raises: ConfigError.
    """
    name, _, model = extractor.partition(":")
    model = model or os.environ.get(MODEL_VARIABLE, "")
    if extractor == GRAMMAR or (extractor == "auto" and (is_demo or not model)):
        return GRAMMAR
    if name == "llm" and not model:
        raise ConfigError(
            "--extractor llm: name the model, as in --extractor llm:gpt-4o-mini, "
            f"or in {MODEL_VARIABLE}"
        )
    if name == "llm" or extractor == "auto":
        return f"llm:{model}"
    raise ConfigError(f"no extractor {extractor!r}; expected {', '.join(EXTRACTORS)}")


def model_of(backend: str) -> str | None:
    """The model that a resolved extractor, or a verifier, asks; None where it asks none."""
    return backend.partition(":")[2] or None
