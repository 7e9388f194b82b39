"""Settings every service has, read once at start from `DUGOUT_*` variables."""

from typing import Any, Literal, Self

from pydantic import SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

# Stands in every example value, so that an unedited example cannot reach production.
EXAMPLE_SECRET = "change-me"  # noqa: S105
SHORTEST_SECRET = 16


class ServiceSettings(BaseSettings):
    """Base of each service's `Settings`; a service that needs an optional address re-declares it as required."""

    model_config = SettingsConfigDict(env_prefix="DUGOUT_", extra="ignore", frozen=True, hide_input_in_errors=True)

    # Production is the default: forgetting the variable must not open the development sign-in.
    env: Literal["development", "staging", "production"] = "production"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "text"] = "json"
    issuer: str = "dugout"
    auth_url: str = "http://127.0.0.1:8001"
    otlp_endpoint: str | None = None
    # What the service shows auth to get its tokens; only auth itself has none.
    client_secret: SecretStr | None = None

    database_url: SecretStr | None = None
    database_pool_size: int = 10
    cache_redis_url: SecretStr | None = None
    state_redis_url: SecretStr | None = None
    broker_redis_url: SecretStr | None = None

    @model_validator(mode="after")
    def refuse_example_secrets(self) -> Self:
        """Outside development every secret must be set, edited and long enough."""
        if self.env == "development":
            return self
        for name, value in self:
            for secret in _secrets_in(value):
                if EXAMPLE_SECRET in secret:
                    raise ValueError(f"{name} still has its example value; set it before running in {self.env}")
                if "://" not in secret and len(secret) < SHORTEST_SECRET:
                    raise ValueError(f"{name} is shorter than {SHORTEST_SECRET} characters")
        return self


def _secrets_in(value: Any) -> list[str]:
    if isinstance(value, SecretStr):
        return [value.get_secret_value()]
    if isinstance(value, dict):
        return [secret for item in value.values() for secret in _secrets_in(item)]
    return []
