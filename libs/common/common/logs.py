"""One log line per event on standard output, JSON or readable, with the request's and the trace's id."""

import logging
import sys
from contextvars import ContextVar

from opentelemetry import trace
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def configure_logging(*, service: str, level: str, style: str) -> None:
    """Send all logs of this process to standard output; `style` is `json` or `text`."""
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(_add_context)
    handler.setFormatter(_json_formatter(service) if style == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Our own request line replaces uvicorn's; httpx logs every call with its full address.
    for name in ("uvicorn.access", "httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()


def _add_context(record: logging.LogRecord) -> bool:
    span = trace.get_current_span().get_span_context()
    record.request_id = request_id.get()
    record.trace_id = trace.format_trace_id(span.trace_id) if span.is_valid else None
    return True


def _json_formatter(service: str) -> JsonFormatter:
    return JsonFormatter(
        ["levelname", "name", "message", "request_id", "trace_id"],
        rename_fields={"levelname": "level", "name": "logger"},
        static_fields={"service": service},
        reserved_attrs=[*RESERVED_ATTRS, "color_message"],
        timestamp=True,
        json_ensure_ascii=False,
    )


class _TextFormatter(logging.Formatter):
    """`LEVEL logger message key=value …`: what was given as `extra` follows the message."""

    _known = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

    def format(self, record: logging.LogRecord) -> str:
        extra = {k: v for k, v in vars(record).items() if k not in self._known and v is not None}
        pairs = "".join(f" {key}={value}" for key, value in extra.items())
        line = f"{record.levelname:<7} {record.name} {record.getMessage()}{pairs}".replace("\n", "\\n")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
