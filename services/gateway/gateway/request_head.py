"""What the head of a request may look like: one meaning for every server that reads it, and no more than we need.

llhttp, the parser, refuses most of what is ambiguous: two lengths, a length beside chunks, folded lines, bare line
feeds, a space before a colon. Here is what it lets through.
"""

import re
from typing import ClassVar

from common.errors import AppError, BadRequestError, MethodNotAllowedError, Text
from gateway.headers import Header

MAX_HEAD_BYTES = 16 * 1024
MAX_TARGET_BYTES = 8 * 1024
MAX_HEADERS = 100

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_METHODS = frozenset(method.encode() for method in METHODS)

# Given twice, one server would take the first and the next one the last.
_SINGLE = frozenset((b"host", b"authorization", b"content-length", b"content-type", b"transfer-encoding"))
# A name or an address, and a port.
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
# The colon and the line's end.
_AROUND_HEADER = 4


class HeadTooLargeError(AppError):
    status: ClassVar[int] = 431
    code: ClassVar[str] = "request_header_too_large"
    title: ClassVar[Text] = Text("The request's headers are too large", "요청 헤더가 너무 큽니다")


class TargetTooLongError(AppError):
    status: ClassVar[int] = 414
    code: ClassVar[str] = "uri_too_long"
    title: ClassVar[Text] = Text("The request's address is too long", "요청 주소가 너무 깁니다")


def check_head(method: bytes, version: str, target: bytes, headers: list[Header]) -> None:
    """Raise for a head that we do not take; names in `headers` are in lower case."""
    if method not in _METHODS:
        raise MethodNotAllowedError(headers={"Allow": ", ".join(METHODS)})
    check_size(target, headers)
    given = [name for name, _ in headers if name in _SINGLE]
    if len(given) != len(set(given)):
        raise BadRequestError
    told = dict(headers)
    coding = told.get(b"transfer-encoding")
    if coding is not None and (version != "1.1" or coding.lower() != b"chunked"):
        raise BadRequestError
    host = told.get(b"host")
    if version != "1.1" and (version != "1.0" or host is None):
        raise BadRequestError
    if host is None or not _HOST.fullmatch(host) or not _is_at(target, host):
        raise BadRequestError


def check_size(target: bytes, headers: list[Header]) -> None:
    """Raise for more than fits; of an unfinished head, for what there is."""
    if len(target) > MAX_TARGET_BYTES:
        raise TargetTooLongError
    size = len(target) + sum(len(name) + len(value) + _AROUND_HEADER for name, value in headers)
    if len(headers) > MAX_HEADERS or size > MAX_HEAD_BYTES:
        raise HeadTooLargeError


def _is_at(target: bytes, host: bytes) -> bool:
    """Whether a target is a path, or a whole address whose host is the one in the header; a fragment never travels."""
    if b"#" in target:
        return False
    if target.startswith(b"/"):
        return True
    scheme, _, rest = target.partition(b"://")
    authority = re.split(rb"[/?]", rest, maxsplit=1)[0]
    return scheme.lower() in (b"http", b"https") and authority.lower() == host.lower()
