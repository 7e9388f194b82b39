"""Tests of the export: all of it in one document, nobody else in it, and never a part that looks whole."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from auth import export
from auth.app import build
from auth.models import Audit
from auth.settings import Settings
from common.db import Sessions, utc_now
from common.testing import listening, running

from .conftest import Holders


async def signed_in(client: httpx.AsyncClient, **body: str) -> dict[str, Any]:
    """Somebody new; their headers are those of `client` from now on."""
    reply = await client.post("/auth/dev/login", json={"email": f"{uuid4().hex}@example.com", **body})
    who: dict[str, Any] = reply.json()
    client.headers["Authorization"] = f"Bearer {who['access_token']}"
    return who


async def test_an_export_holds_all_there_is_by_service(
    told: Settings, committed: Sessions, holders: Holders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PAGE", 2)
    holders["coach"].pages = [[{"question": "활은?"}, {"question": "2"}], [{"question": "3"}]]
    holders["worker"].pages = [[{"filename": "guide.md"}]]
    async with running(build(told), sessions=committed) as client:
        who = await signed_in(client)
        for _ in range(4):
            refreshed = await client.post("/auth/refresh", json={"refresh_token": who["refresh_token"]})
            await client.post("/auth/dev/login", json={"email": who["user"]["email"]})
            assert refreshed.status_code == 200
        reply = await client.get("/auth/me/export")
    assert reply.status_code == 200
    assert reply.headers["content-disposition"] == 'attachment; filename="dugout-export.json"'
    assert reply.headers["cache-control"] == "no-store"
    document = reply.json()
    assert document["coach"] == {"answers": [{"question": "활은?"}, {"question": "2"}, {"question": "3"}]}
    assert document["worker"] == {"uploads": [{"filename": "guide.md"}]}
    assert document["admin"] == {"changes": []}
    profile = document["auth"]["profile"]
    assert (profile["id"], profile["email"], profile["plan"]) == (who["user"]["id"], who["user"]["email"], "free")
    assert profile["subject"] == who["user"]["email"]
    assert len(document["auth"]["sessions"]) == 5
    first = document["auth"]["sessions"][0]
    assert first["last_used_at"] > first["started_at"]
    assert first["ended"] is False
    assert "token" not in json.dumps(document)


async def test_the_audit_in_an_export_names_nobody_else(
    told: Settings, committed: Sessions, holders: Holders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PAGE", 2)
    async with running(build(told), sessions=committed) as client:
        me, other = (await signed_in(client))["user"]["id"], str(uuid4())
        about = [
            (other, me, {"reason": "rude"}),
            (me, other, {"reason": "theirs"}),
            ("development", me, {}),
            (me, me, {}),
        ]
        async with committed.begin() as session:
            for number, (actor, subject, detail) in enumerate(about):
                at = utc_now() + timedelta(seconds=number)
                session.add(Audit(actor=actor, action="user.changed", subject=subject, detail=detail, at=at))
        document = (await client.get("/auth/me/export")).json()
    entries = [(entry["by"], entry["about"], entry["detail"]) for entry in document["auth"]["audit"]]
    assert entries == [
        ("an operator", "you", {"reason": "rude"}),
        ("you", "somebody or something else", None),
        ("development", "you", {}),
        ("you", "you", {}),
    ]
    assert other not in json.dumps(document)


async def test_a_service_that_is_down_is_a_clean_503(told: Settings, committed: Sessions, holders: Holders) -> None:
    holders["worker"].broken_from_page = 0
    async with running(build(told), sessions=committed) as client:
        await signed_in(client)
        refused = await client.get("/auth/me/export", headers={"Accept-Language": "ko"})
        assert (refused.status_code, refused.json()["code"]) == (503, "export_unavailable")
        assert refused.headers["retry-after"] == "30"
        assert "데이터" in refused.json()["title"]
        holders["worker"].server.stop()
        refused = await client.get("/auth/me/export")
        holders["worker"].server.start()
    assert refused.status_code == 503


async def test_a_service_that_fails_on_the_way_cuts_the_document(
    told: Settings, committed: Sessions, holders: Holders
) -> None:
    holders["coach"].pages = [[{"question": "1"}], [{"question": "2"}]]
    holders["coach"].broken_from_page = 1
    async with (
        listening(build(told), sessions=committed) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        await signed_in(client)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/auth/me/export")
        holders["coach"].broken_from_page = 2
        assert len((await client.get("/auth/me/export")).json()["coach"]["answers"]) == 2


async def test_nothing_is_exported_without_a_token(told: Settings, committed: Sessions, holders: Holders) -> None:
    async with running(build(told), sessions=committed) as client:
        assert (await client.get("/auth/me/export")).status_code == 401
        who = await signed_in(client)
        await client.delete("/auth/me")
        assert (await client.get("/auth/me/export")).status_code == 401
    assert {order.user_id for order in holders["coach"].erased} == {UUID(who["user"]["id"])}
