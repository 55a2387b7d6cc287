"""`compare`: models side by side, by what was measured of them on the same held-out tokens."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from model.config import config_from_dict
from model.flops import flops_per_token, num_parameters
from pipeline.dag.stage import Input, Stage, StageContext, StageResult, many_ports
from pipeline.errors import ConfigError
from pipeline.report import charts, numbers

FACTS, TABLE, PAGE = "comparison.json", "comparison.md", "logs/comparison.html"
MEASURES = {
    "eval/bits_per_byte": "bits per byte",
    "eval/accuracy": "accuracy",
    "eval/pearson": "correlation",
    "eval/perplexity": "perplexity",
    "eval/loss": "loss",
}
"What models are ranked by: the first of these that a report has. More is better of `LARGEST`, less of the others."
LARGEST = ("eval/accuracy", "eval/pearson")
COLUMNS = ("model", "architecture", "parameters", "FLOPs a token", "tokens learned")


@dataclass
class Compare(Stage):
    """One table for each kind of measurement on each set of tokens, the best model first.

    Only likelihoods of the same text can be ranked as such: masked tokens, and spans that were left out, have tables of
    their own. The artifact is `comparison.json`, and `comparison.md` for people.
    """

    name: ClassVar[str] = "compare"
    produces: ClassVar[str] = "comparison"

    @dataclass
    class Inputs:
        reports: list[str] = many_ports("report")
        "Evaluations."
        models: list[str] = many_ports("checkpoint")
        "The models that they are of."

    inputs: Inputs = field(default_factory=Inputs)

    def run(self, context: StageContext) -> StageResult:
        models = {each.manifest.key: each for each in context.inputs["models"]}
        tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for report in context.inputs["reports"]:
            model = models.get(report.manifest.inputs["model"][0]["key"])
            if model is None:
                raise _unknown(report, context)
            metrics = report.manifest.metrics
            measure = next(name for name in MEASURES if name in metrics)
            row = _described(model) | {"report": report.node, "value": metrics[measure], "metrics": metrics}
            tables.setdefault((_tokens_of(report), measure), []).append(row)
        facts = [
            {"tokens": tokens, "measure": measure, "models": _ranked(rows, measure)}
            for (tokens, measure), rows in tables.items()
        ]
        html = charts.page("Comparison", [part for each in facts for part in _chapter(each)])
        context.output.write_json(FACTS, {"tables": facts})
        context.output.write_bytes(TABLE, as_markdown(facts).encode())
        context.output.write_bytes(PAGE, html.encode())
        counters = {"models": len(models), "reports": len(context.inputs["reports"]), "tables": len(facts)}
        return StageResult(counters, pages={"comparison.html": html})


def _unknown(report: Input, context: StageContext) -> ConfigError:
    judged = report.manifest.inputs["model"][0]["node"]
    return ConfigError(
        f'"{report.node}" judges "{judged}", which is not among the models',
        where=f"stages.{context.node}.inputs.models",
        allowed="the model of every report",
        do=f"add {judged}",
    )


def _tokens_of(report: Input) -> str:
    """What the report's model was judged on, as a recipe names it."""
    origin = report.manifest.inputs["tokens"][0]
    return f"{origin['node']}/{origin['part']}" if origin["part"] else origin["node"]


def _described(model: Input) -> dict[str, Any]:
    config = config_from_dict(model.folder.read_json("model.json"))
    return {
        "model": model.node,
        "architecture": config.architecture,
        "parameters": num_parameters(config),
        "flops_per_token": flops_per_token(config, config.max_seq_len),
        "tokens_learned": model.manifest.counters["tokens"],
    }


def _ranked(rows: Iterable[dict[str, Any]], measure: str) -> list[dict[str, Any]]:
    sign = -1 if measure in LARGEST else 1
    return sorted(rows, key=lambda row: (sign * row["value"], row["report"]))


def as_markdown(tables: Sequence[dict[str, Any]]) -> str:
    """The tables one below the other, each under what was measured on what."""
    chapters = []
    for table in tables:
        names = (*COLUMNS, MEASURES[table["measure"]])
        lines = [names, ["---", "---"] + ["---:"] * (len(names) - 2), *map(cells, table["models"])]
        rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        chapters.append(f"## {title(table)}\n\n{rows}\n")
    return "\n".join(chapters)


def title(table: dict[str, Any]) -> str:
    """What was measured on what."""
    return f"{MEASURES[table['measure']]} on {table['tokens']}"


def cells(row: dict[str, Any]) -> list[str]:
    """A row in words, under `COLUMNS` and the measure."""
    counts = [numbers.count(row[name]) for name in ("parameters", "flops_per_token", "tokens_learned")]
    return [row["model"], row["architecture"], *counts, f"{row['value']:.4f}"]


def _chapter(table: dict[str, Any]) -> list[str]:
    bars = [(row["model"], row["value"], f"{row['value']:.4f}") for row in table["models"]]
    facts = [
        (row["model"], f"{row['architecture']}, {numbers.count(row['parameters'])} parameters")
        for row in table["models"]
    ]
    return [charts.heading(2, title(table)), charts.bars(bars), charts.table(facts)]
