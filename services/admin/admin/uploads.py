"""An uploaded form: on disk rather than in memory, capped while it arrives, streamed on to the worker."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from admin.models import DocumentUpload, Line
from common.errors import BadRequestError, PayloadTooLargeError, Text, UnsupportedMediaError

# Beside the file a form holds a few short fields and the lines between its parts.
FORM_OVERHEAD_BYTES = 64 * 1024
PIECE_BYTES = 64 * 1024

_FIELDS: dict[str, dict[str, Any]] = DocumentUpload.model_json_schema()["properties"]


def _given(field: dict[str, Any]) -> dict[str, Any]:
    """A field of a form as it is when it is there: in a form nothing can be null."""
    return next((kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}), field)


# FastAPI would read a whole form before it asks who is calling, so the route reads the body itself and says here
# what it expects.
OPENAPI = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "game"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        **{name: _given(field) for name, field in _FIELDS.items()},
                    },
                }
            }
        },
    }
}


class Form(NamedTuple):
    """A file and what is said about it."""

    file: UploadFile
    said: DocumentUpload


_FILENAME = TypeAdapter(Line)


class _TooLargeError(MultiPartException):
    """Of the parser's own kind, so that it closes its files."""


@asynccontextmanager
async def read_form(request: Request, max_bytes: int) -> AsyncIterator[Form]:
    """The form of `request`; its file is gone after the block."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise UnsupportedMediaError(Text("Send a multipart form", "multipart 양식으로 보내 주세요"))
    limit = max_bytes + FORM_OVERHEAD_BYTES
    parser = MultiPartParser(
        request.headers, _capped(request, limit), max_files=1, max_fields=20, max_part_size=FORM_OVERHEAD_BYTES
    )
    try:
        data = await parser.parse()
    except _TooLargeError:
        raise PayloadTooLargeError from None
    except MultiPartException as error:
        raise BadRequestError(Text(error.message, "multipart 양식이 올바르지 않습니다")) from error
    except UnicodeError as error:  # of a charset that nobody sends in good faith: Python knows one that always fails
        raise BadRequestError from error
    try:
        yield _checked({name: value for name, value in data.multi_items() if value != ""})
    finally:
        await data.close()


async def _capped(request: Request, limit: int) -> AsyncGenerator[bytes]:
    received = 0
    async for piece in request.stream():
        received += len(piece)
        if received > limit:
            raise _TooLargeError("too large")
        yield piece


def _checked(fields: dict[str, UploadFile | str]) -> Form:
    file = fields.pop("file", None)
    if not isinstance(file, UploadFile) or not file.filename:
        raise RequestValidationError([{"type": "missing", "loc": ("body", "file"), "msg": "Field required"}])
    try:
        _FILENAME.validate_python(file.filename)
        return Form(file, DocumentUpload.model_validate(fields))
    except ValidationError as error:
        located = [{**item, "loc": ("body", *(item["loc"] or ("file",)))} for item in error.errors()]
        raise RequestValidationError(located) from error


async def pieces(file: UploadFile) -> AsyncIterator[bytes]:
    """The content of `file`, a piece at a time."""
    while piece := await file.read(PIECE_BYTES):
        yield piece
