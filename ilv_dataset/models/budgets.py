"""What has been asked of a model, what that costs, and how much may be asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ilv_dataset.errors import EndpointError

Prices = tuple[float, float]  # of a million tokens in and out


@dataclass
class Usage:
    """What has been asked so far."""

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    @property
    def tokens(self) -> int:
        """In and out."""
        return self.tokens_in + self.tokens_out

    def cost(self, prices: Prices | None) -> float | None:
        """What the tokens cost; None where no prices are known."""
        if prices is None:
            return None
        price_in, price_out = prices
        return (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6


class Budget:
    """Counts requests and tokens, and refuses what goes beyond the limits.

    Attributes:
        usage: what was spent so far.
    """

    def __init__(self, *, max_requests: int | None = None, max_tokens: int | None = None) -> None:
        self.usage = Usage()
        self._max_requests = max_requests
        self._max_tokens = max_tokens
        self._num_in_flight = 0
        self._num_free = 0  # requests that the limit leaves out
        self._is_free = False

    @property
    def num_requests_left(self) -> int | None:
        """How many requests are left; None where there is no limit."""
        if self._max_requests is None:
            return None
        return self._max_requests - (self.usage.requests - self._num_free)

    @contextmanager
    def free(self) -> Iterator[None]:
        """Counts the requests of the block, and leaves them out of the limits."""
        begun, self._is_free = self.usage.requests, True
        try:
            yield
        finally:
            self._is_free = False
            self._num_free += self.usage.requests - begun

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Counts one request before it is sent; what is under way costs what others did.

        Raises: EndpointError where that is more than the limits leave.
        """
        self.spend(1)
        self._num_in_flight += 1
        try:
            yield
        finally:
            self._num_in_flight -= 1

    def spend(self, num_requests: int) -> None:
        """Counts requests.

        Raises: EndpointError where they are more than the limits leave.
        """
        if not self._is_free:
            self._check(num_requests)
        self.usage.requests += num_requests

    def count(self, *, tokens_in: int, tokens_out: int) -> None:
        """Counts the tokens of a reply."""
        self.usage.tokens_in += tokens_in
        self.usage.tokens_out += tokens_out

    def _check(self, num_requests: int) -> None:
        left, usage = self.num_requests_left, self.usage
        if left is not None and num_requests > left:
            raise EndpointError(
                f"--llm-max-requests {self._max_requests:,} are spent; run again to go on"
            )
        if self._max_tokens is None:
            return
        a_request = usage.tokens / max(1, usage.requests - self._num_in_flight)
        if usage.tokens + self._num_in_flight * a_request >= self._max_tokens:
            raise EndpointError(
                f"--llm-max-tokens {self._max_tokens:,} are spent; run again to go on"
            )
