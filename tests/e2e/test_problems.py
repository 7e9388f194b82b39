"""Every failure is a problem document with a stable code, in the caller's language."""

import re
from typing import Any

import httpx
import pytest

ASK = "/api/coach/ask"
HANGUL = re.compile("[가-힣]")

FAILURES: list[tuple[int, str, dict[str, Any]]] = [
    (404, "unknown_game", {"json": {"game": "no-such-game", "question": "Who is strong?"}}),
    (422, "invalid_request", {"json": {"game": "wesnoth", "question": ""}}),
    (422, "invalid_request", {"json": {"game": "wesnoth", "question": "Who?", "context": {"unknown": "x"}}}),
    (422, "invalid_request", {"content": b"no json", "headers": {"Content-Type": "application/json"}}),
    (413, "payload_too_large", {"content": b"x" * 2_000_000}),
]


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The document, after what all of them have in common."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert (document["status"], document["code"]) == (status, code)
    assert document["instance"] == response.request.url.path
    assert document["request_id"] == response.headers["x-request-id"]
    return document


@pytest.mark.parametrize(("status", "code", "request_"), FAILURES)
def test_what_cannot_be_asked_is_explained_in_both_languages(
    somebody: httpx.Client, status: int, code: str, request_: dict[str, Any]
) -> None:
    for language in ("en", "ko"):
        headers = {**request_.get("headers", {}), "Accept-Language": language}
        document = assert_problem(somebody.post(ASK, **{**request_, "headers": headers}), status, code)
        assert bool(HANGUL.search(document["title"])) is (language == "ko")
        assert bool(HANGUL.search(document["detail"])) is (language == "ko")


def test_a_wrong_field_is_named(somebody: httpx.Client) -> None:
    response = somebody.post(ASK, json={"game": "wesnoth", "question": ""})
    [error] = assert_problem(response, 422, "invalid_request")["errors"]
    assert error["field"] == "body.question"


@pytest.mark.parametrize("authorization", [None, "Bearer x", "Bearer e30.e30.e30", "Basic eDp5"])
def test_without_a_good_token_nobody_asks(nobody: httpx.Client, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    response = nobody.post(ASK, json={"game": "wesnoth", "question": "Who?"}, headers=headers)
    assert_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/internal", "/internal/token", "/internal/stats", "/retrieve", "/remember", "/nowhere", "/"],
)
def test_nothing_of_the_inside_can_be_reached(somebody: httpx.Client, path: str) -> None:
    assert_problem(somebody.get(path), 404, "not_found")
    assert_problem(somebody.post(path, json={}), 404, "not_found")


def test_what_exists_refuses_another_method(somebody: httpx.Client) -> None:
    assert_problem(somebody.put(ASK, json={}), 405, "method_not_allowed")
