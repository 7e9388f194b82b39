"""What the worker reads from the environment; its API and its Celery processes read the same."""

from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from common.settings import ServiceSettings

# A task past its own deadline still has to write down that it failed; after this it is killed.
KILL_AFTER_SECONDS = 60


class Settings(ServiceSettings):
    """The worker's own `DUGOUT_*` variables."""

    database_url: SecretStr
    broker_redis_url: SecretStr
    rag_url: str = "http://127.0.0.1:8003"
    coach_url: str = "http://127.0.0.1:8002"
    client_secret: SecretStr
    slack_webhook_url: SecretStr | None = None

    upload_max_bytes: int = Field(default=32 * 1024 * 1024, ge=1)

    # The broker hands a task that is not acknowledged for this long to another process.
    visibility_timeout_seconds: int = 3600
    job_seconds: int = Field(default=3000, ge=1)
    job_attempts: int = Field(default=5, ge=1)
    retry_first_seconds: float = Field(default=4, gt=0)
    retry_longest_seconds: float = 300

    # rag embeds what it is given before it answers: 64 long documents take a minute on two cores.
    rag_timeout_seconds: float = 300
    coach_timeout_seconds: float = 120
    summary_window_seconds: int = Field(default=300, ge=30)

    @field_validator("slack_webhook_url", mode="before")
    @classmethod
    def empty_is_unset(cls, value: object) -> object:
        """Compose files pass an unset variable on as an empty one."""
        return value or None

    @model_validator(mode="after")
    def check_time_limits(self) -> Self:
        """A task that outlives the visibility timeout would be handed out twice."""
        if self.job_seconds + KILL_AFTER_SECONDS >= self.visibility_timeout_seconds:
            raise ValueError(
                f"job_seconds ({self.job_seconds}) + {KILL_AFTER_SECONDS} must stay below"
                f" visibility_timeout_seconds ({self.visibility_timeout_seconds})"
            )
        return self
