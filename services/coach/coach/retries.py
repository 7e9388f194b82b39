"""Whether and when a failed model call is worth another attempt."""

import random
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from openai import APIStatusError

from common.db import utc_now

BACKOFF_SECONDS = (1.0, 2.0, 4.0)
RETRIED_STATUSES = frozenset({408, 409, 425, 429})


def seconds_before_retry(error: Exception, backoff: float | None) -> float | None:
    """Seconds to wait, or None: this was the last attempt, the deadline has passed, or waiting mends nothing."""
    if backoff is None or isinstance(error, TimeoutError):
        return None
    wait = backoff + random.uniform(0, backoff)  # noqa: S311 - spreads load, guards nothing
    if not isinstance(error, APIStatusError):
        return wait
    if error.status_code not in RETRIED_STATUSES and error.status_code < 500:
        return None
    if error.code == "insufficient_quota":  # a 429 that only the operator can end
        return None
    return max(wait, retry_after_seconds(error.response.headers) or 0)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds from `Retry-After-Ms`, or `Retry-After` as a number or a date; None where there is nothing sensible."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    return seconds if seconds is not None else _until(value)


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _until(value: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(value or "")
        return max((moment - utc_now()).total_seconds(), 0.0)
    except (ValueError, TypeError):  # no date, or one without a zone
        return None
