"""When a provider wants to be asked again: every form of `Retry-After`."""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from common.db import utc_now


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
