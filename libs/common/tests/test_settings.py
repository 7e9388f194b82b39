"""Secrets that nobody set must stop a service from starting outside development."""

import pytest
from pydantic import Field, SecretStr, ValidationError

from common.settings import ServiceSettings


class Settings(ServiceSettings):
    client_secret: SecretStr = SecretStr("change-me")
    secrets: dict[str, SecretStr] = Field(default_factory=dict)


@pytest.mark.parametrize("env", ["staging", "production"])
@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"client_secret": "short"},
        {"client_secret": "long-enough-to-be-one", "database_url": "postgresql://coach:change-me@db/x"},
        {"client_secret": "long-enough-to-be-one", "secrets": {"coach": "change-me"}},
    ],
)
def test_example_and_short_secrets_are_refused(env: str, wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"example value|shorter than"):
        Settings(env=env, **wrong)


def test_development_runs_with_example_secrets() -> None:
    assert Settings(env="development").env == "development"


def test_a_secret_is_never_printed() -> None:
    settings = Settings(env="production", client_secret=SecretStr("long-enough-to-be-one"))
    assert "long-enough" not in repr(settings)
