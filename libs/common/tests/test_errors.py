"""Every failure is a problem document in the caller's language."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import PROBLEM_JSON, caller_locale


async def test_an_expected_failure_says_what_it_is_in_both_languages(client: httpx.AsyncClient) -> None:
    english = await client.get("/conflict")
    korean = await client.get("/conflict", headers={"Accept-Language": "ko-KR,ko;q=0.9,en;q=0.5"})
    assert english.status_code == korean.status_code == 409
    assert english.headers["content-type"] == PROBLEM_JSON
    assert english.json() == {
        "type": "urn:dugout:problem:conflict",
        "title": "This conflicts with what is stored",
        "status": 409,
        "detail": "It is taken",
        "instance": "/conflict",
        "code": "conflict",
        "request_id": english.headers["x-request-id"],
    }
    assert korean.json()["detail"] == "이미 사용 중입니다"
    assert korean.headers["content-language"] == "ko"


async def test_a_wrong_field_is_named(client: httpx.AsyncClient) -> None:
    response = await client.post("/notes", json={"text": "", "more": 1}, headers={"Accept-Language": "ko"})
    assert response.status_code == 422
    assert response.json()["code"] == "invalid_request"
    assert {(item["field"], item["type"], item["message"]) for item in response.json()["errors"]} == {
        ("body.text", "string_too_short", "너무 짧습니다"),
        ("body.more", "extra_forbidden", "알 수 없는 항목입니다"),
    }


async def test_a_bug_tells_nothing_of_the_inside(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    response = await client.get("/bug/s3cret", headers={"Accept-Language": "en"})
    assert response.status_code == 500
    assert response.json()["code"] == "internal_error"
    assert "inner detail" not in response.text
    assert response.headers["x-request-id"] == response.json()["request_id"]
    assert "inner detail s3cret" in caplog.text


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/nowhere", "GET", 404, "not_found"),
        ("/conflict", "POST", 405, "method_not_allowed"),
    ],
)
async def test_the_frameworks_own_errors_are_problems_too(
    client: httpx.AsyncClient, path: str, method: str, status: int, code: str
) -> None:
    response = await client.request(method, path, headers={"Accept-Language": "ko"})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert "on our side" not in response.json()["title"]
    assert response.json()["detail"].isascii() is False


async def test_a_405_names_the_methods_that_are_allowed(client: httpx.AsyncClient) -> None:
    assert (await client.post("/conflict")).headers["allow"] == "GET, HEAD"
    assert (await client.put("/notes/one")).headers["allow"] == "GET, DELETE, HEAD"  # each by a route of its own


@pytest.mark.parametrize(
    ("header", "locale"),
    [
        (None, "en"),
        ("", "en"),
        ("fr", "en"),
        ("ko", "ko"),
        ("en-GB;q=0.3, ko;q=0.8", "ko"),
        ("ko;q=x, en", "en"),
        ("ko;q=0", "en"),
        ("ko; q=0.3, en; q=0.8", "en"),
        ("kok, en;q=0.5", "en"),  # Konkani
    ],
)
def test_the_preferred_language_wins(header: str | None, locale: str) -> None:
    assert caller_locale(header) == locale


@given(st.text())
def test_no_accept_language_header_breaks_a_reply(header: str) -> None:
    assert caller_locale(header) in ("ko", "en")
