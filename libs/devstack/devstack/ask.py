"""Asks a question through the gateway and lays the answer out for a terminal."""

import textwrap
import unicodedata
from dataclasses import dataclass
from typing import Any

import httpx

from devstack.gateway import read

WIDTH = 100


@dataclass(frozen=True)
class Question:
    """What to ask; without a locale the system goes by the script of the text."""

    game: str
    text: str
    locale: str | None = None


async def ask(player: httpx.AsyncClient, question: Question) -> dict[str, Any]:
    """The answer, as `POST /api/coach/ask` gives it."""
    body = {"game": question.game, "question": question.text, "locale": question.locale}
    answer: dict[str, Any] = read(await player.post("/api/coach/ask", json=body))
    return answer


def describe(question: Question, answer: dict[str, Any]) -> str:
    """Question, answer, citations, and how it came about."""
    paragraphs = [_wrap(line) for line in answer["answer"].splitlines()]
    lines = [
        f"[{answer['game']} · {answer['locale']}] {question.text}",
        "",
        *(textwrap.indent(paragraph, "  ") for paragraph in paragraphs),
        "",
        *(_citation(citation) for citation in answer["citations"]),
        f"  — {_origin(answer)}",
    ]
    return "\n".join(lines)


def _wrap(line: str) -> str:
    """Hangul takes two cells of a terminal for each character."""
    cells = len(line) + sum(unicodedata.east_asian_width(character) in "WF" for character in line)
    return textwrap.fill(line, WIDTH * len(line) // cells) if line else ""


def _citation(citation: dict[str, Any]) -> str:
    address = f" · {citation['url']}" if citation.get("url") else ""
    return f"  [{citation['marker']}] {citation['title']} ({citation['source']}){address}"


def _origin(answer: dict[str, Any]) -> str:
    similarity = answer.get("similarity")
    cache = answer["cache"] if similarity is None else f"{answer['cache']}, similarity {similarity:.3f}"
    facts = [
        f"cache: {cache}",
        f"{answer['latency_ms']} ms",
        f"model: {answer['model']}",
        f"patch {answer['patch']}",
    ]
    if answer["degraded"]:
        facts.append("the model failed")
    if not answer["covered"]:
        facts.append("not covered by the sources")
    return " · ".join(facts)
