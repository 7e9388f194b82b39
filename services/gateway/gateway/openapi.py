"""One OpenAPI document of all public routes, kept up to date with the services behind the gateway."""

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.errors import PROBLEM_JSON
from gateway.own_answers import own_answers
from gateway.routes import find_route

logger = logging.getLogger(__name__)

Document = dict[str, Any]
# Components by (kind, name), such as ("schemas", "Answer").
Components = dict[tuple[str, str], Any]

# Until every service was heard once.
FIRST_REFRESH_SECONDS = 1.0
SOURCE = "/openapi.json"
# What taking a document apart raises that is none.
MAKES_NO_SENSE = (ValueError, LookupError, TypeError, AttributeError)
INFO = {
    "title": "Dugout",
    "version": "1",
    "description": "AI game coaches. Sign in under `/auth`, ask under `/api/coach`. Failures are RFC 9457 problem "
    "documents; `code` is the word to program against.",
}

# Of a service's document as last seen: enough for it to be away while a gateway starts.
REMEMBERED_SECONDS = 365 * 86400


class PublicApi:
    """The documents of the services as last seen, and the one made of them.

    What was seen is kept in Redis too: a gateway that starts while a service is down shows its routes all the same.
    """

    def __init__(self, clients: Mapping[str, httpx.AsyncClient], redis: Redis) -> None:
        self._clients = clients
        self._redis = redis
        self._documents: dict[str, Document] = {}
        self._merged = merge({})

    def document(self) -> Document:
        """The merged document; a service that is down keeps the routes it last had."""
        return self._merged

    async def keep_fresh(self, every_seconds: float) -> None:
        """Ask all services again and again, until cancelled."""
        while True:
            await asyncio.gather(*(self._refresh(service) for service in self._clients))
            complete = len(self._documents) == len(self._clients)
            await asyncio.sleep(every_seconds if complete else FIRST_REFRESH_SECONDS)

    async def _refresh(self, service: str) -> None:
        try:
            reply = await self._clients[service].get(SOURCE)
            document = reply.raise_for_status().json()
            if document == self._documents.get(service):
                return
            self._take(service, document)
        except (httpx.HTTPError, *MAKES_NO_SENSE) as error:
            reason = type(error).__name__
            logger.debug("no OpenAPI document from a service", extra={"upstream": service, "reason": reason})
            if service not in self._documents:
                await self._recall(service)
            return
        with suppress(RedisError):
            await self._redis.set(_key(service), json.dumps(document), ex=REMEMBERED_SECONDS)

    async def _recall(self, service: str) -> None:
        """Take what another gateway, or this one in an earlier life, has seen of the service."""
        with suppress(RedisError, *MAKES_NO_SENSE):
            if seen := await self._redis.get(_key(service)):
                self._take(service, json.loads(seen))

    def _take(self, service: str, document: Document) -> None:
        """Show `document` for the service; one that makes no sense raises, and replaces nothing."""
        documents = {**self._documents, service: document}
        self._merged = merge({name: public_part(name, each) for name, each in documents.items()})
        self._documents = documents


def _key(service: str) -> str:
    return f"gateway:openapi:{service}"


def public_part(service: str, document: Document) -> Document:
    """What of a service's document the route table leads to, with the components that this needs."""
    paths = {path: _public(path, item, service) for path, item in document["paths"].items() if _leads_to(service, path)}
    components: Components = {
        (kind, name): body for kind, named in document.get("components", {}).items() for name, body in named.items()
    }
    needed: Components = {key: body for key, body in components.items() if key[0] == "securitySchemes"}
    waiting = list(_references(paths))
    while waiting:
        key = waiting.pop()
        if key not in needed and key in components:
            needed[key] = components[key]
            waiting += _references(components[key])
    return {"paths": paths, "components": needed}


def merge(documents: Mapping[str, Document]) -> Document:
    """One document of several public parts. Components of one name that differ get their service's name in front."""
    paths: dict[str, Any] = {}
    components: dict[str, dict[str, Any]] = {}
    clashing = _clashing([document["components"] for document in documents.values()])
    for service, document in sorted(documents.items()):
        names = {key: f"{service.title()}{key[1]}" for key in document["components"] if key in clashing}
        for path, item in document["paths"].items():
            paths[path] = _renamed(item, names)
        for key, body in document["components"].items():
            components.setdefault(key[0], {})[names.get(key, key[1])] = _renamed(body, names)
    return {"openapi": "3.1.0", "info": INFO, "paths": paths, "components": components}


def _leads_to(service: str, path: str) -> bool:
    route = find_route(path, path)
    return route is not None and route.service == service


def _clashing(all_components: list[Components]) -> set[tuple[str, str]]:
    """Names with more than one meaning; whatever refers to such a name has more than one meaning itself."""
    merged: Components = {}
    clashing: set[tuple[str, str]] = set()
    for components in all_components:
        clashing |= {key for key, body in components.items() if merged.setdefault(key, body) != body}
    while True:
        more = {
            key
            for components in all_components
            for key, body in components.items()
            if key not in clashing and not clashing.isdisjoint(_references(body))
        }
        if not more:
            return clashing
        clashing |= more


def _references(node: Any) -> Iterator[tuple[str, str]]:
    """The components that a part of a document refers to."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str) and value.startswith("#/components/"):
                kind, name = value.split("/")[2:4]
                yield kind, name
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _renamed(node: Any, names: Mapping[tuple[str, str], str]) -> Any:
    """A copy with references to `names` turned to the new names."""
    if isinstance(node, dict):
        return {key: _renamed(value, names) for key, value in node.items()}
    if isinstance(node, list):
        return [_renamed(value, names) for value in node]
    if isinstance(node, str) and node.startswith("#/components/"):
        kind, name = node.split("/")[2:4]
        return f"#/components/{kind}/{names.get((kind, name), name)}"
    return node


def _public(path: str, item: Mapping[str, Any], service: str) -> dict[str, Any]:
    """The operations of a path with the gateway's own answers; those without a tag are grouped under their service."""
    return {
        method: {"tags": [service], **operation, "responses": _answers(path, operation["responses"])}
        if isinstance(operation, dict)
        else operation
        for method, operation in item.items()
    }


def _answers(path: str, responses: Mapping[str, Any]) -> dict[str, Any]:
    """What service and gateway may say. FastAPI adds plain JSON to every failure, which nobody sends."""
    answers = dict(own_answers(path))
    for status, answer in responses.items():
        content = answer.get("content", {})
        problem = {PROBLEM_JSON: content[PROBLEM_JSON]} if PROBLEM_JSON in content else content
        answers[status] = {**answers.get(status, {}), **answer, **({"content": problem} if problem else {})}
    return answers
