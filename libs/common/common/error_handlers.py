"""Every failure of an app as a problem document, whoever raised it: us, FastAPI, or a store that is away."""

import logging
from socket import gaierror

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from common.errors import (
    AppError,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    MethodNotAllowedError,
    NotFoundError,
    PayloadTooLargeError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedMediaError,
    caller_locale,
    problem_response,
)
from common.methods import allowed_methods

logger = logging.getLogger(__name__)

# How the SQLSTATE begins when Postgres is lost, stops, starts, is full or a replica, or chose one of two transactions.
_PASSING = ("08", "57P", "53", "25006", "40")

_BY_STATUS: dict[int, type[AppError]] = {
    cls.status: cls
    for cls in (
        BadRequestError,
        UnauthorizedError,
        ForbiddenError,
        NotFoundError,
        MethodNotAllowedError,
        ConflictError,
        PayloadTooLargeError,
        UnsupportedMediaError,
    )
}

# Pydantic's words exist in English only; these cover what our requests can get wrong.
_FIELD_MESSAGES_KO = {
    "missing": "필수 항목입니다",
    "extra_forbidden": "알 수 없는 항목입니다",
    "string_too_short": "너무 짧습니다",
    "too_short": "너무 짧습니다",
    "too_long": "너무 깁니다",
    "string_too_long": "너무 깁니다",
    "json_invalid": "올바른 JSON이 아닙니다",
    "enum": "허용되지 않은 값입니다",
    "literal_error": "허용되지 않은 값입니다",
    "uuid_parsing": "올바른 UUID가 아닙니다",
}


def install_error_handlers(app: FastAPI) -> None:
    """Make every failure of `app` a problem document. Unexpected ones are caught in `common.telemetry`."""
    app.exception_handler(AppError)(_on_app_error)
    app.exception_handler(RequestValidationError)(_on_validation_error)
    app.exception_handler(HTTPException)(_on_http_error)
    # A TimeoutError is how asyncpg meets a server that is there but silent.
    for failure in (OperationalError, InterfaceError, PoolTimeoutError, ConnectionError, TimeoutError, gaierror):
        app.exception_handler(failure)(_on_lost_connection)
    app.exception_handler(DBAPIError)(_on_database_error)


async def _on_app_error(request: Request, error: AppError) -> JSONResponse:
    if error.status >= 500:
        logger.warning("request failed", extra={"code": error.code, "reason": str(error)})
    return problem_response(request, error)


async def _on_lost_connection(request: Request, error: Exception) -> JSONResponse:
    """Postgres away, silent or all its connections taken; who can do without a store catches its errors itself."""
    logger.error("a store is not available", extra={"reason": type(error).__name__})
    return problem_response(request, UnavailableError())


async def _on_database_error(request: Request, error: DBAPIError) -> JSONResponse:
    """What the database itself says; asyncpg's words for an outage reach us as any other error."""
    if str(getattr(error.orig, "sqlstate", None)).startswith(_PASSING):
        return await _on_lost_connection(request, error)
    raise error


async def _on_validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    korean = caller_locale(request.headers.get("accept-language")) == "ko"
    fields = [
        {
            "field": ".".join(str(part) for part in item["loc"]),
            "type": item["type"],
            "message": _field_message(item["type"], item["msg"], korean=korean),
        }
        for item in error.errors()
    ]
    return problem_response(request, InvalidError(errors=fields))


def _field_message(kind: str, words: str, *, korean: bool) -> str:
    if korean:
        return _FIELD_MESSAGES_KO.get(kind, "값이 올바르지 않습니다")
    return {"too_short": "Too short", "too_long": "Too long"}.get(kind, words)  # pydantic's speak of a list's items


async def _on_http_error(request: Request, error: HTTPException) -> JSONResponse:
    """Starlette's and FastAPI's own errors, which know English only."""
    failure = _BY_STATUS.get(error.status_code, BadRequestError)()
    failure.headers.update(error.headers or {})
    if failure.status == MethodNotAllowedError.status:
        failure.headers["Allow"] = allowed_methods(request.app.routes, request.scope)
    return problem_response(request, failure)
