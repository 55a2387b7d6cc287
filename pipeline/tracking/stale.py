"""Runs whose process is dead, and that MLflow would show as running for ever."""

from pipeline.dag.process import ProcessId, this_machine
from pipeline.tracking.sink import PROCESS_TAG, Sink


def close_stale_runs(sink: Sink) -> int:
    """Set every run of this host whose process has ended to KILLED; returns how many there were.

    Its end is the instant of its last metric, the last sign of life that there is.
    """
    query = f"attributes.status = 'RUNNING' and tags.`{PROCESS_TAG}` LIKE '{this_machine()} %'"
    closed = 0
    for run in sink.client.search_runs([sink.experiment], query, max_results=1000):
        if ProcessId.parse(run.data.tags[PROCESS_TAG]).is_gone():
            instants = [metric.timestamp for metric in run.data._metric_objs]  # noqa: SLF001
            ended_at = max([run.info.start_time, *instants])
            sink.client.set_terminated(run.info.run_id, "KILLED", ended_at)
            closed += 1
    return closed
