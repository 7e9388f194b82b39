"""What rag reads from the environment."""

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from common.settings import ServiceSettings


class Settings(ServiceSettings):
    """Rag's own `DUGOUT_*` variables."""

    database_url: SecretStr
    cache_redis_url: SecretStr
    client_secret: SecretStr

    # `local` needs no key and no network; `openai` is any server with OpenAI's API. Changing it hides all documents
    # until they are published again: vectors of two models are never compared.
    embedding_provider: Literal["local", "openai"] = "local"
    embedding_threads: int = Field(default=2, ge=1, le=64)  # of the local model, for questions and again for documents
    embedding_model: str = "text-embedding-3-small"  # of OpenAI
    openai_api_key: SecretStr | None = None
    openai_base_url: str | None = None

    # Vectors made in advance (`make vectors`), by a pattern such as `/data/*/vectors-*.npz`.
    vector_files: str | None = None

    exact_cache_seconds: int = Field(default=300, ge=1)
    semantic_cache_seconds: int = Field(default=28 * 86_400, ge=1)

    @model_validator(mode="after")
    def openai_needs_a_key(self) -> Self:
        """Fail at start rather than at the first question."""
        if self.embedding_provider == "openai" and self.openai_api_key is None:
            raise ValueError("embedding_provider is openai, but openai_api_key is not set")
        return self
