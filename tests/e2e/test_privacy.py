"""What is kept of a person can be taken out, and can be erased: no table and no Redis key knows them any more."""

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from .conftest import SignIn, ask, upload
from .scan import Stores

ERASED_SECONDS = 90.0
EVERYWHERE = {"auth", "coach", "worker", "admin"}


class Person:
    """Somebody signed in whose words nobody else uses."""

    def __init__(self, sign_in: SignIn, **who: str) -> None:
        self.mark = uuid4().hex[:12]
        self.email = f"person-{self.mark}@example.com"
        self.client = sign_in(email=self.email, **who)
        self.id = self.client.get("/auth/me").json()["id"]
        self.questions = [
            f"What does the level 2 Granite Golem cost, {self.mark}?",
            f"해골 궁사의 체력은, {self.mark}?",
        ]
        self.key = f"key-{self.mark}"
        self.comment = f"comment-{self.mark}"

    @property
    def words(self) -> list[str]:
        """All that must not be found once they are erased."""
        return [self.id, self.email, self.mark, *self.questions]

    def live(self, game: str) -> list[dict[str, Any]]:
        """Ask in two languages, each question again, one with an idempotency key; rate one answer."""
        answers = []
        for slug, question in zip((game, "wesnoth"), self.questions, strict=True):
            headers = {"Idempotency-Key": self.key} if slug == game else {}
            reply = self.client.post("/api/coach/ask", json={"game": slug, "question": question}, headers=headers)
            assert reply.status_code == 200, reply.text
            answers += [reply.json(), ask(self.client, slug, question)]
        said = {"verdict": "down", "comment": self.comment}
        assert self.client.post(f"/api/coach/answers/{answers[0]['id']}/feedback", json=said).status_code == 204
        return answers

    def delete(self) -> dict[str, Any]:
        """Their receipt."""
        reply = self.client.delete("/auth/me")
        assert reply.status_code == 202, reply.text
        receipt: dict[str, Any] = reply.json()
        assert reply.headers["location"] == f"/auth/erasures/{receipt['id']}"
        return receipt


