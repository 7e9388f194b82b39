"""Where a caller stands with the limits: in headers, in the words of a 429, and in a metric."""

import logging
import math
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import NamedTuple

from prometheus_client import Counter

from common.errors import Text, TooManyRequestsError
from gateway.counts import QUESTION
from gateway.settings import LimitName

logger = logging.getLogger(__name__)

DAY_SECONDS = 86_400

Header = tuple[bytes, bytes]

decisions = Counter("gateway_rate_limit_decisions_total", "Requests by limit and outcome", ["limit", "outcome"])
_decided = cache(decisions.labels)  # finding a child by its labels takes longer than counting with it


class Standing(NamedTuple):
    """One limit as its caller sees it: `allowed` in `seconds`, of which `tenths` / 10 remain."""

    name: LimitName
    allowed: int
    seconds: int
    tenths: int
    reset_seconds: int
    is_open: bool
    # Of a daily quota, whose seconds depend on the calendar.
    midnight: datetime | None = None

    def policy(self) -> str:
        """The limit itself."""
        return f'{self.allowed};w={self.seconds};comment="{self.name}"'

    def refusal(self) -> Text:
        """Which limit, what remains, when it resets."""
        remaining = f"{self.tenths / QUESTION:g}"
        if self.midnight is None:
            return Text(
                f"The limit '{self.name}' allows {self.allowed} requests in {self.seconds} s; {remaining} remain. "
                f"Try again in {self.reset_seconds} s",
                f"'{self.name}' 한도는 {self.seconds}초에 {self.allowed}회이며 {remaining}회 남았습니다. "
                f"{self.reset_seconds}초 후에 다시 시도해 주세요",
            )
        midnight = self.midnight.isoformat(timespec="minutes")
        return Text(
            f"The limit '{self.name}' allows {self.allowed} questions a day; {remaining} remain. "
            f"It resets at {midnight}, in {self.reset_seconds} s",
            f"'{self.name}' 한도는 하루 질문 {self.allowed}개이며 {remaining}개 남았습니다. "
            f"{midnight}({self.reset_seconds}초 후)에 초기화됩니다",
        )


def note(standing: Standing, *, on_trial: bool) -> None:
    """Count what a limit said, or would have said were it not on trial."""
    if standing.is_open:
        _decided(standing.name, "admitted").inc()
    elif on_trial:
        _decided(standing.name, "shadow_refused").inc()
        logger.info("a shadow limit would have refused", extra={"limit": standing.name})
    else:
        _decided(standing.name, "refused").inc()


def whole_seconds(seconds: float) -> int:
    """Rounded up, so that who waits so long has waited long enough."""
    return max(math.ceil(seconds), 1)


def standing_headers(standings: Sequence[Standing]) -> list[Header]:
    """In the words of draft-ietf-httpapi-ratelimit-headers-06: every policy, and the numbers of the tightest limit."""
    if not standings:
        return []
    return _headers(standings, min(standings, key=lambda standing: standing.tenths / standing.allowed))


def refusal(standings: Sequence[Standing]) -> TooManyRequestsError:
    """The 429 for a caller whom one of `standings` refuses; of two, the one that stays closed for longer."""
    closed = max((standing for standing in standings if not standing.is_open), key=lambda each: each.reset_seconds)
    told = {name.decode(): value.decode() for name, value in _headers(standings, closed)}
    return TooManyRequestsError(closed.refusal(), headers={"Retry-After": str(closed.reset_seconds), **told})


def _headers(standings: Sequence[Standing], shown: Standing) -> list[Header]:
    return [
        (b"ratelimit-limit", b"%d" % shown.allowed),
        (b"ratelimit-remaining", b"%d" % (shown.tenths // QUESTION)),
        (b"ratelimit-reset", b"%d" % shown.reset_seconds),
        (b"ratelimit-policy", ", ".join(standing.policy() for standing in standings).encode()),
    ]
