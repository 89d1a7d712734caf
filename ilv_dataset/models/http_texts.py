"""What of HTTP we know ourselves: URLs, how long a server asks to wait, broken bodies."""

from __future__ import annotations

import contextlib
import email.utils
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit


def is_http_url(text: str) -> bool:
    """Whether a client can be sent there.

    >>> is_http_url("http://localhost:8000/v1"), is_http_url("localhost:8000/v1")
    (True, False)
    """
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half a bracket
        return False


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of Retry-After, given as a number or as a date; None where it says nothing.

    A date counts from the Date of the reply, for our clock may be wrong; else from our clock.

    >>> retry_after_s({"retry-after": "1.5"})
    1.5
    """
    with contextlib.suppress(ValueError):
        return max(0.0, float(headers.get("retry-after", "")))
    until = _read_date(headers.get("retry-after", ""))
    now = _read_date(headers.get("date", "")) or datetime.now(UTC)
    return None if until is None else max(0.0, (until - now).total_seconds())


def http_error(response: object) -> type[Exception]:
    """What the body of a response may raise: openai's client wraps only what comes before that.

    Its package is httpx in openai 2, httpx2 in openai 3.
    """
    package = sys.modules[type(response).__module__.partition(".")[0]]
    error: type[Exception] = package.HTTPError
    return error


def _read_date(text: str) -> datetime | None:
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return date.replace(tzinfo=date.tzinfo or UTC)
