"""A log line says which request and which trace it belongs to."""

import json
import logging

import httpx
import pytest
from opentelemetry import trace

from common.logs import configure_logging, request_id
from common.telemetry import configure_tracing


@pytest.fixture(autouse=True)
def _restore_logging() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_json_line_carries_the_ids_and_what_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    configure_tracing("test", None)
    configure_logging(service="coach", level="INFO", style="json")
    token = request_id.set("request-1")
    with trace.get_tracer("test").start_as_current_span("work") as span:
        logging.getLogger("coach.ask").info("cache hit", extra={"cache": "정확"})
    request_id.reset(token)
    line = json.loads(capsys.readouterr().out)
    assert line["message"] == "cache hit"
    assert (line["service"], line["logger"], line["level"], line["cache"]) == ("coach", "coach.ask", "INFO", "정확")
    assert (line["request_id"], line["trace_id"]) == (
        "request-1",
        trace.format_trace_id(span.get_span_context().trace_id),
    )


def test_a_readable_line_stays_one_line_whatever_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(service="coach", level="INFO", style="text")
    logging.getLogger("coach.ask").info("first\nERROR forged", extra={"game": "spd"})
    assert capsys.readouterr().out == "INFO    coach.ask first\\nERROR forged game=spd\n"


async def test_one_request_is_one_line_in_one_trace(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "request")
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await client.get("/notes/quiet", headers={"traceparent": parent})
    lines = [record for record in caplog.records if record.name == "request"]
    assert [(line.route, line.status) for line in lines] == [("/notes/{note_text}", 200)]
