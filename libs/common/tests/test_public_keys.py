"""When auth is asked for its keys, and what holds when it does not answer."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from common.errors import UnavailableError
from common.public_keys import PublicKeys
from common.testing import KEY_ID, Tokens


class Auth:
    """Publishes keys, while it is there, and counts who asks; the clock is in our hands."""

    def __init__(self, *published: Any) -> None:
        self.published = list(published)
        self.is_away = False
        self.fetches = 0
        self.now = 1000.0

    async def keys(self) -> list[Any]:
        self.fetches += 1
        await asyncio.sleep(0)
        if self.is_away:
            raise UnavailableError
        return self.published


@pytest.fixture
def auth(tokens: Tokens) -> Auth:
    return Auth(tokens.public_jwk())


def keys_of(auth: Auth, on_dropped: Callable[[], None] = lambda: None) -> PublicKeys:
    return PublicKeys(auth.keys, on_dropped=on_dropped, clock=lambda: auth.now)


async def test_a_thousand_unknown_keys_in_half_a_minute_are_one_fetch(auth: Auth) -> None:
    keys = keys_of(auth)
    assert await keys.get(KEY_ID)
    for number in range(1000):
        assert await keys.get(f"made-up-{number}") is None
        auth.now += 29.9 / 1000
    assert auth.fetches == 1
    auth.now += 0.2
    assert await asyncio.gather(*(keys.get(f"made-up-{number}") for number in range(100))) == [None] * 100
    assert auth.fetches == 2


async def test_all_who_come_before_the_first_key_wait_for_one_fetch(auth: Auth) -> None:
    keys = keys_of(auth)
    assert all(await asyncio.gather(*(keys.get(KEY_ID) for _ in range(100))))
    assert auth.fetches == 1


async def test_while_auth_is_away_it_is_asked_every_other_second(auth: Auth) -> None:
    keys = keys_of(auth)
    auth.is_away = True
    for attempt in range(1, 4):
        for number in range(100):
            with pytest.raises(UnavailableError):
                await keys.get(f"made-up-{number}")
        assert auth.fetches == attempt
        auth.now += 2
    auth.is_away = False
    assert await keys.get(KEY_ID)


async def test_while_auth_is_away_known_keys_hold(auth: Auth) -> None:
    keys = keys_of(auth)
    await keys.get(KEY_ID)
    auth.is_away = True
    for _ in range(90):
        auth.now += 1
        assert await keys.get(KEY_ID)
        await asyncio.sleep(0)
    assert auth.fetches <= 1 + 90 / 2


async def test_a_key_nobody_can_be_asked_about_is_unavailable_and_not_wrong(auth: Auth) -> None:
    keys = keys_of(auth)
    await keys.get(KEY_ID)
    auth.is_away = True
    auth.now += 30
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await keys.get("published just now")
    assert auth.fetches == 2
    auth.is_away = False
    auth.now += 2
    assert await keys.get("published just now") is None


async def test_a_new_key_is_known_before_it_signs_whatever_a_flood_asks(auth: Auth, tokens: Tokens) -> None:
    keys = keys_of(auth)
    await keys.get(KEY_ID)
    auth.published.append({**tokens.public_jwk(), "kid": "new"})
    for number in range(600):
        auth.now += 0.1
        await keys.get(f"made-up-{number}")
    fetches = auth.fetches
    assert await keys.get("new")
    assert auth.fetches == fetches


async def test_under_traffic_a_dropped_key_is_forgotten_within_half_a_minute(auth: Auth, tokens: Tokens) -> None:
    dropped: list[bool] = []
    keys = keys_of(auth, on_dropped=lambda: dropped.append(True))
    auth.published.append({**tokens.public_jwk(), "kid": "leaked"})
    assert await keys.get("leaked")
    auth.published.pop()
    auth.now += 30
    assert await keys.get(KEY_ID)
    assert await keys.get("no such") is None  # waits for the fetch that the call before began
    assert dropped == [True]
    assert await keys.get("leaked") is None


@pytest.mark.parametrize("broken", [[], [{"kid": "new"}], [{"kty": "RSA"}], ["no key"]])
async def test_keys_that_are_none_leave_those_that_are_known(auth: Auth, broken: list[Any]) -> None:
    keys = keys_of(auth)
    await keys.get(KEY_ID)
    auth.published = broken
    auth.now += 30
    with pytest.raises(UnavailableError):
        await keys.get("new")
    assert await keys.get(KEY_ID)
