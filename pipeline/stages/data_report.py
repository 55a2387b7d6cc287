"""`data_report`: what the data is like, artifact by artifact, as a page with pictures and as facts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from data.ipc import batches_of, open_batches
from data.profile import LENGTH_UNITS, Profile, bucket_start
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Input, Stage, StageContext, StageResult, many_ports
from pipeline.report import charts, numbers
from pipeline.stages.sharding import shard_names

FACTS, PAGE = "report.json", "logs/report.html"
MOST_SOURCES = 15
QUANTILES = (0.1, 0.5, 0.9, 0.99)


@dataclass
class DataReport(Stage):
    """Counts rows, lengths and sources of data artifacts, and shows the counters that they came with."""

    name: ClassVar[str] = "data_report"
    produces: ClassVar[str] = "data_report"

    @dataclass
    class Inputs:
        artifacts: list[str] = many_ports("documents", "examples", "tokens")
        "What to look at, in the order of the page."

    inputs: Inputs = field(default_factory=Inputs)

    def run(self, context: StageContext) -> StageResult:
        given = context.inputs["artifacts"]
        items = [
            {f"{place}/{name}": (each.folder, name, each.kind) for name in shard_names(each)}
            for place, each in enumerate(given)
        ]
        results = context.map(profile_shard, {name: item for each in items for name, item in each.items()})
        facts = [
            _facts(each, Profile.merged(map(results.__getitem__, names)))
            for each, names in zip(given, items, strict=True)
        ]
        context.output.write_json(FACTS, {"artifacts": facts})
        html = render([each.reference for each in given], facts)
        context.output.write_bytes(PAGE, html.encode())
        rows = sum(each["rows"] for each in facts)
        return StageResult({"artifacts": len(given), "rows": rows}, pages={"data_report.html": html})


def profile_shard(folder: Folder, name: str, kind: str) -> dict[str, Any]:
    """Profile one shard."""
    profile = Profile()
    with folder.opening(name) as source:
        for batch in batches_of(open_batches(source, kind=kind)):
            profile.add(batch, kind=kind)
    return profile.to_json()


def render(titles: Sequence[str], facts: Sequence[dict[str, Any]]) -> str:
    """The page: a chapter for each artifact."""
    sizes = [
        (title, float(each["rows"]), f"{each['rows']:,} rows")
        for title, each in zip(titles, facts, strict=True)
    ]
    body = [charts.bars(sizes)]
    for title, each in zip(titles, facts, strict=True):
        body += _chapter(title, each)
    return charts.page("Data report", body)


def _facts(given: Input, profile: Profile) -> dict[str, Any]:
    quantiles = {f"p{fraction * 100:g}": profile.quantile(fraction) for fraction in QUANTILES}
    facts = {"kind": given.kind, "unit": LENGTH_UNITS[given.kind]}
    return facts | profile.to_json() | {"quantiles": quantiles, "counters": given.manifest.counters}


def _chapter(title: str, facts: dict[str, Any]) -> list[str]:
    unit = facts["unit"]
    total = [("rows", f"{facts['rows']:,}"), (unit, f"{facts['length']:,}")]
    quantiles = [(f"{unit}, {name}", f"{value:,}") for name, value in facts["quantiles"].items()]
    counters = list(facts["counters"].items())
    reasons = [(name, float(value), f"{value:,}") for name, value in counters if "/" in name]
    return [
        charts.heading(2, title),
        charts.table(total + quantiles),
        charts.heading(3, f"Rows by length in {unit}"),
        charts.columns(_histogram(facts["buckets"])),
        charts.heading(3, f"{unit.capitalize()} by source"),
        charts.bars(_largest(facts["sources"])),
        charts.heading(3, "Counters"),
        charts.table([(name, f"{value:,}") for name, value in counters if "/" not in name]),
        *([charts.bars(reasons)] if reasons else []),
    ]


def _histogram(buckets: Sequence[Any]) -> list[tuple[str, float]]:
    counts: dict[int, int] = dict(buckets)
    if not counts:
        return []
    return [
        (numbers.count(bucket_start(bucket)), counts.get(bucket, 0))
        for bucket in range(min(counts), max(counts) + 1)
    ]


def _largest(sources: Sequence[Sequence[Any]]) -> list[tuple[str, float, str]]:
    ordered = sorted(sources, key=lambda each: (-each[1], each[0]))
    rest = ordered[MOST_SOURCES:]
    shown = [(name, float(length), numbers.count(length)) for name, length in ordered[:MOST_SOURCES]]
    if rest:
        length = sum(each[1] for each in rest)
        shown.append((f"{len(rest)} more", float(length), numbers.count(length)))
    return shown
