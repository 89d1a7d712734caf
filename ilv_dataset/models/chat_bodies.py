"""What goes out to a chat endpoint and what comes back, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ilv_dataset.prompts import Prompt

Content = str | Sequence[Mapping[str, Any]]  # a text, or parts of a message


@dataclass(frozen=True)
class Reply:
    """The text of one reply, and what it took."""

    text: str
    tokens_in: int
    tokens_out: int
    fault: str = ""  # one of fields.REPLY_FAULTS, where there is no text


def chat_request(
    prompt: Prompt, content: Content, model: str, kind: str, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """The body of one request; `kind` is json_schema, json_object or text."""
    schema = {"name": prompt.name.replace(".", "_"), "strict": True, "schema": prompt.json_schema}
    formats: dict[str, Mapping[str, Any]] = {
        "json_schema": {"response_format": {"type": "json_schema", "json_schema": schema}},
        "json_object": {"response_format": {"type": "json_object"}},
        "text": {},
    }
    messages = [
        {"role": "system", "content": prompt.text},
        {"role": "user", "content": content},
    ]
    return {"model": model, "messages": messages, **parameters, **formats[kind]}


def decode_completion(body: bytes) -> Reply | None:
    """The reply in the body of a chat completion; None where it is not one."""
    try:
        completion = json.loads(body)
        message = completion["choices"][0]["message"]
        text, refusal = message.get("content"), message.get("refusal")
        usage = completion.get("usage") or {}
        tokens_in = int(usage.get("prompt_tokens") or 0)
        tokens_out = int(usage.get("completion_tokens") or 0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if refusal:
        return Reply("", tokens_in, tokens_out, "refused")
    if not isinstance(text, str) or not text.strip():
        return Reply("", tokens_in, tokens_out, "empty-reply")
    return Reply(text, tokens_in, tokens_out)
