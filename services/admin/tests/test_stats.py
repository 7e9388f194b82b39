"""The page of figures, whole and with a service away."""

import httpx
import pytest

from standins.gate import Gate
from standins.standin import Reply

from .conftest import Person, Services
from .neighbours import FIGURES, STATS

FAULTS = {"503": Reply(status=503), "500": Reply(status=500, body="<html>"), "stall": Reply(hold=Gate())}


async def test_figures_of_all_services_make_one_page(client: httpx.AsyncClient, viewer: Person) -> None:
    stats = (await client.get("/admin/stats", headers=viewer.headers)).json()
    assert stats == {
        "from": "2026-10-01",
        "to": "2026-10-02",
        "by": "day",
        "totals": {**FIGURES, "premium_share": 0.12, "false_hit_upper": None},
        "series": STATS["series"],
        "unavailable": [],
    }


async def test_a_period_is_asked_for_as_given(client: httpx.AsyncClient, viewer: Person, services: Services) -> None:
    params = {"from": "2026-01-01", "to": "2026-02-01", "by": "game"}
    services.coach.refuses("/internal/stats", 422, "invalid_request", errors=[])
    refused = await client.get("/admin/stats", params=params, headers=viewer.headers)
    assert (refused.status_code, refused.json()["detail"]) == (422, "because of invalid_request")
    assert (await client.get("/admin/stats", params={"by": "mood"}, headers=viewer.headers)).status_code == 422


@pytest.mark.parametrize(
    "fault", [Reply(status=503), Reply(status=500, body="<html>"), Reply(hold=Gate())], ids=["503", "500", "stall"]
)
async def test_a_service_that_is_down_leaves_a_gap(
    client: httpx.AsyncClient, viewer: Person, services: Services, fault: Reply
) -> None:
    services.coach.script("/internal/stats", fault)
    params = {"from": "2026-01-01", "to": "2026-02-01"}
    stats = (await client.get("/admin/stats", params=params, headers=viewer.headers)).json()
    assert stats["unavailable"] == ["coach"]
    assert (stats["from"], stats["to"], stats["series"]) == ("2026-01-01", "2026-02-01", [])
    assert stats["totals"]["premium_share"] == 0.12
    assert stats["totals"]["questions"] is None


async def test_without_auth_the_premium_share_is_missing(
    client: httpx.AsyncClient, viewer: Person, services: Services
) -> None:
    # The tokens for coach are there already: an outage of auth does not reach calls between services at once.
    await client.get("/admin/stats", headers=viewer.headers)
    services.auth.stop()
    try:
        stats = (await client.get("/admin/stats", headers=viewer.headers)).json()
    finally:
        services.auth.start()
    assert (stats["unavailable"], stats["totals"]["premium_share"]) == (["auth"], None)
    assert stats["totals"]["questions"] == 7
