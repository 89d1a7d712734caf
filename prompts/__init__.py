"""Versioned prompt texts, each with the JSON schema of its reply."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Prompt:
    """The system message of one task; a change of it or of its schema is another `digest`."""

    name: str  # file stem, such as noun_phrases.v1
    text: str
    schema: str  # JSON, of the reply

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the texts, for cache keys and for the rows."""
        return hashlib.sha256(f"{self.text}\0{self.schema}".encode()).hexdigest()[:16]

    @property
    def json_schema(self) -> dict[str, Any]:
        """The schema as a server with structured outputs takes it."""
        return json.loads(self.schema)


@functools.cache
def load_prompt(name: str) -> Prompt:
    """The prompt `prompts/NAME.txt` and the schema `schemas/NAME.json`, such as summarise.v1."""
    text = resources.files("ilv_dataset.prompts").joinpath(f"{name}.txt").read_text("utf-8")
    schema = resources.files("ilv_dataset.schemas").joinpath(f"{name}.json").read_text("utf-8")
    return Prompt(name, text, schema)
