"""Expected failures as one tree of exceptions, and what each looks like: an RFC 9457 problem document.

AppError
├── BadRequestError 400            ├── PayloadTooLargeError 413
├── UnauthorizedError 401          ├── UnsupportedMediaError 415
├── ForbiddenError 403             ├── InvalidError 422
├── NotFoundError 404              ├── TooManyRequestsError 429
├── MethodNotAllowedError 405      ├── UpstreamError 502
├── ConflictError 409              ├── UpstreamTimeoutError 504
├── UnavailableError 503
└── AIError 502 ── AIUnavailableError 503, AITimeoutError 504
"""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, NamedTuple

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from common import logs

PROBLEM_JSON = "application/problem+json"

# What the request being answered says about its caller's languages.
accept_language: ContextVar[str | None] = ContextVar("accept_language", default=None)


class Text(NamedTuple):
    """A sentence in both languages of the product."""

    en: str
    ko: str


class AppError(Exception):
    """A failure the caller can understand. Subclasses set status, code and title; a raise may add a detail."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[Text] = Text("Something went wrong on our side", "서버에서 문제가 발생했습니다")

    def __init__(
        self,
        detail: Text | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(detail.en if detail else self.title.en)
        self.detail = detail or self.title
        self.headers = dict(headers or {})
        self.errors = list(errors)


class BadRequestError(AppError):
    status, code = 400, "bad_request"
    title = Text("The request could not be understood", "요청을 이해할 수 없습니다")


class UnauthorizedError(AppError):
    status, code = 401, "unauthorized"
    title = Text("Please sign in", "로그인이 필요합니다")

    def __init__(self, detail: Text | None = None) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class ForbiddenError(AppError):
    status, code = 403, "forbidden"
    title = Text("You may not do this", "이 작업을 할 권한이 없습니다")


class NotFoundError(AppError):
    status, code = 404, "not_found"
    title = Text("There is nothing here", "찾을 수 없습니다")


class MethodNotAllowedError(AppError):
    status, code = 405, "method_not_allowed"
    title = Text("This method is not supported here", "지원하지 않는 메서드입니다")


class ConflictError(AppError):
    status, code = 409, "conflict"
    title = Text("This conflicts with what is stored", "저장된 내용과 충돌합니다")


class PayloadTooLargeError(AppError):
    status, code = 413, "payload_too_large"
    title = Text("The request body is too large", "요청 본문이 너무 큽니다")


class UnsupportedMediaError(AppError):
    status, code = 415, "unsupported_media_type"
    title = Text("This kind of content is not supported", "지원하지 않는 형식입니다")


class InvalidError(AppError):
    status, code = 422, "invalid_request"
    title = Text("The request is not valid", "요청 내용이 올바르지 않습니다")


class TooManyRequestsError(AppError):
    status, code = 429, "rate_limited"
    title = Text("Too many requests", "요청이 너무 많습니다")


class UpstreamError(AppError):
    status, code = 502, "upstream_failed"
    title = Text("A service behind us failed", "내부 서비스에서 오류가 발생했습니다")


class UnavailableError(AppError):
    status, code = 503, "unavailable"
    title = Text(
        "Temporarily unavailable, please try again",
        "일시적으로 사용할 수 없습니다. 잠시 후 다시 시도해 주세요",
    )

    def __init__(self, detail: Text | None = None, *, retry_after_seconds: int = 2) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


class UpstreamTimeoutError(AppError):
    status, code = 504, "upstream_timeout"
    title = Text("A service behind us took too long", "내부 서비스의 응답이 지연되고 있습니다")


class AIError(AppError):
    """The model answered with something unusable."""

    status, code = 502, "ai_failed"
    title = Text("The AI model could not answer", "AI 모델이 답하지 못했습니다")


class AIUnavailableError(AIError):
    status, code = 503, "ai_unavailable"
    title = Text("The AI model is not available right now", "지금은 AI 모델을 사용할 수 없습니다")


class AITimeoutError(AIError):
    status, code = 504, "ai_timeout"
    title = Text("The AI model took too long", "AI 모델의 응답이 지연되고 있습니다")


class FieldError(BaseModel):
    """One wrong field of a request: where it is (`body.question`), which rule it breaks, in words."""

    field: str
    type: str
    message: str


class Problem(BaseModel):
    """RFC 9457 problem document; `code` is the stable word to program against."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str | None
    errors: list[FieldError] | None = None


def caller_locale(accept_language: str | None) -> str:
    """`ko` or `en`, whichever the `Accept-Language` header prefers; `en` when it names neither."""
    best, best_quality = "en", 0.0
    for item in (accept_language or "").split(",")[:20]:
        tag, _, quality_text = item.replace(" ", "").lower().partition(";q=")
        language = tag.partition("-")[0]
        try:
            quality = float(quality_text or 1)
        except ValueError:
            continue
        if language in ("ko", "en") and quality > best_quality:
            best, best_quality = language, quality
    return best


def problem(error: AppError, *, locale: str, instance: str) -> Problem:
    """The problem document of a failure in the caller's language."""
    return Problem(
        type=f"urn:dugout:problem:{error.code}",
        title=getattr(error.title, locale),
        status=error.status,
        detail=getattr(error.detail, locale),
        instance=instance,
        code=error.code,
        request_id=logs.request_id.get(),
        errors=[FieldError.model_validate(item) for item in error.errors] or None,
    )


def problem_response(request: Request, error: AppError) -> JSONResponse:
    """The HTTP reply to a failure."""
    locale = caller_locale(request.headers.get("accept-language"))
    body = problem(error, locale=locale, instance=request.url.path)
    headers = {**error.headers, "Content-Language": locale, "Cache-Control": "no-store"}
    return JSONResponse(body.model_dump(exclude_none=True), error.status, headers, media_type=PROBLEM_JSON)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses=` argument that documents these problem statuses on a route."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"model": Problem, "content": content} for status in statuses}
