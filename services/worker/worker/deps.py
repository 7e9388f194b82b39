"""What routes may ask for."""

from typing import Annotated, cast

from fastapi import Depends, Request
from redis.asyncio import Redis

from common.identity import User, require_acting_role
from worker.queues import Consumers
from worker.settings import Settings


def _settings(request: Request) -> Settings:
    return cast("Settings", request.state.settings)


def _broker(request: Request) -> Redis:
    return cast("Redis", request.state.broker_redis)


def _consumers(request: Request) -> Consumers:
    return cast("Consumers", request.state.consumers)


SettingsDep = Annotated[Settings, Depends(_settings)]
BrokerDep = Annotated[Redis, Depends(_broker)]
ConsumersDep = Annotated[Consumers, Depends(_consumers)]
ActingAdmin = Annotated[User, Depends(require_acting_role("admin"))]
