"""Rounds of measurements: every target in turn, first as much as it takes, then at fixed rates."""

import os
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import uvloop
from bench.gateway.load import closed_loop, open_loop
from bench.gateway.processes import cpu_seconds
from bench.gateway.targets import Target

CONNECTIONS = 64
WARM_UP_SECONDS = 1.0


@dataclass(frozen=True)
class Plan:
    """How much is measured; `rates` are requests a second of the open loop."""

    rounds: int
    throughput_seconds: float
    latency_seconds: float
    rates: tuple[int, ...]


@dataclass(frozen=True)
class Figures:
    """One target in one round; latencies in seconds, by rate."""

    per_second: float
    cpu_microseconds: float
    latencies: Mapping[int, list[float]]

    def quantile(self, rate: int, share: float) -> float:
        """A quantile of the latencies at `rate`, in milliseconds."""
        ordered = sorted(self.latencies[rate])
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000


Round = Mapping[str, Figures]


def measure(proxies: Mapping[str, Target], plan: Plan) -> list[Round]:
    """All rounds, after each target has been warmed up."""
    for target in proxies.values():
        uvloop.run(closed_loop(target.request, connections=CONNECTIONS, seconds=WARM_UP_SECONDS))
    rounds: list[Round] = []
    for number in range(plan.rounds):
        rounds.append({name: _figures(target, plan) for name, target in proxies.items()})
        rates = ", ".join(f"{name} {figures.per_second:,.0f}/s" for name, figures in rounds[-1].items())
        print(f"round {number + 1}: {rates} (load average {os.getloadavg()[0]:.1f})", file=sys.stderr)
    return rounds


def median(rounds: list[Round], name: str, figure: str) -> float:
    """The median of a target's plain figure over the rounds."""
    return float(statistics.median(getattr(each[name], figure) for each in rounds))


def _figures(target: Target, plan: Plan) -> Figures:
    before = cpu_seconds(target.process)
    rate = uvloop.run(closed_loop(target.request, connections=CONNECTIONS, seconds=plan.throughput_seconds))
    spent = cpu_seconds(target.process) - before
    latencies = {
        per_second: uvloop.run(open_loop(target.request, per_second=per_second, seconds=plan.latency_seconds))
        for per_second in plan.rates
    }
    return Figures(rate, spent / (rate * plan.throughput_seconds) * 1e6, latencies)
