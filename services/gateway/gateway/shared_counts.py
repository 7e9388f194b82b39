"""Counting in the state Redis, where any number of gateways count as one.

One script decides and counts, by Redis's own clock. Requests that meet while a call is on its way go together in the
next one: under load the price of a call, the dearest part of a request's way through the gateway, is shared by many.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from redis import RedisError
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

from common.redis import COMMAND_TIMEOUT_SECONDS
from gateway.counts import QUESTION, Check, Count
from gateway.redis_wire import Wire, open_wire

# Calls in one script: Redis serves nobody else meanwhile.
MOST_AT_ONCE = 64

# KEYS and ARGV are the keys and numbers of one call after another, each begun by its kind: 1 takes, 0 gives back.
# A window is a list of the microseconds at which requests were admitted, newest first. It never outgrows its limit,
# and every entry is popped once, so the cost of a call is constant on average.
SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local keys, numbers = 0, 0
local function key()
  keys = keys + 1
  return KEYS[keys]
end
local function number()
  numbers = numbers + 1
  return tonumber(ARGV[numbers])
end

local function take()
  local window, requests, length, window_binds = key(), number(), number(), number()
  local tenths, cost, quota_binds, expires = number(), number(), number(), number()
  local oldest = redis.call('LINDEX', window, -1)
  while oldest and tonumber(oldest) <= now - length do
    redis.call('RPOP', window)
    oldest = redis.call('LINDEX', window, -1)
  end
  local used = redis.call('LLEN', window)
  local in_window = used < requests
  local quota, asked, in_quota = nil, 0, true
  if tenths > 0 then
    quota = key()
    asked = tonumber(redis.call('GET', quota) or 0)
    in_quota = asked + cost <= tenths
  end
  local first = in_window and (oldest or now) or redis.call('LINDEX', window, requests - 1)
  if (in_window or window_binds == 0) and (in_quota or quota_binds == 0) then
    if in_window then
      redis.call('LPUSH', window, string.format('%.0f', now))
      redis.call('PEXPIRE', window, math.ceil(length / 1000))
      used = used + 1
    end
    if quota and in_quota then
      asked = redis.call('INCRBY', quota, cost)
      if asked == cost then
        redis.call('EXPIREAT', quota, expires)
      end
    end
  end
  return {in_window and 1 or 0, math.max(requests - used, 0), tonumber(first) + length - now,
          in_quota and 1 or 0, math.max(tenths - asked, 0)}
end

local function give_back()
  local quota, tenths = key(), number()
  local back = math.min(tonumber(redis.call('GET', quota) or 0), tenths)
  if back > 0 then
    redis.call('DECRBY', quota, back)
  end
  return back
end

local replies = {}
while numbers < #ARGV do
  replies[#replies + 1] = number() == 1 and take() or give_back()
end
return replies
"""
SHA1 = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


class _Call(NamedTuple):
    keys: Sequence[str]
    numbers: Sequence[int]
    reply: asyncio.Future[Any]


class SharedCounts:
    """The counts in `redis`, over one connection of its own. What fails raises RedisError, for all who wait."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._wire: Wire | None = None
        self._opening: asyncio.Task[None] | None = None
        self._under_way: list[_Call] = []
        self._waiting: list[_Call] = []
        self._silence: asyncio.TimerHandle | None = None

    async def take(self, check: Check) -> Count:
        """Count a request if all of `check` admits it."""
        window, quota = check
        keys = [window.key]
        numbers = [1, window.requests, window.seconds * 1_000_000, int(window.binding), 0, 0, 0, 0]
        if quota:
            keys.append(quota.key)
            numbers[4:] = quota.tenths, QUESTION, int(quota.binding), quota.expires_at
        in_window, remaining, reset, in_quota, tenths_left = await self._call(keys, numbers)
        return Count(bool(in_window), remaining, reset / 1_000_000, bool(in_quota), tenths_left)

    def give_back(self, key: str, tenths: int) -> "asyncio.Future[int]":
        """Lower what the quota `key` has counted, never below nothing; need not be awaited."""
        return self._call([key], [0, tenths])

    async def aclose(self) -> None:
        """Send what waits, and close the connection."""
        while calls := [*self._under_way, *self._waiting]:
            await asyncio.gather(*(call.reply for call in calls), return_exceptions=True)
        if self._wire:
            self._wire.abort()

    def _call(self, keys: Sequence[str], numbers: Sequence[int]) -> asyncio.Future[Any]:
        reply = asyncio.get_running_loop().create_future()
        self._waiting.append(_Call(keys, numbers, reply))
        if not self._under_way and self._opening is None:
            self._send()
        return reply

    def _send(self) -> None:
        """Send what waits, if anything does."""
        if not self._waiting:
            return
        if self._wire is None or not self._wire.is_open:
            self._opening = asyncio.create_task(self._open())
            return
        self._under_way, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
        self._silence = asyncio.get_running_loop().call_later(
            COMMAND_TIMEOUT_SECONDS, self._fail, RedisTimeoutError("no reply in time")
        )
        self._evaluate(self._wire, "EVALSHA", SHA1)

    def _evaluate(self, wire: Wire, command: str, script: str) -> None:
        keys = [key for call in self._under_way for key in call.keys]
        numbers = [number for call in self._under_way for number in call.numbers]
        wire.call(command, script, len(keys), *keys, *numbers, then=partial(self._answered, wire))

    def _answered(self, wire: Wire, replies: Any) -> None:
        if wire is not self._wire:  # of a connection given up before
            return
        if isinstance(replies, RedisError):
            if str(replies).startswith("NOSCRIPT"):  # a Redis just started
                self._evaluate(wire, "EVAL", SCRIPT)
            else:
                self._fail(replies)
            return
        if not isinstance(replies, list) or len(replies) != len(self._under_way):  # it was no Redis
            self._fail(InvalidResponse("not what the script says"))
            return
        answered, self._under_way = self._under_way, []
        self._be_heard()
        for call, reply in zip(answered, replies, strict=True):
            if not call.reply.done():
                call.reply.set_result(reply)
        self._send()

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_SECONDS):
                self._wire = await open_wire(self._redis)
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody may wait for ever
            self._opening = None
            self._fail(error if isinstance(error, RedisError) else RedisConnectionError(repr(error)))
        else:
            self._opening = None
            self._send()

    def _fail(self, failure: RedisError) -> None:
        """Who waits behind a call that failed must not find out again, each for the length of a timeout."""
        failed, self._under_way, self._waiting = [*self._under_way, *self._waiting], [], []
        self._be_heard()
        if wire := self._wire:
            self._wire = None
            wire.abort()
        for call in failed:
            if not call.reply.done():
                call.reply.set_exception(failure)

    def _be_heard(self) -> None:
        if self._silence:
            self._silence.cancel()
            self._silence = None
