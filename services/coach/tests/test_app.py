"""The service around the story: health, metrics, settings, and what the documents promise."""

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from coach.settings import Settings
from coach.usage import count_tokens
from standins.openai import OpenAIStandin

from .conftest import MakeSettings
from .test_ask import ask


async def test_health_and_readiness(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    ready = (await client.get("/readyz")).json()
    assert (ready["status"], ready["checks"]["postgres"]["ok"]) == ("ready", True)


async def test_metrics_count_model_calls_tokens_and_answers(
    client: httpx.AsyncClient, openai: OpenAIStandin, player: dict[str, str], game: str
) -> None:
    await ask(client, player, game)
    metrics = (await client.get("/metrics")).text
    for series in (
        'coach_llm_calls_total{model="gpt-4o-mini",outcome="ok"}',
        'coach_llm_tokens_total{kind="prompt",model="gpt-4o-mini"}',
        'coach_llm_tokens_total{kind="completion",model="gpt-4o-mini"}',
        'coach_llm_cost_usd_total{model="gpt-4o-mini"}',
        'coach_llm_first_token_seconds_count{model="gpt-4o-mini"}',
        f'coach_answers_total{{cache="miss",game="{game}",writer="model"}} 1.0',
    ):
        assert series in metrics, series


async def test_the_public_document_has_both_kinds_of_reply(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    responses = document["paths"]["/api/coach/ask"]["post"]["responses"]
    assert set(responses["200"]["content"]) == {"application/json", "text/event-stream"}
    assert {"401", "404", "409", "422", "502", "503", "504"} <= set(responses)


def test_an_empty_variable_is_an_unset_one(settings: MakeSettings) -> None:
    empty = settings(openai_api_key="", chat_model="", openai_base_url="")
    assert (empty.openai_api_key, empty.chat_model) == (None, None)
    assert empty.openai_base_url == "https://api.openai.com/v1"


def test_an_address_of_ones_own_needs_no_key(settings: MakeSettings) -> None:
    assert settings(openai_api_key="", openai_base_url="http://127.0.0.1:11434/v1").openai_api_key is not None
    assert settings(openai_api_key=None, openai_base_url="").openai_api_key is None


def test_an_example_secret_does_not_start_in_production() -> None:
    with pytest.raises(ValidationError, match="client_secret"):
        Settings(database_url=SecretStr("postgresql+asyncpg://h/d"), client_secret=SecretStr("change-me-change-me"))


def test_a_long_word_is_counted_in_reasonable_time() -> None:
    assert 4_000 <= count_tokens("가" * 8_000) <= 8_100
