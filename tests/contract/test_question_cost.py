"""What coach says a question costs is what the gateway's quotas understand."""

from typing import get_args

import pytest

from coach.shapes import QuestionCost
from coach.streams import COST_HEADER
from gateway.counts import QUESTION
from gateway.quotas import Bill


@pytest.mark.parametrize("cost", get_args(QuestionCost))
def test_every_cost_is_understood(cost: str) -> None:
    given_back: list[int] = []
    bill = Bill(given_back.append)
    bill.replied(200, [(COST_HEADER.encode(), cost.encode())])
    bill.ended()
    bill.settle()
    assert sum(given_back) == QUESTION - float(cost) * QUESTION
