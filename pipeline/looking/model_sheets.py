"""What is inside of a tokenizer, a model, a report and a registration."""

from typing import Any

from rich.console import Console
from rich.text import Text

from data.tokenizer import Tokenizer
from data.tokenizer_report import REPORT_FILE as TOKENIZER_REPORT
from pipeline.dag.store import Artifact
from pipeline.looking.page import fields, grid, heading, shortened, visible
from pipeline.looking.rows import Query
from pipeline.looking.tensors import root_mean_square, tensors_of
from pipeline.report import numbers
from pipeline.stages.compare import COLUMNS, MEASURES, cells, title

SOURCES_SHOWN = 10
TABLE_ROWS = 40
"Lines of a table when no --limit is given."
SAMPLES = ("Hello, world!", "def main() -> None:\n    return 42\n", "naïve café, 你好, 🙂", "1234567 km")


def tokenizer_facts(artifact: Artifact, query: Query) -> dict[str, Any]:
    """Its size and control tokens, its longest tokens (those that hold `query.contains`), and how it splits texts."""
    tokenizer = Tokenizer.load(artifact.folder.local())
    texts = {id_: tokenizer.decode([id_]) for id_ in range(tokenizer.vocab_size)}
    special = set(tokenizer.special_ids.values())
    fitting = [id_ for id_, text in texts.items() if id_ not in special and query.contains in text]
    longest = sorted(fitting, key=lambda id_: (-len(texts[id_]), id_))
    has_report = artifact.folder.exists(TOKENIZER_REPORT)
    return {
        "report": artifact.folder.read_json(TOKENIZER_REPORT) if has_report else None,
        "vocab_size": tokenizer.vocab_size,
        "hash": tokenizer.hash,
        "encoder": tokenizer.encoder,
        "special_tokens": tokenizer.special_ids,
        "num_matching": len(fitting),
        "longest_tokens": {texts[id_]: id_ for id_ in longest[query.offset : query.offset + query.limit]},
        "samples": [
            {"text": text, "ids": ids, "pieces": [texts[id_] for id_ in ids]}
            for text in SAMPLES
            for ids in [tokenizer.encode(text).tolist()]
        ],
    }


def print_tokenizer(facts: dict[str, Any], query: Query, console: Console) -> None:
    console.print(fields({name: facts[name] for name in ("vocab_size", "hash", "encoder")}))
    console.print(heading("control tokens"))
    console.print(fields({visible(token): id_ for token, id_ in facts["special_tokens"].items()}))
    which = f"that hold {query.contains!r}, " if query.contains else ""
    console.print(heading(f"longest tokens ({which}{facts['num_matching']:,} in all)"))
    table = grid("  token", "id", right=("id",))
    for text, id_ in facts["longest_tokens"].items():
        table.add_row(Text(f"  {visible(repr(text))}"), str(id_))
    console.print(table)
    console.print(heading("how it splits"))
    report = facts["report"] or {"examples": []}
    for pieces in [sample["pieces"] for sample in facts["samples"]] + report["examples"]:
        split = visible("|".join(pieces).replace("\n", "␊"))
        console.print(Text(f"  {split}", overflow="fold").append(f"  {len(pieces)}", style="dim"))
    if facts["report"]:
        _print_rates(report, console)


def _print_rates(report: dict[str, Any], console: Console) -> None:
    """How short texts become, over the sample of the report and by the groups in it."""
    console.print(heading(f"on {numbers.size(report['sample']['bytes'])} of its corpus"))
    table = grid(
        "  texts", "documents", "bytes/token", "unknown", right=("documents", "bytes/token", "unknown")
    )
    for name, tally in _tallies(report):
        table.add_row(
            Text(f"  {visible(name)}"),
            f"{tally['documents']:,}",
            f"{tally['bytes_per_token']:.3f}",
            f"{tally['unknown_fraction']:.3%}",
        )
    console.print(table)


def _tallies(report: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """All of the sample, its scripts, and the largest of its sources."""
    sources = sorted(report["by_source"].items(), key=lambda item: -item[1]["bytes"])
    return [("all", report["sample"]), *report["by_script"].items(), *sources[:SOURCES_SHOWN]]


def model_facts(artifact: Artifact, query: Query) -> dict[str, Any]:
    """Its config and its tensors; the weights are read only of those that are listed."""
    folder, manifest = artifact.folder, artifact.manifest
    found = tensors_of(folder, manifest)
    fitting = [tensor for tensor in found if query.contains in tensor.name]
    shown = fitting[query.offset : query.offset + query.limit]
    name = "model.json" if any(file.name == "model.json" for file in manifest.files) else "config.json"
    return {
        "config": folder.read_json(name),
        "num_parameters": sum(tensor.size for tensor in found),
        "num_tensors": len(fitting),
        "tensors": [
            {
                "name": tensor.name,
                "shape": list(tensor.shape),
                "dtype": tensor.dtype,
                "parameters": tensor.size,
                "root_mean_square": root_mean_square(folder, tensor),
            }
            for tensor in shown
        ],
    }


def print_model(facts: dict[str, Any], console: Console) -> None:
    console.print(fields(facts["config"]))
    total, shown = facts["num_tensors"], len(facts["tensors"])
    console.print(heading(f"{total:,} tensors, {facts['num_parameters']:,} stored parameters"))
    numeric = ("parameters", "root mean square")
    table = grid("  name", "shape", "dtype", *numeric, right=numeric)
    for tensor in facts["tensors"]:
        size = tensor["root_mean_square"]
        table.add_row(
            Text(f"  {visible(tensor['name'])}"),
            " x ".join(map(str, tensor["shape"])),
            tensor["dtype"],
            f"{tensor['parameters']:,}",
            "" if size is None else numbers.metric(size),
        )
    console.print(table)
    if total > shown:
        console.print(Text(f"  and {total - shown:,} more: --limit, --offset, --contains", style="dim"))


def print_comparison(facts: dict[str, Any], console: Console) -> None:
    """A table for each measurement, the best model first."""
    for each in facts["tables"]:
        console.print(heading(title(each)))
        names = (*COLUMNS[2:], MEASURES[each["measure"]])
        table = grid("  model", "architecture", *names, right=names)
        for row in each["models"]:
            model, *others = cells(row)
            table.add_row(f"  {visible(model)}", *others)
        console.print(table)


def report_facts(artifact: Artifact, query: Query) -> dict[str, Any]:
    """Metrics, counters and the samples wanted."""
    report: dict[str, Any] = artifact.folder.read_json("report.json")
    fitting = [
        sample for sample in report["samples"] if any(query.contains in text for text in sample.values())
    ]
    return report | {"samples": fitting[query.offset : query.offset + query.limit]}


def print_report(facts: dict[str, Any], *, characters: int, console: Console) -> None:
    console.print(fields({name: numbers.metric(value) for name, value in facts["metrics"].items()}))
    console.print(fields({name: f"{count:,}" for name, count in facts["counters"].items()}))
    for number, sample in enumerate(facts["samples"], 1):
        console.print(heading(f"sample {number}"))
        for name in ("prompt", "generated", "reference"):
            if words := sample.get(name):
                text = Text(f"{name}\n", style="dim", overflow="fold")
                console.print(text.append(visible(shortened(words, characters)), style="not dim"))
