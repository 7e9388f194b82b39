"""What operators do: upload, watch, read figures; and what everybody may look up."""

import httpx
import pytest

from .conftest import ask, upload

TRACK = """1
00:00:02,000 --> 00:00:07,000
Today we beat the Obsidian Hydra without losing a single unit.

2
00:00:08,000 --> 00:00:14,000
The trick is to bring three torches, because the Obsidian Hydra cannot regenerate heads near open fire.

3
00:00:15,000 --> 00:00:21,000
Keep your healers two tiles behind, out of reach of its acid breath.
"""


def test_an_uploaded_track_becomes_a_cited_answer(admin: httpx.Client, player: httpx.Client, game: str) -> None:
    job = upload(admin, game, "hydra.srt", TRACK, title="Beating the Obsidian Hydra", locale="en", patch="1.0")
    assert (job["kind"], job["progress"], job["error"]) == ("document.ingest", 1, None)
    answer = ask(player, game, "How many torches do I need against the Obsidian Hydra?")
    assert answer["covered"] is True
    cited = [item for item in answer["citations"] if item["title"] == "Beating the Obsidian Hydra"]
    assert cited
    assert any(item["start_ms"] is not None for item in cited)
    listed = admin.get("/admin/documents", params={"game": game}).json()["documents"]
    assert "Beating the Obsidian Hydra" in {document["title"] for document in listed}


def test_a_deleted_document_is_never_cited_again(admin: httpx.Client, player: httpx.Client, game: str) -> None:
    text = "The Amber Wisp heals allies for 9 hit points each turn and vanishes at dusk."
    upload(admin, game, "wisp.txt", text, title="Amber Wisp", locale="en")
    question = "How much does the Amber Wisp heal?"
    assert "Amber Wisp" in {item["title"] for item in ask(player, game, question)["citations"]}
    listed = admin.get("/admin/documents", params={"game": game}).json()["documents"]
    [wisp] = [document["id"] for document in listed if document["title"] == "Amber Wisp"]
    assert admin.delete(f"/admin/documents/{wisp}").status_code == 204
    after = ask(player, game, question)
    assert after["is_cached"] is False
    assert "Amber Wisp" not in {item["title"] for item in after["citations"]}


def test_queues_say_how_deep_and_how_old_they_are(admin: httpx.Client) -> None:
    queues = {queue.pop("name"): queue for queue in admin.get("/admin/queues").json()["queues"]}
    assert queues.keys() >= {"interactive", "ingest", "maintenance"}
    for queue in queues.values():
        assert queue.keys() == {
            "depth",
            "oldest_seconds",
            "eta_seconds",
            "consumers",
            "rate_per_minute",
            "retries",
            "dead_letters",
        }


def test_stats_count_questions_and_hits(admin: httpx.Client, player: httpx.Client, game: str) -> None:
    before = admin.get("/admin/stats").json()["totals"]["questions"]
    ask(player, game, "What does the level 3 Granite Golem cost?")
    stats = admin.get("/admin/stats", params={"by": "game"}).json()
    assert stats.keys() >= {"from", "to", "totals", "series"}
    totals = stats["totals"]
    assert totals["questions"] >= before + 1
    assert totals.keys() >= {
        "questions",
        "players",
        "premium_share",
        "cost_usd",
        "saved_usd",
        "hit_rate",
        "false_hit_upper",
        "degraded",
        "not_covered",
        "latency_ms",
    }
    assert totals["hit_rate"].keys() == {"exact", "semantic"}
    assert totals["latency_ms"].keys() == {"p50", "p95"}
    assert stats["series"]


@pytest.mark.parametrize("path", ["/admin/stats", "/admin/queues", "/admin/documents", "/admin/games"])
def test_a_viewer_may_look_a_player_may_not_and_nobody_must_sign_in(
    viewer: httpx.Client, somebody: httpx.Client, nobody: httpx.Client, path: str
) -> None:
    assert viewer.get(path).status_code == 200
    refused = somebody.get(path)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert nobody.get(path).status_code == 401


def test_only_an_admin_changes_things(viewer: httpx.Client, somebody: httpx.Client, game: str) -> None:
    for client in (somebody, viewer):
        refused = client.put(f"/admin/games/{game}", json={})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


def test_the_gateway_is_healthy_and_names_what_it_needs(nobody: httpx.Client) -> None:
    assert nobody.get("/healthz").json() == {"status": "ok"}
    ready = nobody.get("/readyz")
    assert ready.status_code == 200
    checks = ready.json()["checks"]
    assert {name for name, check in checks.items() if check["ok"]} >= {"auth_keys", "redis_state", "coach", "admin"}


def test_one_document_describes_all_public_routes(nobody: httpx.Client) -> None:
    paths = nobody.get("/openapi.json").json()["paths"]
    assert paths.keys() >= {
        "/auth/google/login",
        "/auth/me",
        "/.well-known/jwks.json",
        "/api/coach/ask",
        "/api/coach/answers",
        "/admin/documents",
        "/admin/queues",
        "/admin/stats",
    }
    assert not [path for path in paths if path.startswith(("/internal", "/retrieve", "/remember"))]
    assert "swagger" in nobody.get("/docs").text


def test_signing_keys_are_public(nobody: httpx.Client) -> None:
    [key, *_] = nobody.get("/.well-known/jwks.json").json()["keys"]
    assert (key["kty"], key["alg"]) == ("RSA", "RS256")
    assert not key.keys() & {"d", "p", "q"}
