"""Shards in, shards out: the shape that most data stages share."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from data.errors import DataError
from pipeline.dag.folder import Folder
from pipeline.dag.stage import Input, StageContext, StageResult

ARROW = ".arrow"
MOST_REASONS = 5
"That an error names."

Shard = tuple[Folder, str]
"Where a shard lies, and its name there."


def shard_names(given: Input) -> list[str]:
    """The Arrow files of an input in order; names count from its folder, parts included."""
    return [
        file.name.removeprefix(f"{given.part}/")
        for file in given.manifest.content(given.part)
        if file.name.endswith(ARROW)
    ]


def shards_of(inputs: Sequence[Input]) -> list[Shard]:
    """The Arrow files of several inputs, one after the other."""
    return [(each.folder, name) for each in inputs for name in shard_names(each)]


def map_shards(
    context: StageContext, given: Input, function: Callable[..., dict[str, Any]], *arguments: Any
) -> StageResult:
    """One task `function(folder, name, output, *arguments)` per shard of `given`; their counters added up.

    A shard keeps its name, so that parts such as `train/` pass through.
    """
    names = shard_names(given)
    items = {name: (given.folder, name, context.output, *arguments) for name in names}
    return StageResult(total(context.map(function, items).values()))


def total(counters: Iterable[dict[str, int]]) -> dict[str, int]:
    """Counters added up, by name, in a fixed order."""
    added: Counter[str] = Counter()
    for each in counters:
        added.update(each)
    return dict(sorted(added.items()))


def sum_below(counters: Mapping[str, int], name: str) -> int:
    """The counters `name/…` added up, such as all that was dropped for any reason."""
    return sum(count for counter, count in counters.items() if counter.startswith(f"{name}/"))


def write_list(output: Folder, name: str, shard: str, table: pa.Table) -> None:
    """Keep a list of what a shard came to beside the content, for `headrace inspect --list`; none where it is empty."""
    if len(table):
        with output.writing(f"{name}/{shard.removesuffix(ARROW)}.parquet") as sink:
            parquet.write_table(table, sink)


def renamed(name: str, kind: str) -> str:
    """`train/documents-00003.arrow` as a file of another kind: `train/tokens-00003.arrow`."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{kind}-{file.partition('-')[2]}"


def check_not_empty(documents: int, *, node: str, knob: str, counters: Mapping[str, int]) -> None:
    """Raises DataError where nothing is left: better here than as a riddle three nodes later.

    The reasons with the most documents are told, since a stage that fails leaves no counters to look at.
    """
    if documents:
        return
    reasons = [(-n, name) for name, n in counters.items() if name.startswith(("dropped/", "refused/")) and n]
    told = ", ".join(f"{name} {-n}" for n, name in sorted(reasons)[:MOST_REASONS])
    raise DataError(
        f"no document is left{told and f': {told}'}",
        where=f"node {node}",
        allowed="at least one document",
        do=f"loosen stages.{node}.{knob}",
    )


class Naming:
    """Says which document was at work when an error rises out of the block; costs nothing while none does."""

    __slots__ = ("document_id",)

    def __init__(self, document_id: str) -> None:
        self.document_id = document_id

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            error.add_note(f"at document {self.document_id}")
