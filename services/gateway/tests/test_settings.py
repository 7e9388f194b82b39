"""Tests of `gateway.settings`: limits from the environment."""

import pytest
from pydantic import ValidationError

from gateway.settings import Limit, Limits, Settings


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUGOUT_ENV", "development")
    monkeypatch.setenv("DUGOUT_STATE_REDIS_URL", "redis://127.0.0.1:6379/0")
    monkeypatch.setenv("DUGOUT_CLIENT_SECRET", "gateway-secret-of-the-tests")


def test_one_group_is_changed_and_the_others_keep_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUGOUT_LIMITS", '{"ask": {"free": [5, 60], "premium": [50, 60]}}')
    limits = Settings().limits
    assert limits.ask == {"free": Limit(5, 60), "premium": Limit(50, 60)}
    assert limits.sign_in == Limits().sign_in


@pytest.mark.parametrize(
    "limits",
    [
        '{"ask": {"free": [5, 60]}}',
        '{"sign_in": [0, 60]}',
        '{"sign_in": [5]}',
        '{"unknown": [5, 60]}',
        '{"questions_per_day": {"free": 50}}',
        '{"questions_per_day": {"free": 0, "premium": 50}}',
        '{"shadow": ["everything"]}',
    ],
)
def test_limits_that_make_no_sense_stop_the_start(monkeypatch: pytest.MonkeyPatch, limits: str) -> None:
    monkeypatch.setenv("DUGOUT_LIMITS", limits)
    with pytest.raises(ValidationError):
        Settings()


def test_a_time_zone_that_there_is_not_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUGOUT_TIME_ZONE", "Asia/Pyongchang")
    with pytest.raises(ValidationError):
        Settings()
