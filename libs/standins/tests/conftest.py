"""One stand-in of each kind for all tests of this package, empty at the start of each."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from openai import AsyncOpenAI, DefaultAioHttpClient

from standins.openai import OpenAIStandin, run_openai


@pytest.fixture(scope="session")
def running_openai() -> Iterator[OpenAIStandin]:
    """The server behind `openai`."""
    with run_openai() as openai:
        yield openai


@pytest.fixture
def openai(running_openai: OpenAIStandin) -> OpenAIStandin:
    """An OpenAI stand-in with nothing scripted."""
    running_openai.clear()
    return running_openai


@pytest_asyncio.fixture
async def sdk(openai: OpenAIStandin) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's own client as coach uses it: aiohttp, no retries of its own."""
    async with AsyncOpenAI(
        api_key="test-key", base_url=openai.base_url, max_retries=0, timeout=10, http_client=DefaultAioHttpClient()
    ) as client:
        yield client
