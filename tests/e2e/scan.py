"""Looks for words in everything a system has stored: every column of every table, every key and value of every Redis.

It reads the stores of `make up` as their superuser, so it sees what no service shows.
"""

import asyncio
import base64
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import asyncpg
from redis import Redis

REDIS = ("cache", "state", "broker")
TABLES = """
SELECT table_schema, table_name FROM information_schema.tables
WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')
"""
COLUMNS = """
SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2
"""


@dataclass(frozen=True)
class Stores:
    """The databases of a system, by the state folder of its `make up`."""

    state: Path

    def postgres_url(self) -> str:
        """Postgres as superuser."""
        port = json.loads((self.state / "running.json").read_text())["postgres_port"]
        password = (self.state / "postgres" / "password").read_text().strip()
        return f"postgresql://postgres:{quote(password, safe='')}@127.0.0.1:{port}/postgres"

    def redis(self, kind: str) -> Redis:
        """One of the three."""
        config = (self.state / f"redis-{kind}" / "redis.conf").read_text()
        said = dict(re.findall(r"^(port|requirepass) (\S+)$", config, re.MULTILINE))
        return Redis(host="127.0.0.1", port=int(said["port"]), password=said["requirepass"])

    def execute(self, statement: str, *arguments: object) -> str:
        """One statement as superuser."""

        async def execute() -> str:
            connection = await asyncpg.connect(self.postgres_url())
            try:
                status: str = await connection.execute(statement, *arguments)
                return status
            finally:
                await connection.close()

        return asyncio.run(execute())

    def places(self, words: Iterable[str]) -> dict[str, list[str]]:
        """Where each word stands, in whatever form."""
        stored = defaultdict(list)
        for place, value in (*asyncio.run(_postgres(self.postgres_url())), *self._redis()):
            stored[place].append(value)
        texts = {place: b"\0\0".join(values) for place, values in stored.items()}  # looked through much faster
        return {
            word: sorted(place for place, text in texts.items() if any(form in text for form in _forms(word)))
            for word in words
        }

    def _redis(self) -> Iterator[tuple[str, bytes]]:
        for kind in REDIS:
            with self.redis(kind) as redis:
                assert redis.info("keyspace").keys() <= {"db0"}  # the only one that is looked through
                for key in redis.scan_iter(count=1000):
                    place = f"redis {kind} {key.decode(errors='replace')}"
                    yield place, key
                    for value in _values(redis, key):
                        yield place, value


def _values(redis: Redis, key: bytes) -> Iterator[bytes]:
    match redis.type(key):
        case b"string":
            yield redis.get(key)
        case b"list":
            yield from redis.lrange(key, 0, -1)
        case b"set":
            yield from redis.smembers(key)
        case b"zset":
            yield from redis.zrange(key, 0, -1)
        case b"hash":
            for field, value in redis.hgetall(key).items():
                yield from (field, value)
        case b"stream":
            for entry, fields in redis.xrange(key):
                yield from (entry, *fields.keys(), *fields.values())
        case b"vectorset":
            for element in redis.execute_command("VRANDMEMBER", key, redis.execute_command("VCARD", key)):
                yield element
                yield redis.execute_command("VGETATTR", key, element) or b""
        case b"none":  # it has expired meanwhile
            return
        case kind:
            raise AssertionError(f"nobody knows how to look into {key!r}, a {kind!r}")


async def _postgres(url: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    connection = await asyncpg.connect(url)
    try:
        for schema, table in await connection.fetch(TABLES):
            columns = await connection.fetch(COLUMNS, schema, table)
            shown = [f'"{name}"' if kind == "bytea" else f'"{name}"::text' for name, kind in columns]
            rows = await connection.fetch(f'SELECT {", ".join(shown)} FROM "{schema}"."{table}"')  # noqa: S608
            for (name, _), *values in zip(columns, *rows, strict=True):
                place = f"postgres {schema}.{table}.{name}"
                found += [(place, v if isinstance(v, bytes) else v.encode()) for v in values if v is not None]
    finally:
        await connection.close()
    return found


def _forms(word: str) -> set[bytes]:
    """A word as it may be written: plain, in JSON, in an address, within base64, and an id as bytes."""
    plain = word.encode()
    forms = {plain, json.dumps(word)[1:-1].encode(), quote(word).encode()}
    for offset in range(3):  # where it stands among the bytes of a group
        whole = base64.b64encode(b"\0" * offset + plain)
        forms.add(whole[(offset * 4 + 2) // 3 : len(whole) - 4 if whole.endswith(b"=") else len(whole)])
    with suppress(ValueError):
        forms |= {UUID(word).bytes, UUID(word).hex.encode()}
    return forms