def once_done(nobody: httpx.Client, receipt: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + ERASED_SECONDS
    while receipt["state"] != "done":
        assert time.monotonic() < deadline, receipt
        time.sleep(0.3)
        receipt = nobody.get(f"/auth/erasures/{receipt['id']}").json()
    assert receipt["services"] == dict.fromkeys(EVERYWHERE, "done")
    return receipt


def found(stores: Stores, words: list[str]) -> dict[str, list[str]]:
    return {word: places for word, places in stores.places(words).items() if places}


def figures(admin: httpx.Client) -> dict[str, Any]:
    """Statistics, but for the share of accounts that pay, of which there is one less after an erasure."""
    stats: dict[str, Any] = admin.get("/admin/stats", params={"by": "game"}).json()
    del stats["totals"]["premium_share"]
    return stats


def test_an_export_holds_what_a_player_said_and_was_told(sign_in: SignIn, game: str) -> None:
    person = Person(sign_in)
    answers = person.live(game)
    assert [answer["cache"] for answer in answers] == ["miss", "exact", "miss", "exact"]
    reply = person.client.get("/auth/me/export")
    assert reply.status_code == 200
    assert reply.headers["content-disposition"].startswith("attachment")
    document = reply.json()
    assert document["auth"]["profile"]["email"] == person.email
    assert len(document["auth"]["sessions"]) == 1
    records = document["coach"]["answers"]
    assert [record["id"] for record in records] == [answer["id"] for answer in answers]
    assert {record["question"] for record in records} == set(person.questions)
    assert records[0]["answer"] == answers[0]["answer"]
    assert records[0]["citations"] == answers[0]["citations"] != []
    assert (records[0]["feedback_comment"], records[0]["idempotency_key"]) == (person.comment, person.key)
    assert (document["worker"], document["admin"]) == ({"uploads": []}, {"changes": []})


def test_an_erased_player_is_found_in_no_table_and_no_redis(
    sign_in: SignIn, admin: httpx.Client, nobody: httpx.Client, game: str, stores: Stores
) -> None:
    person, other = Person(sign_in), Person(sign_in)
    person.live(game)
    other.live(game)
    places = stores.places([*person.words, person.key, person.comment])
    assert {place.rpartition(".")[0] for place in places[person.id] if place.startswith("postgres")} >= {
        "postgres auth.user",
        "postgres auth.refresh_token",
        "postgres coach.answer",
        "postgres coach.claim",
    }
    assert "postgres auth.user.email" in places[person.email]
    for question in person.questions:
        assert "postgres coach.answer.question" in places[question]
        assert any(place.startswith("redis cache rag:answer:") for place in places[question])
    before = figures(admin)
    once_done(nobody, person.delete())
    assert found(stores, [*person.words, person.key, person.comment]) == {}
    assert figures(admin) == before
    assert person.client.get("/auth/me").status_code == 401
    assert set(found(stores, other.words)) == set(other.words)
    assert [item["question"] for item in other.client.get("/api/coach/answers").json()["items"]] == [
        question for question in reversed(other.questions) for _ in range(2)
    ]


def test_an_erased_admin_leaves_documents_and_an_audit_without_a_name(
    sign_in: SignIn, admin: httpx.Client, nobody: httpx.Client, game: str, stores: Stores
) -> None:
    person, player = Person(sign_in, role="admin"), Person(sign_in)
    title = f"Basalt Drake {uuid4().hex[:8]}"
    upload(person.client, game, "drake.txt", f"The {title} costs 61 gold.", title=title, locale="en")
    reason = {"plan": "premium", "reason": "a good player"}
    assert person.client.patch(f"/admin/users/{player.id}", json=reason).status_code == 200
    assert admin.patch(f"/admin/users/{person.id}", json={"plan": "premium", "reason": person.email}).status_code == 200
    person.client = sign_in(email=person.email)
    document = person.client.get("/auth/me/export").json()
    assert [record["title"] for record in document["worker"]["uploads"]] == [title]
    actions = [(record["action"], record["by_you"]) for record in document["admin"]["changes"]]
    assert ("document.upload", True) in actions
    assert any(not by_you for _, by_you in actions)
    assert player.id not in str(document)
    places = stores.places([person.id])[person.id]
    assert {"postgres worker.upload.uploaded_by", "postgres admin.audit.actor_id", "postgres auth.audit.actor"} <= {
        *places
    }
    once_done(nobody, person.delete())
    assert found(stores, [person.id, person.email]) == {}
    listed = admin.get("/admin/documents", params={"game": game}).json()["documents"]
    assert title in {listed_document["title"] for listed_document in listed}


def test_a_service_that_stands_still_erases_when_it_goes_on(
    sign_in: SignIn, nobody: httpx.Client, game: str, stores: Stores
) -> None:
    person = Person(sign_in)
    person.live(game)
    with standing_still(stores, "worker.app:build"):
        receipt = person.delete()
        assert (receipt["state"], receipt["finished_at"]) == ("pending", None)
        assert receipt["services"] == {**dict.fromkeys(EVERYWHERE, "done"), "worker": "pending"}
        assert nobody.get(f"/auth/erasures/{receipt['id']}").json()["state"] == "pending"
        assert found(stores, person.words) == {}
    once_done(nobody, receipt)


def test_what_a_request_under_way_writes_after_the_erasure_does_not_stay(
    sign_in: SignIn, nobody: httpx.Client, stores: Stores
) -> None:
    if "DUGOUT_URL" in os.environ:
        pytest.skip("it takes minutes there until everybody is asked once more")
    person = Person(sign_in)
    once_done(nobody, person.delete())
    late = "INSERT INTO coach.claim (owner, key, digest, expires_at) VALUES ($1, $2, '', now() + interval '1 hour')"
    stores.execute(late, f"ask:{person.id}", person.key)
    assert found(stores, [person.id]) != {}
    deadline = time.monotonic() + ERASED_SECONDS
    while found(stores, [person.id, person.key]):
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_banned_player_is_erased_by_an_operator_and_stays_banned(
    sign_in: SignIn, admin: httpx.Client, nobody: httpx.Client, game: str, stores: Stores
) -> None:
    person = Person(sign_in)
    person.live(game)
    ban = {"status": "banned", "reason": f"insulted others, says {person.email}"}
    assert admin.patch(f"/admin/users/{person.id}", json=ban).status_code == 200
    erased = admin.delete(f"/admin/users/{person.id}")
    assert erased.status_code == 202, erased.text
    once_done(nobody, erased.json())
    assert found(stores, person.words) == {}
    again = nobody.post("/auth/dev/login", json={"email": person.email})
    assert (again.status_code, again.json()["code"]) == (403, "account_banned")
    assert found(stores, person.words) == {}


def test_an_erased_player_may_start_anew_as_somebody_else(sign_in: SignIn, nobody: httpx.Client) -> None:
    person = Person(sign_in)
    once_done(nobody, person.delete())
    again = sign_in(email=person.email)
    assert again.get("/auth/me").json()["id"] != person.id
    assert again.get("/api/coach/answers").json()["items"] == []


@contextmanager
def standing_still(stores: Stores, command: str) -> Iterator[None]:
    """A process of the system, named by a part of its command, halted for the time of the block."""
    [pid] = [pid for pid in _descendants(int((stores.state / "lock").read_text())) if command in _command(pid)]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _descendants(pid: int) -> Iterator[int]:
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = re.search(r"^PPid:\s*(\d+)", status.read_text(), re.MULTILINE)
        except OSError:  # it has just ended
            continue
        if parent and int(parent[1]) == pid:
            child = int(status.parent.name)
            yield child
            yield from _descendants(child)


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
