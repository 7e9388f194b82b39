"""Publishing, replacing, listing and deleting documents."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlmodel import select, update

from common.db import Sessions
from rag.models import Chunk, EmbeddingModel, Generation
from rag.models import Document as Stored

Document = Callable[..., dict[str, Any]]
Publish = Callable[..., Awaitable[list[dict[str, Any]]]]
Ask = Callable[..., Awaitable[dict[str, Any]]]


async def generation(sessions: Sessions) -> int:
    async with sessions() as session:
        return (await session.exec(select(Generation.number).where(Generation.game == "units"))).one()


async def test_publish_creates_each_document_once(
    publish: Publish, sessions: Sessions, units: list[dict[str, Any]]
) -> None:
    first = await publish(*units)
    again = await publish(*units)
    assert {(item["state"], item["version"], item["chunks"]) for item in first} == {("created", 1, 1)}
    assert again == [item | {"state": "unchanged"} for item in first]
    assert await generation(sessions) == 1
    async with sessions() as session:
        assert len((await session.exec(select(Chunk).where(Chunk.game == "units"))).all()) == len(units)


async def test_publish_replaces_a_changed_document_under_its_id(publish: Publish, document: Document, ask: Ask) -> None:
    [old] = await publish(document("창병", "창병의 비용은 금 14이다."))
    [new] = await publish(document("창병", "창병의 비용은 금 15이다."))
    assert (new["id"], new["version"], new["state"]) == (old["id"], 2, "replaced")
    found = await ask("창병 비용이 얼마야?")
    assert [passage["text"] for passage in found["passages"]] == ["창병의 비용은 금 15이다."]


async def test_publish_goes_by_the_hash_alone(publish: Publish, document: Document) -> None:
    """Whoever uploads the same file on another day does not make another version."""
    await publish(document("창병", "창병의 비용은 금 14이다.", as_of="2026-10-01"))
    [again] = await publish(document("창병", "창병의 비용은 금 14이다.", as_of="2026-10-02"))
    assert (again["state"], again["version"]) == ("unchanged", 1)


async def test_publish_embeds_again_what_another_model_embedded(
    publish: Publish, document: Document, ask: Ask, sessions: Sessions
) -> None:
    await publish(document("창병", "창병의 비용은 금 14이다."))
    async with sessions.begin() as session:
        session.add(EmbeddingModel(name="older", dimensions=384))
        await session.flush()
        await session.exec(update(Stored).values(embedding_model="older"))
        await session.exec(update(Chunk).values(embedding_model="older"))
    assert (await ask("창병 비용이 얼마야?"))["passages"] == []
    [again] = await publish(document("창병", "창병의 비용은 금 14이다."))
    assert again["state"] == "replaced"
    assert len((await ask("창병 비용이 얼마야?"))["passages"]) == 1


async def test_publish_bumps_the_generation_once_per_batch_that_changes_something(
    publish: Publish, sessions: Sessions, units: list[dict[str, Any]], document: Document
) -> None:
    await publish(*units)
    await publish(*units, document("사제", "사제는 치료한다."), document("도적", "도적은 훔친다."))
    assert await generation(sessions) == 2
    await publish(*units)
    assert await generation(sessions) == 2


async def test_publish_takes_the_last_of_equal_keys(publish: Publish, document: Document) -> None:
    published = await publish(document("창병", "하나"), document("창병", "둘"))
    assert [(item["key"], item["version"]) for item in published] == [("창병", 1)]


async def test_a_deleted_document_is_found_no_more_and_can_come_back(
    client: httpx.AsyncClient, as_worker: dict[str, str], publish: Publish, document: Document, ask: Ask
) -> None:
    [published] = await publish(document("창병", "창병의 비용은 금 14이다."))
    path = f"/internal/documents/{published['id']}"
    assert (await client.delete(path, headers=as_worker)).status_code == 204
    assert (await ask("창병 비용이 얼마야?"))["passages"] == []
    assert (await client.get(path, headers=as_worker)).status_code == 404
    assert (await client.delete(path, headers=as_worker)).status_code == 404
    [back] = await publish(document("창병", "창병의 비용은 금 14이다."))
    assert (back["id"], back["version"], back["state"]) == (published["id"], 3, "created")


async def test_documents_are_listed_newest_first_by_pages(
    client: httpx.AsyncClient, as_worker: dict[str, str], publish: Publish, units: list[dict[str, Any]]
) -> None:
    await publish(*units)
    keys: list[str] = []
    params: dict[str, Any] = {"game": "units", "limit": 4}
    while True:
        page = (await client.get("/internal/documents", params=params, headers=as_worker)).json()
        keys += [item["key"] for item in page["documents"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert keys == [item["key"] for item in reversed(units)]


async def test_a_document_is_shown_with_its_pieces(
    client: httpx.AsyncClient, as_worker: dict[str, str], publish: Publish, document: Document
) -> None:
    pieces = [{"text": "먼저", "start_ms": 0, "end_ms": 900}, {"text": "다음", "start_ms": 900, "end_ms": 2000}]
    [published] = await publish(document("강의", "먼저 다음", kind="subtitle", chunks=pieces, as_of="2026-10-01"))
    shown = (await client.get(f"/internal/documents/{published['id']}", headers=as_worker)).json()
    assert shown["chunks"] == 2
    assert [{name: piece[name] for name in pieces[0]} for piece in shown["pieces"]] == pieces
    assert shown["as_of"] == "2026-10-01"


@pytest.mark.parametrize(
    "change",
    [
        {"chunks": []},
        {"chunks": [{"text": ""}]},
        {"chunks": [{"text": "\0"}]},
        {"chunks": [{"text": "x" * 8_001}]},
        {"sha256": "not a hash"},
        {"locale": "fr"},
        {"kind": "executable"},
        {"url": "javascript:alert(1)"},
        {"surprise": 1},
    ],
)
async def test_publish_refuses_what_is_no_document(
    client: httpx.AsyncClient, as_worker: dict[str, str], document: Document, change: dict[str, Any]
) -> None:
    body = {"game": "units", "documents": [document("창병", "창병", **change)]}
    response = await client.put("/internal/documents", json=body, headers=as_worker)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


async def test_an_unknown_document_is_not_found(client: httpx.AsyncClient, as_worker: dict[str, str]) -> None:
    response = await client.get(f"/internal/documents/{uuid4()}", headers=as_worker)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
