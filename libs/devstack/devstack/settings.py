"""Where this clone's system lives: ports, state folder and sample data, from the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CLONE = Path(__file__).resolve().parents[3]
DEFAULT_PORT = 8000
# Also taken, when free: one port for each service behind the gateway, and one for the gateway's metrics.
PORTS_ABOVE = 6


class SettingsError(ValueError):
    """The environment cannot be used as it is; the message says what to set."""


@dataclass(frozen=True)
class Settings:
    """`DUGOUT_PORT`, `DUGOUT_STATE` and `DUGOUT_URL` (a system to talk to that is not the one of this state folder)."""

    port: int
    state: Path
    url: str | None = None
    data: Path = CLONE / "data"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        port = environment.get("DUGOUT_PORT") or str(DEFAULT_PORT)
        if not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65535 - PORTS_ABOVE:
            raise SettingsError(f"DUGOUT_PORT={port} is not a port; set one between 1 and {65535 - PORTS_ABOVE}")
        state = Path(environment.get("DUGOUT_STATE") or CLONE / ".dugout").expanduser().absolute()
        return cls(int(port), state, environment.get("DUGOUT_URL") or None)

    @property
    def log(self) -> Path:
        return self.state / "logs" / "dugout.log"
