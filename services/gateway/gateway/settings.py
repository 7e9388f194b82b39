"""Settings of the gateway."""

from typing import NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, IPvAnyNetwork, PositiveInt, SecretStr, field_validator

from common.identity import Plan
from common.settings import ServiceSettings


class Limit(NamedTuple):
    """At most `requests` in any `seconds`; written `[30, 60]` in the environment."""

    requests: PositiveInt
    seconds: PositiveInt


class Limits(BaseModel):
    """Limits by group of routes (`routes.py`); a group that the environment leaves out keeps its default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Per signed-in player.
    ask: dict[Plan, Limit] = {"free": Limit(30, 60), "premium": Limit(120, 60)}
    player: dict[Plan, Limit] = {"free": Limit(300, 60), "premium": Limit(600, 60)}
    # Per IP address: a whole internet café may share one.
    sign_in: Limit = Limit(60, 60)
    account: Limit = Limit(600, 60)
    ops: Limit = Limit(600, 60)

    @field_validator("ask", "player")
    @classmethod
    def name_every_plan(cls, value: dict[Plan, Limit]) -> dict[Plan, Limit]:
        """A plan without a limit would be found out by its first player."""
        if missing := set(get_args(Plan)) - value.keys():
            raise ValueError(f"no limit for {', '.join(sorted(missing))}")
        return value


class Settings(ServiceSettings):
    """All a gateway can be told."""

    # Limits are counted here.
    state_redis_url: SecretStr
    # Each may name several addresses, separated by commas: when one cannot be reached the next is tried.
    auth_url: str = "http://127.0.0.1:8001"
    coach_url: str = "http://127.0.0.1:8002"
    admin_url: str = "http://127.0.0.1:8004"
    # Per service, streams included.
    upstream_connections: int = 1000
    # /metrics and /healthz, out of reach of the public port; 0 leaves them out. One process per port.
    metrics_port: int = 0
    # In a container another address than the public one's network can see, or 0.0.0.0 behind a network policy.
    metrics_host: str = "127.0.0.1"
    # Only these peers' X-Forwarded-For and -Proto are believed. Run uvicorn with --no-proxy-headers, or it believes
    # local peers before we see the request.
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    # Origins whose pages may call us, such as https://play.example.
    cors_origins: tuple[str, ...] = ()
    limits: Limits = Limits()
    openapi_refresh_seconds: float = 60.0
