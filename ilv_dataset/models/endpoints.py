"""Where a model is asked, and with which key: the environment's, never an option's."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from ilv_dataset.errors import ConfigError
from ilv_dataset.models.http_texts import is_http_url

KEY_VARIABLE = "OPENAI_API_KEY"
OPENAI_URL = "https://api.openai.com/v1"
_NO_KEY = "no-key-is-set"  # the client wants a text


def api_key(base_url: str) -> str:
    """What an endpoint is sent: the key from the environment; one's own mostly need none.

    Raises: ConfigError where the URL or the key cannot be one.
    """
    if not is_http_url(base_url):
        raise ConfigError(f"no URL: {base_url!r}; expected one such as http://localhost:8000/v1")
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key.isascii() or (key and not key.isprintable()):  # httpx would quote it
        raise ConfigError(f"the key in {KEY_VARIABLE} has characters that no key has")
    if not key and base_url.startswith(OPENAI_URL):
        raise ConfigError(
            f"{OPENAI_URL} needs a key in {KEY_VARIABLE}; for a server of your own name it with "
            "--llm-base-url, such as http://localhost:8000/v1"
        )
    return key or _NO_KEY


def shown_url(base_url: str) -> str:
    """An endpoint as it is printed: without the name and the password that a URL may hold.

    >>> shown_url("http://me:secret@host:8000/v1")
    'http://host:8000/v1'
    """
    if not is_http_url(base_url):
        return repr(base_url)
    account, at, _ = urlsplit(base_url).netloc.rpartition("@")
    return base_url.replace(f"{account}{at}", "", 1) if at else base_url
