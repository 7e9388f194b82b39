"""What auth reads from the environment."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints

from common.settings import ServiceSettings


class Settings(ServiceSettings):
    """Auth's own `DUGOUT_*` variables."""

    database_url: SecretStr
    # A Fernet key: encrypts the private signing keys in the database.
    key_encryption_key: SecretStr
    # The clients of ours, by name, with the secret each one presents at /internal/token.
    service_secrets: dict[str, SecretStr] = Field(default_factory=dict)

    # Hashes the identities of erased accounts. With another one, bans of erased accounts are forgotten.
    erasure_key: SecretStr
    # Seconds after an erasure was ordered at which all services are asked once more: when most questions that were
    # under way have ended, then the longest, then the longest upload.
    erasure_repeat_seconds: list[float] = Field(default=[15, 180, 900])

    # The services that hold something of a person.
    coach_url: str = "http://127.0.0.1:8002"
    worker_url: str = "http://127.0.0.1:8005"
    admin_url: str = "http://127.0.0.1:8004"

    access_token_seconds: int = Field(default=600, ge=60, le=3600)
    # Counts from the last use: who comes back once in this time stays signed in. In the environment `P30D`.
    refresh_lifetime: timedelta = timedelta(days=30)

    # OAuth client ids that an ID token may be meant for; with none, Google sign-in refuses everybody.
    google_client_ids: list[str] = Field(default_factory=list)
    google_certs_url: str = "https://www.googleapis.com/oauth2/v1/certs"
    google_timeout_seconds: float = 3.0

    # Who becomes an admin when signing in with Google, by an address that Google has verified. Meant for the first
    # admin: take an address out again once its owner is one, since addresses can change hands and accounts cannot.
    admin_emails: list[Annotated[str, StringConstraints(to_lower=True)]] = Field(default_factory=list)
