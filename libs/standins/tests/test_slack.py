"""A webhook's client against the stand-in."""

from collections.abc import Iterator

import httpx
import pytest

from standins.slack import SlackStandin, run_slack


@pytest.fixture(scope="module")
def running_slack() -> Iterator[SlackStandin]:
    with run_slack() as slack:
        yield slack


@pytest.fixture
def slack(running_slack: SlackStandin) -> SlackStandin:
    running_slack.clear()
    return running_slack


def test_message_is_kept(slack: SlackStandin) -> None:
    reply = httpx.post(slack.webhook_url, json={"text": "12 jobs failed"})
    assert (reply.status_code, reply.text) == (200, "ok")
    assert slack.messages == [{"text": "12 jobs failed"}]


def test_refused_messages_are_calls_but_not_messages(slack: SlackStandin) -> None:
    slack.fail(429, headers={"Retry-After": "30"})
    slack.fail(500)
    replies = [httpx.post(slack.webhook_url, json={"text": "alarm"}) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [429, 500, 200]
    assert replies[0].headers["Retry-After"] == "30"
    assert (len(slack.calls), len(slack.messages)) == (3, 1)


@pytest.mark.parametrize(("content", "error"), [("{}", "no_text"), ("text=hello", "invalid_payload")])
def test_payload_that_slack_would_refuse_is_refused(slack: SlackStandin, content: str, error: str) -> None:
    reply = httpx.post(slack.webhook_url, content=content)
    assert (reply.status_code, reply.text) == (400, error)
