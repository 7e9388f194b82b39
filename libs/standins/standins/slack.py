"""The receiving end of a Slack incoming webhook."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from standins.standin import Exchange, Reply, Standin, run

WEBHOOK = "/services/T0000/B0000/standin"
PLAIN = {"Content-Type": "text/plain; charset=utf-8"}


class SlackStandin(Standin):
    """Keeps what is posted to `webhook_url`."""

    def __init__(self, *, log: Path | None = None) -> None:
        super().__init__(log=log)
        self.routes |= {("POST", WEBHOOK): self._receive}

    @property
    def webhook_url(self) -> str:
        """Where to post."""
        return self.url + WEBHOOK

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Payloads that were taken, oldest first; refused posts are in `calls` only."""
        return [call.body for call in self.calls if call.path == WEBHOOK and call.status == 200]

    def fail(self, status: int, *, headers: Mapping[str, str] | None = None, **options: Any) -> None:
        """Refuse the next post: `slack.fail(429, headers={"Retry-After": "30"})`."""
        body = "rate_limited" if status == 429 else "service_error"
        self.script(WEBHOOK, Reply(status=status, body=body, headers={**PLAIN, **(headers or {})}, **options))

    async def _receive(self, exchange: Exchange) -> None:
        payload = exchange.call.body
        if not isinstance(payload, dict):
            await exchange.answer(400, "invalid_payload", PLAIN)
        elif not payload.keys() & {"text", "blocks", "attachments"}:
            await exchange.answer(400, "no_text", PLAIN)
        else:
            await exchange.answer(200, "ok", PLAIN)


def run_slack(*, port: int = 0, **options: Any) -> AbstractContextManager[SlackStandin]:
    """A running server for a `with` block; `options` go to SlackStandin."""
    return run(SlackStandin(**options), port)
