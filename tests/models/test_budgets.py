"""What is counted, what it costs, and where it ends."""

import pytest

from ilv_dataset.errors import EndpointError
from ilv_dataset.models.budgets import Budget, Usage


def test_cost_is_that_of_a_million_tokens_in_and_out():
    usage = Usage(requests=2, tokens_in=2_000_000, tokens_out=500_000)
    assert usage.cost(None) is None
    assert usage.cost((0.15, 0.6)) == pytest.approx(0.6)


def test_requests_end_where_the_limit_is():
    budget = Budget(max_requests=3)
    budget.spend(2)
    with pytest.raises(EndpointError, match=r"--llm-max-requests 3 are spent; run again"):
        budget.spend(2)
    budget.spend(1)
    assert (budget.usage.requests, budget.num_requests_left) == (3, 0)


def test_free_requests_are_counted_and_not_limited():
    budget = Budget(max_requests=1)
    with budget.free():
        budget.spend(2)
    assert (budget.usage.requests, budget.num_requests_left) == (2, 1)


def test_tokens_of_what_is_under_way_are_those_of_what_came():
    budget = Budget(max_tokens=100)
    with budget.sending():
        budget.count(tokens_in=30, tokens_out=10)  # 40 a request
    too_many = pytest.raises(EndpointError, match=r"--llm-max-tokens 100 are spent")
    with budget.sending(), budget.sending(), too_many:  # 40 + 2 x 40
        budget.spend(1)
    budget.spend(1)
