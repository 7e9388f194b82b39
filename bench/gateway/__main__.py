"""Measure the gateway and its peers in turns, print a table, and end with 1 when a stated figure is missed.

Usage: python -m bench.gateway            (direct, gateway, FastAPI on httpx twice, nginx where installed)
       python -m bench.gateway peers      (the gateway and LiteLLM's proxy)

All proxies run from beginning to end and idle but for the one being measured. A round measures each once; a figure is
the median of its rounds and a ratio the median of the rounds' ratios, so a noisy neighbour spoils a round, not the run.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.gateway import targets
from bench.gateway.processes import LOAD_CORE, pin, server
from bench.gateway.rounds import Plan, measure
from bench.gateway.table import Goal, added, judge, print_table, ratio
from bench.gateway.targets import Behind, Target

from common.testing import Tokens, auth_standin
from devstack.launch import free_port
from devstack.redis import run_redis
from standins.server import serve

PLAYERS = 50
GATEWAY_PLAN = Plan(rounds=5, throughput_seconds=2, latency_seconds=2, rates=(100, 300))
# LiteLLM answers some 100 requests a second, so it is asked for less than that in the open loop.
PEERS_PLAN = Plan(rounds=5, throughput_seconds=4, latency_seconds=2, rates=(25,))


@contextmanager
def behind() -> Iterator[Behind]:
    """The stand-in, auth's public side, Redis, and tokens of some players."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o711)  # Redis gives up root
        tokens = Tokens()
        auth = stack.enter_context(serve(auth_standin(tokens)))
        redis = stack.enter_context(run_redis(folder, "state", throwaway=True))
        port = free_port()
        command = [sys.executable, "-m", "bench.gateway.standin", str(port)]
        stack.enter_context(server(command, port, core=LOAD_CORE, log=folder / "standin.log", environment={}))
        players = tuple(tokens.player() for _ in range(PLAYERS))
        yield Behind(port, auth.url, redis.url, players, folder)


def compare_proxies(found: Behind) -> list[Goal]:
    """The gateway beside proxies that do less."""
    with ExitStack() as stack:
        proxies: dict[str, Target] = {
            "direct": targets.direct(found),
            "gateway": stack.enter_context(targets.gateway(found)),
            "FastAPI + httpx": stack.enter_context(targets.fastapi_httpx("default", found)),
            "FastAPI + httpx-aiohttp": stack.enter_context(targets.fastapi_httpx("aiohttp", found)),
        }
        if nginx := stack.enter_context(targets.nginx(found)):
            proxies["nginx"] = nginx
        rounds = measure(proxies, GATEWAY_PLAN)
        print_table(proxies, rounds, GATEWAY_PLAN.rates)
    if nginx is None:
        print("nginx: not installed")
    return [
        *(
            Goal(f"requests/s, times {peer}", ratio(rounds, "gateway", peer), at_least=times)
            for peer, times in (("FastAPI + httpx", 4), ("FastAPI + httpx-aiohttp", 1.5))
        ),
        Goal("added p50 at 100 requests/s, ms", added(rounds, "gateway", 100, 0.5), at_most=1),
        Goal("added p50 at 300 requests/s, ms", added(rounds, "gateway", 300, 0.5), at_most=1),
        Goal("added p99 at 300 requests/s, ms", added(rounds, "gateway", 300, 0.99), at_most=10),
    ]


def compare_peers(found: Behind) -> list[Goal]:
    """The gateway beside a gateway for models."""
    with ExitStack() as stack:
        proxies: Mapping[str, Target] = {
            "direct": targets.direct(found),
            "gateway": stack.enter_context(targets.gateway(found)),
            "LiteLLM": stack.enter_context(targets.litellm(found)),
        }
        rounds = measure(proxies, PEERS_PLAN)
        print_table(proxies, rounds, PEERS_PLAN.rates)
    return [Goal("requests/s, times LiteLLM", ratio(rounds, "gateway", "LiteLLM"), at_least=20)]


def main() -> None:
    """Measure; the exit code says whether all goals are met."""
    pin(LOAD_CORE)
    print(f"load average before: {os.getloadavg()[0]:.1f}; other work on this machine makes every figure worse")
    with behind() as found:
        goals = compare_peers(found) if sys.argv[1:] == ["peers"] else compare_proxies(found)
    sys.exit(0 if judge(goals) else 1)


if __name__ == "__main__":
    main()
