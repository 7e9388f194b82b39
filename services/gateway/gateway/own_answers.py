"""What the gateway may say on any route in the service's place, as the OpenAPI document puts it."""

from typing import Any

from common.errors import (
    PROBLEM_JSON,
    AppError,
    BadRequestError,
    NotFoundError,
    PayloadTooLargeError,
    TooManyRequestsError,
    UnavailableError,
    UpstreamError,
    UpstreamTimeoutError,
)
from gateway.body import TooSlowError
from gateway.request_head import HeadTooLargeError, TargetTooLongError

Answers = dict[str, dict[str, Any]]

_SECONDS = {"schema": {"type": "integer", "minimum": 0}}
_HEADERS = {
    TooManyRequestsError: {
        "Retry-After": {"description": "Seconds to wait", **_SECONDS},
        "RateLimit-Limit": {"description": "Requests in a window", **_SECONDS},
        "RateLimit-Remaining": {"description": "How many of them are left", **_SECONDS},
        "RateLimit-Reset": {"description": "Seconds until there are more", **_SECONDS},
    },
    UnavailableError: {"Retry-After": {"description": "Seconds to wait", **_SECONDS}},
}


def _answers(*errors: type[AppError]) -> Answers:
    return {
        str(error.status): {
            "description": error.title.en,
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            **({"headers": _HEADERS[error]} if error in _HEADERS else {}),
        }
        for error in errors
    }


_ON_ANY_ROUTE = _answers(
    BadRequestError,
    TooSlowError,
    PayloadTooLargeError,
    TargetTooLongError,
    TooManyRequestsError,
    HeadTooLargeError,
    UpstreamError,
    UnavailableError,
    UpstreamTimeoutError,
)
# A path that two servers could read differently leads nowhere; a parameter can make it one.
_WHERE_PATHS_VARY = _answers(NotFoundError)


def own_answers(path: str) -> Answers:
    """By status; where a service documents the same one, its own words say more."""
    return _ON_ANY_ROUTE | _WHERE_PATHS_VARY if "{" in path else _ON_ANY_ROUTE
