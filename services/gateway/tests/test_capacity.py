"""Tests of `gateway.capacity`: a service is asked so much at once, and who comes too late is told at once."""

import asyncio

import pytest
from prometheus_client import REGISTRY
from starlette.types import Receive, Scope, Send

from common.errors import UnavailableError
from common.testing import Tokens
from gateway.capacity import Capacity

from .conftest import OpenGateway, ScriptedService, reply


@pytest.fixture
def capacity() -> Capacity:
    return Capacity("test", slots=1, waiting_places=2, wait_seconds=5.0)


async def in_line(capacity: Capacity) -> asyncio.Task[None]:
    """A request that has begun to wait."""
    task = asyncio.create_task(capacity.wait())
    await asyncio.sleep(0)
    return task


async def test_who_waits_longest_gets_the_next_slot(capacity: Capacity) -> None:
    assert capacity.take()
    first, second = await in_line(capacity), await in_line(capacity)
    capacity.give_back()
    await first
    assert not capacity.take(), "the slot went to the second, not to a newcomer"
    assert not second.done()
    capacity.give_back()
    await second
    capacity.give_back()
    assert capacity.take()


async def test_more_than_may_wait_are_refused_at_once(capacity: Capacity) -> None:
    assert capacity.take()
    waiting = [await in_line(capacity) for _ in range(2)]
    with pytest.raises(UnavailableError) as refusal:
        await capacity.wait()
    assert refusal.value.headers["Retry-After"]
    for task in waiting:
        task.cancel()


async def test_waiting_ends_in_time() -> None:
    capacity = Capacity("test", slots=1, waiting_places=1, wait_seconds=0.02)
    assert capacity.take()
    with pytest.raises(UnavailableError):
        await capacity.wait()
    capacity.give_back()
    assert capacity.take(), "the slot was not kept for one who has left"


@pytest.mark.parametrize("had_got_it", [True, False])
async def test_a_client_that_leaves_the_line_takes_no_slot_with_it(capacity: Capacity, had_got_it: bool) -> None:
    assert capacity.take()
    leaving, staying = await in_line(capacity), await in_line(capacity)
    if had_got_it:
        capacity.give_back()
    leaving.cancel()
    if not had_got_it:
        capacity.give_back()
    await asyncio.wait_for(staying, 1)
    assert leaving.cancelled()
    capacity.give_back()
    assert capacity.take()


async def test_a_slow_service_sheds_its_own_requests_and_no_other_services(
    open_gateway: OpenGateway, service: ScriptedService, tokens: Tokens, clean_redis: None
) -> None:
    release = asyncio.Event()

    async def slow_coach(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith("/api/coach"):
            await release.wait()
        await reply(send, 200, {})

    service.answer = slow_coach
    gateway = await open_gateway(upstream_connections=1, upstream_waiting=1)
    admitted = [asyncio.create_task(gateway.get("/api/coach/games", headers=tokens.headers())) for _ in range(2)]
    while not (sample("in_flight") == sample("waiting") == 1):  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0.01)
    refused = await gateway.get("/api/coach/games", headers={**tokens.headers(), "Accept-Language": "ko"})
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert "요청이 많습니다" in refused.json()["detail"]
    assert refused.headers["Retry-After"]
    assert sample("shed_total", reason="full") >= 1
    assert (await gateway.get("/admin/stats")).status_code == 200
    release.set()
    assert [(await task).status_code for task in admitted] == [200, 200]
    assert sample("in_flight") == sample("waiting") == 0
    assert sample("queue_seconds_count") >= 1


def sample(name: str, **labels: str) -> float:
    """A figure of this process about coach."""
    return REGISTRY.get_sample_value(f"gateway_upstream_{name}", {"service": "coach", **labels}) or 0.0
