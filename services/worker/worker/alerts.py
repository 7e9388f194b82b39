"""Tells people on Slack what a dashboard would tell too late."""

import logging

import httpx
from prometheus_client import Counter
from pydantic import SecretStr

logger = logging.getLogger(__name__)

# Nobody waits for an alert, and no job may.
TIMEOUT = httpx.Timeout(3.0, connect=2.0)

alerts_sent = Counter("alerts_total", "Alerts handed to Slack", ["outcome"])


class Slack:
    """An incoming webhook, or silence where none is set."""

    def __init__(self, webhook_url: SecretStr | None) -> None:
        self._url = webhook_url

    async def send(self, text: str) -> None:
        """Post `text`; a failing Slack is counted and logged, never raised."""
        if self._url is None:
            return
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as client:
                response = await client.post(self._url.get_secret_value(), json={"text": text})
                response.raise_for_status()
        except httpx.HTTPError as error:
            # Not the error's own words: they hold the webhook's address, which is a secret.
            alerts_sent.labels("failed").inc()
            logger.warning("Slack did not take an alert", extra={"reason": type(error).__name__})
        else:
            alerts_sent.labels("sent").inc()
