"""The route table: which service answers a path, for whom, how often, how much, how long."""

import re
from dataclasses import dataclass
from typing import Literal

Service = Literal["auth", "coach", "admin"]
# required: a valid token. optional: a token that is there must be valid. none: the service looks at it, we do not.
Who = Literal["required", "optional", "none"]
PlayerGroup = Literal["ask", "player", "export"]
AddressGroup = Literal["sign_in", "account", "ops"]
# local: this process goes on counting by itself. admit: nobody counts.
WhenRedisAway = Literal["local", "admit"]

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Route:
    """All paths at or below `prefix`."""

    prefix: str
    service: Service
    who: Who
    limit: PlayerGroup | AddressGroup
    when_redis_away: WhenRedisAway = "local"
    body_cap: int = 64 * KIB
    # In which the whole body must be here, or slow senders could hold every connection to the service.
    body_seconds: float = 30.0
    # The longest silence of the service, not the length of a stream: a model may think before its first word.
    read_timeout: float = 10.0
    exact: bool = False

    @property
    def path(self) -> str:
        """The name in logs, metrics and traces."""
        return self.prefix if self.exact else f"{self.prefix}/*"


ROUTES = (
    Route("/auth", "auth", "none", "account"),
    # Every service looks through its tables for it.
    Route("/auth/me/export", "auth", "required", "export", read_timeout=30.0, exact=True),
    Route("/auth/google", "auth", "none", "sign_in"),
    Route("/auth/dev", "auth", "none", "sign_in"),
    Route("/.well-known/jwks.json", "auth", "none", "account", when_redis_away="admit", exact=True),
    Route("/api/coach", "coach", "required", "player", read_timeout=30.0),
    # Longer than coach itself allows retrieval and model together, so that its own words arrive.
    Route("/api/coach/ask", "coach", "required", "ask", read_timeout=90.0),
    # Who looks into an outage must not be held up by it.
    Route("/admin", "admin", "optional", "ops", when_redis_away="admit", read_timeout=30.0),
    Route(
        "/admin/documents",
        "admin",
        "optional",
        "ops",
        when_redis_away="admit",
        # A file of 32 MiB, which admin itself allows, and the form around it.
        body_cap=33 * MIB,
        body_seconds=600.0,
        read_timeout=120.0,
    ),
)

_BY_PREFIX = {route.prefix: route for route in ROUTES}
# A path of 30,000 segments would otherwise be put together 30,000 times.
_DEEPEST = max(prefix.count("/") for prefix in _BY_PREFIX) + 1

# Slashes in disguise, doubled slashes, control characters: servers disagree on what these mean, and none of our
# paths needs one.
_AMBIGUOUS = re.compile(r"%2f|%5c|%[01][0-9a-f]|%7f|\\|//", re.IGNORECASE)


def find_route(path: str, raw_path: str) -> Route | None:
    """The row with the longest matching prefix; `path` is `raw_path` decoded. None also for what could be misread."""
    segments = path.split("/")
    if _AMBIGUOUS.search(raw_path) or "." in segments or ".." in segments:
        return None
    for end in range(min(len(segments), _DEEPEST), 1, -1):
        route = _BY_PREFIX.get("/".join(segments[:end]))
        if route and (end == len(segments) or not route.exact):
            return route
    return None
