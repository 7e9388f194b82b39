"""What a run says in the end: a table in Markdown, and whether the stated figures were met."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

from bench.gateway.processes import memory_mb
from bench.gateway.rounds import Round, median
from bench.gateway.targets import Target


@dataclass(frozen=True)
class Goal:
    """A figure and its bound, one of the two."""

    text: str
    value: float
    _: KW_ONLY
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the figure keeps its bound."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return self.at_most is None or self.value <= self.at_most


def ratio(rounds: Sequence[Round], name: str, other: str) -> float:
    """How many times the requests a second of `other` the target `name` answers."""
    return statistics.median(each[name].per_second / each[other].per_second for each in rounds)


def added(rounds: Sequence[Round], name: str, rate: int, share: float) -> float:
    """How many milliseconds a target adds to a quantile of the stand-in's own, at a rate of the open loop."""
    return statistics.median(each[name].quantile(rate, share) - each["direct"].quantile(rate, share) for each in rounds)


def print_table(proxies: Mapping[str, Target], rounds: list[Round], rates: Sequence[int]) -> None:
    """One line per target; added latencies in milliseconds, of a target that is not the stand-in itself."""
    columns = ["", "requests/s", "CPU µs/request"]
    columns += [f"added p{share} at {rate}/s" for rate in rates for share in (50, 99)]
    print("\n" + _line([*columns, "memory MB"]))
    print(_line(["---", *["---:"] * len(columns)]))
    for name, target in proxies.items():
        cells = [name, f"{median(rounds, name, 'per_second'):,.0f}"]
        if target.process is None:
            cells += [""] * len(columns[2:]) + [""]
        else:
            cells.append(f"{median(rounds, name, 'cpu_microseconds'):,.0f}")
            cells += [f"{added(rounds, name, rate, share):.2f} ms" for rate in rates for share in (0.5, 0.99)]
            cells.append(f"{memory:.0f}" if (memory := memory_mb(target.process)) else "")
        print(_line(cells))
    print()


def judge(goals: Sequence[Goal]) -> bool:
    """Print which goals are met; whether all are."""
    for goal in goals:
        bound = f"≥ {goal.at_least:g}" if goal.at_least is not None else f"≤ {goal.at_most:g}"
        print(f"{'PASS' if goal.is_met else 'FAIL'}  {goal.text}: {goal.value:.2f} (stated: {bound})")
    return all(goal.is_met for goal in goals)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
