"""How one attempt at an endpoint fails, before it is known whether another may do better."""

from __future__ import annotations


class Fault(Exception):
    """One attempt failed in a way that another may not.

    Attributes:
        reason: one of `fields.REPLY_FAULTS`, "busy", or "overloaded".
        wait_s: seconds to wait, where the server asks for it.
    """

    def __init__(self, reason: str, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.wait_s = wait_s
        self.is_busy = reason in ("busy", "overloaded")


class Unsupported(Exception):
    """The server does not take this kind of request."""
