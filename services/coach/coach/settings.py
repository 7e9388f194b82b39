"""What coach reads from its environment."""

from zoneinfo import ZoneInfo

from pydantic import SecretStr, field_validator, model_validator

from common.settings import ServiceSettings

UNNEEDED_KEY = "this-server-needs-no-key"


class Settings(ServiceSettings):
    """Coach's settings; times are in seconds."""

    database_url: SecretStr

    rag_url: str = "http://127.0.0.1:8003"
    client_id: str = "coach"
    client_secret: SecretStr

    # With neither a key nor an address the coach quotes its sources instead of calling a model.
    openai_api_key: SecretStr | None = None
    openai_base_url: str = "https://api.openai.com/v1"
    # Replaces every game's own model, for servers that offer just one.
    chat_model: str | None = None
    default_model: str = "gpt-4o-mini"

    # All attempts and the waits between them; a player will not wait longer.
    model_deadline: float = 60.0
    # The longest silence of the model, before its first token too.
    model_silence: float = 20.0
    retrieve_timeout: float = 10.0
    # The answer is ready by then; a slow cache may not hold it back for long.
    remember_timeout: float = 1.0
    heartbeat: float = 10.0

    # Days and months of statistics begin at this zone's midnight.
    time_zone: ZoneInfo = ZoneInfo("Asia/Seoul")

    @model_validator(mode="before")
    @classmethod
    def own_servers_need_no_key(cls, values: dict[str, object]) -> dict[str, object]:
        """Ollama and its like ask for none, but the SDK insists on one."""
        if values.get("openai_base_url") and not values.get("openai_api_key"):
            return values | {"openai_api_key": UNNEEDED_KEY}
        return values

    @field_validator("openai_api_key", "chat_model", mode="before")
    @classmethod
    def empty_is_unset(cls, value: object) -> object:
        """Compose files pass an unset variable on as an empty one."""
        return value or None

    @field_validator("openai_base_url", mode="before")
    @classmethod
    def empty_is_default(cls, value: object) -> object:
        """The same for the address."""
        return value or cls.model_fields["openai_base_url"].default
