"""What admin reads from the environment."""

from pydantic import Field, SecretStr

from common.settings import ServiceSettings


class Settings(ServiceSettings):
    """Admin's own `DUGOUT_*` variables."""

    database_url: SecretStr
    coach_url: str = "http://127.0.0.1:8002"
    rag_url: str = "http://127.0.0.1:8003"
    worker_url: str = "http://127.0.0.1:8005"
    client_secret: SecretStr

    # A page made of several services waits for none of them longer.
    page_seconds: float = Field(default=3, gt=0)
    upload_max_bytes: int = Field(default=32 * 1024 * 1024, ge=1)
    # The worker reads an uploaded file to its end before it answers.
    upload_seconds: float = 60
