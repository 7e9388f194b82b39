"""What ops see of the queues, with and without a broker."""

import json
import socket

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from common.testing import Tokens, running
from worker.app import build
from worker.settings import Settings

from .conftest import Api

TEXT = "# Archers\n\nKeep them behind spears."


@pytest.mark.usefixtures("clean_redis")
async def test_depth_counts_what_waits_and_what_workers_hold(api: Api, redis_urls: dict[str, str]) -> None:
    async with Redis.from_url(redis_urls["broker"]) as broker:
        await broker.lpush("maintenance", "a", "b")
        await broker.hset("unacked", "tag", json.dumps([{}, "", "maintenance"]))
    queues = {queue["name"]: queue for queue in (await api.get("/queues")).json()["queues"]}
    assert list(queues) == ["interactive", "ingest", "maintenance"]
    assert queues["maintenance"] == {
        "name": "maintenance",
        "depth": 3,
        "oldest_seconds": None,
        "eta_seconds": None,
        "consumers": 0,
        "rate_per_minute": 0,
        "retries": 0,
        "dead_letters": 0,
    }


async def test_the_oldest_waiting_job_tells_the_age(api: Api) -> None:
    await api.upload("guide.md", TEXT, locale="en")
    queues = {queue["name"]: queue for queue in (await api.get("/queues")).json()["queues"]}
    assert queues["ingest"]["oldest_seconds"] > 0


async def test_an_upload_is_accepted_while_the_broker_is_away(settings: Settings, tokens: Tokens) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nowhere = f"redis://127.0.0.1:{closed.getsockname()[1]}/0"
    brokerless = settings.model_copy(update={"broker_redis_url": SecretStr(nowhere)})
    async with running(build(brokerless)) as http:
        api = Api(http, tokens)
        assert (await api.upload("guide.md", TEXT, locale="en")).status_code == 202
        queues = await api.get("/queues")
        assert (queues.status_code, queues.json()["code"]) == (503, "broker_unavailable")
        ready = (await http.get("/readyz")).json()
        assert (ready["checks"]["redis_broker"]["ok"], ready["checks"]["postgres"]["ok"]) == (False, True)
