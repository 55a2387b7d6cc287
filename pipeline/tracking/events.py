"""The runner's events as records of a tracker."""

from dataclasses import replace

from pipeline.dag.events import Event, NodeFailed, NodeFinished, NodeMetrics, NodeStarted
from pipeline.tracking.sink import KEY_TAG
from pipeline.tracking.tracker import Status, Tracker


def record(tracker: Tracker, event: Event, *, below: str = "") -> None:
    """Record what an event says of a node. The run itself is begun and ended by whoever has its recipe and picture.

    With `below`, the node is one of several of its name, each in a run of the tracker that is called so.
    """
    if below and hasattr(event, "node"):
        event = replace(event, node=f"{below}/{event.node}")  # type: ignore[arg-type]
    match event:
        case NodeStarted():
            tracker.start_node(
                event.node,
                stage=event.stage,
                key=event.key,
                params=event.params,
                tags=event.tags,
                below=below,
            )
        case NodeMetrics():
            tracker.metrics(event.node, event.metrics, step=event.step, tokens=event.tokens or None)
        case NodeFinished():
            tracker.finish_node(
                event.node,
                "FINISHED",
                metrics={**event.metrics, **_counters(event.counters)},
                artifact_url=event.url,
                digest=event.digest,
                note=_note(event),
                pages=event.pages,
                tags={KEY_TAG: event.key} | event.tags,
            )
        case NodeFailed():
            status: Status = "KILLED" if event.interrupted else "FAILED"
            note = "" if event.interrupted else f"```\n{event.error}\n```"
            tracker.finish_node(event.node, status, metrics={}, artifact_url="", note=note)
        case _:
            pass


def _counters(counters: dict[str, int]) -> dict[str, float]:
    return {f"count/{name}": float(value) for name, value in counters.items()}


def _note(event: NodeFinished) -> str:
    """Markdown that the run's page shows."""
    rows = [f"| {name} | {value:,} |" for name, value in event.counters.items()]
    table = "\n".join(["| counter | number |", "|---|---:|", *rows]) if rows else ""
    return f"`{event.url}`\n\n{table}"
