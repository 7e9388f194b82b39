"""Settings of the gateway."""

from typing import Any, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    ConfigDict,
    IPvAnyNetwork,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
)

from common.claims import Plan
from common.settings import ServiceSettings

LimitName = Literal["ask", "player", "export", "sign_in", "account", "ops", "failed_tokens", "questions_per_day"]


class Limit(NamedTuple):
    """At most `requests` in any `seconds`; written `[30, 60]` in the environment."""

    requests: PositiveInt
    seconds: PositiveInt


class Limits(BaseModel):
    """All limits, first by group of routes (`routes.py`); what the environment leaves out keeps its default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Per signed-in player.
    ask: dict[Plan, Limit] = {"free": Limit(30, 60), "premium": Limit(120, 60)}
    player: dict[Plan, Limit] = {"free": Limit(300, 60), "premium": Limit(600, 60)}
    export: dict[Plan, Limit] = {"free": Limit(10, 3600), "premium": Limit(10, 3600)}
    # Per IP address: a whole internet café may share one.
    sign_in: Limit = Limit(120, 60)
    account: Limit = Limit(600, 60)
    ops: Limit = Limit(600, 60)
    # Tokens that do not verify, per IP address and gateway process. Over it new tokens of honest neighbours are refused
    # too, so it is as high as a process can well afford: 100 signatures a second.
    failed_tokens: Limit = Limit(6000, 60)
    # Per signed-in player and calendar day.
    questions_per_day: dict[Plan, PositiveInt] = {"free": 200, "premium": 2000}
    # Limits on trial: counted and logged, but they refuse nothing and are not told to callers.
    shadow: frozenset[LimitName] = frozenset()

    @field_validator("ask", "player", "export", "questions_per_day")
    @classmethod
    def name_every_plan(cls, value: dict[Plan, Any]) -> dict[Plan, Any]:
        """A plan without a limit would be found out by its first player."""
        if missing := set(get_args(Plan)) - value.keys():
            raise ValueError(f"no limit for {', '.join(sorted(missing))}")
        return value


class Settings(ServiceSettings):
    """All a gateway can be told."""

    # Limits are counted here.
    state_redis_url: SecretStr
    # What the gateway shows auth, to be told which tokens are revoked.
    client_secret: SecretStr
    # Each may name several addresses, separated by commas: when one cannot be reached the next is tried.
    auth_url: str = "http://127.0.0.1:8001"
    coach_url: str = "http://127.0.0.1:8002"
    admin_url: str = "http://127.0.0.1:8004"
    # Per service: requests in flight, streams included, and those that may wait for one of them to end, for so long.
    upstream_connections: PositiveInt = 1000
    upstream_waiting: NonNegativeInt = 200
    upstream_wait_seconds: PositiveFloat = 2.0
    # Of clients, 15 KiB each. Beyond it those without a request make room.
    max_connections: PositiveInt = 5000
    # Longer than a proxy in front keeps idle connections (nginx 60 s), or it would now and then use one that we close.
    keep_alive_seconds: PositiveInt = 75
    # Told to stop: for how long connections are still accepted, with readiness off, until load balancers have noticed;
    # and then, how long what runs may take to finish.
    drain_seconds: NonNegativeFloat = 0.0
    shutdown_seconds: PositiveInt = 25
    # /metrics and /healthz, out of reach of the public port; 0 leaves them out. One process per port.
    metrics_port: int = 0
    # In a container another address than the public one's network can see, or 0.0.0.0 behind a network policy.
    metrics_host: str = "127.0.0.1"
    # Only these peers' X-Forwarded-For and -Proto are believed.
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    # Origins whose pages may call us, such as https://play.example.
    cors_origins: tuple[str, ...] = ()
    limits: Limits = Limits()
    # Daily quotas begin anew at this zone's midnight.
    time_zone: ZoneInfo = ZoneInfo("Asia/Seoul")
    openapi_refresh_seconds: PositiveFloat = 10.0
