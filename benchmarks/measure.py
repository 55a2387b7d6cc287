"""Side-by-side measurement: contenders run in turn in one process, so that a noisy machine slows all of them alike.

    result = compare(
        "encode 26 MB", {"headrace": ours, "tokenizers": theirs}, unit="MB", repeats=7
    )
    publish([result])

A contender is a function without arguments. It returns how many units of work it did, or None where the time itself
is the figure. The first one named is ours; each round's ratio is the peer's seconds per unit over ours, and the ratio
shown is the median over rounds: above 1, ours is faster.

What is required is named beside what is measured, as `Limit`s of a result; every one is printed with what was reached
and `met` or `MISSED`, and `publish` says whether all are met, which makes the exit code.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

Contender = Callable[[], float | None]


@dataclass(frozen=True)
class Figure:
    """One contender's rounds: seconds each, the units of work done in each, and the ratio to ours."""

    name: str
    seconds: list[float]
    units: list[float]
    ratio: float
    "Median over rounds of (its seconds per unit / ours); 1 for ours itself."

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)

    @property
    def median_rate(self) -> float:
        """Units a second."""
        return statistics.median(
            units / seconds for units, seconds in zip(self.units, self.seconds, strict=True)
        )


@dataclass(frozen=True)
class Limit:
    """What is required, and what was reached."""

    what: str
    reached: float
    least: float | None = None
    most: float | None = None

    @property
    def is_met(self) -> bool:
        return (self.least is None or self.reached >= self.least) and (
            self.most is None or self.reached <= self.most
        )

    def __str__(self) -> str:
        bounds = {"at least": self.least, "at most": self.most}
        words = ", ".join(f"{word} {bound:,g}" for word, bound in bounds.items() if bound is not None)
        return f"{self.what}: {self.reached:,.4g}, {words}: {'met' if self.is_met else 'MISSED'}"


@dataclass(frozen=True)
class Result:
    """One measurement: ours against peers, or against limits."""

    title: str
    unit: str = ""
    "What is counted (tokens, MB, documents); empty: the seconds are the figure."
    figures: list[Figure] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    "What a reader needs beside the figures: sizes, versions, the peer's settings."

    @property
    def holds(self) -> bool:
        """Whether every limit is met; true where none is set."""
        return all(limit.is_met for limit in self.limits)


def compare(
    title: str,
    contenders: Mapping[str, Contender],
    *,
    unit: str = "",
    repeats: int = 7,
    warmups: int = 1,
    most_seconds: float | None = None,
    least_rate: float | None = None,
    least_ratios: Mapping[str, float] | None = None,
    **facts: object,
) -> Result:
    """Run the contenders in turn for `repeats` rounds, after `warmups` that are not counted.

    Limits of ours: `most_seconds`, `least_rate` in units a second, and `least_ratios` to peers by their names.
    """
    assert contenders
    assert repeats > 0
    rounds = [_one_round(contenders, turn=turn, unit=unit) for turn in range(warmups + repeats)][warmups:]
    names = list(contenders)
    figures = {name: _figure(name, names[0], rounds) for name in names}
    ours, limits = figures[names[0]], []
    if most_seconds is not None:
        limits.append(Limit("median seconds", ours.median_seconds, most=most_seconds))
    if least_rate is not None:
        limits.append(Limit(f"{unit}/s", ours.median_rate, least=least_rate))
    for name, least in (least_ratios or {}).items():
        limits.append(Limit(f"times {name}", figures[name].ratio, least=least))
    return Result(title, unit, list(figures.values()), limits, facts)


def publish(results: Sequence[Result], *, json_file: Path | None = None) -> bool:
    """Print the tables and one line of JSON (to `json_file` where given); true when every limit is met."""
    for result in results:
        _print_result(result)
    document = {
        "machine": machine(),
        "results": [asdict(result) | {"holds": result.holds} for result in results],
    }
    if json_file:
        json_file.write_text(json.dumps(document, indent=2) + "\n")
        print(f"JSON: {json_file}")
    else:
        print(json.dumps(document))
    return all(result.holds for result in results)


def machine() -> dict[str, object]:
    """Where this was measured: what a ratio may depend on."""
    names = {
        line.partition(":")[2].strip() for line in _read("/proc/cpuinfo") if line.startswith("model name")
    }
    return {
        "cpu": ", ".join(sorted(names)) or platform.processor(),
        "num_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark shares; a benchmark adds its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=7, help="rounds that count (default 7)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the JSON to FILE instead of the screen"
    )
    return parser


def _one_round(
    contenders: Mapping[str, Contender], *, turn: int, unit: str
) -> dict[str, tuple[float, float]]:
    """Seconds and units of each; the order turns with the round, so that none always follows the same one."""
    names = list(contenders)
    start = turn % len(names)
    measured = {}
    for name in names[start:] + names[:start]:
        begun = time.perf_counter()
        units = contenders[name]()
        seconds = time.perf_counter() - begun
        assert (units is not None) == bool(unit), f"{name} returns its units exactly where a unit is named"
        measured[name] = (seconds, 1.0 if units is None else float(units))
        sys.stderr.write(f"  round {turn}: {name} {seconds:.3f} s\n")
    return measured


def _figure(name: str, ours: str, rounds: list[dict[str, tuple[float, float]]]) -> Figure:
    def seconds_per_unit(each: dict[str, tuple[float, float]], who: str) -> float:
        seconds, units = each[who]
        return seconds / units

    ratio = statistics.median(seconds_per_unit(each, name) / seconds_per_unit(each, ours) for each in rounds)
    return Figure(name, [each[name][0] for each in rounds], [each[name][1] for each in rounds], ratio)


def _print_result(result: Result) -> None:
    facts = "; ".join(f"{key} {value}" for key, value in result.facts.items())
    print(f"\n{result.title}" + (f" ({facts})" if facts else ""))
    if result.figures:
        _print_table(result)
    for limit in result.limits:
        print(f"  limit: {limit}")


def _print_table(result: Result) -> None:
    rate = f"{result.unit}/s" if result.unit else ""
    print(f"  {'':24} {'median s':>10} {'min s':>10} {'max s':>10} {rate:>14} {'ours is':>10}")
    for index, each in enumerate(result.figures):
        shown = f"{each.median_rate:,.1f}" if result.unit else ""
        ratio = f"{each.ratio:.2f} x" if index else ""
        print(
            f"  {each.name:24} {each.median_seconds:>10.3f} {min(each.seconds):>10.3f} {max(each.seconds):>10.3f}"
            f" {shown:>14} {ratio:>10}"
        )


def _read(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
