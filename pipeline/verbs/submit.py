"""`headrace submit`: the same verb as a job on a Ray cluster; its log on the screen, its exit code ours."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pipeline.config import compose_recipe
from pipeline.errors import ConfigError, StageFailedError
from pipeline.verbs.session import add_json_argument

if TYPE_CHECKING:
    from pipeline.submit.jobs import Cluster, JobEnd
    from pipeline.submit.parcel import Parcel

REFUSED = ("submit", "ui", "serve", "help", "version")
"Verbs that mean nothing away from this terminal."
ON_CLUSTER = ("run", "tune")
"Verbs that work on a Ray cluster, and must take the one they are on."
INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "headrace submit --address URL [--no-wait] [--json] -- VERB …"
    parser.add_argument("--address", required=True, metavar="URL", help="of the cluster's dashboard")
    parser.add_argument("--no-wait", action="store_true", help="send it, say how to look at it, and end")
    add_json_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    notes = check(arguments.submitted)
    out = sys.stderr if arguments.json else sys.stdout
    from pipeline.submit.jobs import Cluster
    from pipeline.submit.parcel import pack

    command = list(arguments.command)
    if arguments.submitted.verb in ON_CLUSTER:
        command.append("cluster.address=auto")
    parcel = pack(command, folder=Path.cwd())
    cluster = Cluster(arguments.address)
    submission = cluster.submit(parcel)
    _announce(cluster, submission, parcel, notes, out)
    end = None if arguments.no_wait else _followed(cluster, submission, out)
    if arguments.json:
        sys.stdout.write(json.dumps(_facts(cluster, submission, parcel, end), indent=2) + "\n")
    if end and end.message:
        raise StageFailedError(
            f"the job was not started: {end.message.strip().splitlines()[-1]}",
            where=f"{submission} on {cluster.address}",
            allowed="a cluster with the Ray and the libraries of this machine",
            do=f"look into {dict(cluster.hints(submission))['look again']}",
        )
    return end.exit_code if end else 0


def check(submitted: argparse.Namespace | None) -> list[str]:
    """Refuse a command that cannot work as a job, before anything is sent; returns what a person should know.

    Raises:
        ConfigError: no verb, one that needs this terminal, a recipe that does not compose, or a store that is lost
            with the job.
    """
    verb = getattr(submitted, "verb", "")
    if submitted is None or verb in REFUSED:
        raise ConfigError(
            f'"{verb}" needs this terminal' if verb else "there is no verb to submit",
            where="headrace submit, after --",
            allowed="any verb that ends by itself: run, plan, tune, show, diff, inspect, generate, graph, gc",
            do="for example: headrace submit --address http://127.0.0.1:8265 -- run store=s3://bucket/headrace",
        )
    store = compose_recipe(submitted.overrides).config.store
    if "://" in store:
        return []
    if not Path(store).is_absolute():
        raise ConfigError(
            f'the store "{store}" is a path inside the folder of the job, and would be lost with it',
            where="store",
            allowed="a URL such as s3://bucket/headrace, or an absolute path that every machine of the cluster has",
            do="add store=… to the submitted command",
        )
    return [
        f"the store {store} is a folder of the cluster's machines, not of this one; all of them must see it"
    ]


def _announce(cluster: "Cluster", submission: str, parcel: "Parcel", notes: list[str], out: TextIO) -> None:
    size = len(parcel.content) / 1024
    out.write(f"job {submission} on {cluster.address}; {size:,.0f} KiB of code and recipes went along\n")
    out.writelines(f"  {note}\n" for note in notes)
    out.writelines(f"  {name:<11}{command}\n" for name, command in cluster.hints(submission))
    out.flush()


def _followed(cluster: "Cluster", submission: str, out: TextIO) -> "JobEnd":
    """Ctrl-C stops the job; a second one leaves it to end by itself."""
    from pipeline.submit.jobs import JobEnd

    def write(text: str) -> None:
        out.write(text)
        out.flush()

    try:
        return cluster.follow(submission, write=write)
    except KeyboardInterrupt:
        write("\nstopping the job; its finished work is kept (Ctrl-C again: do not wait for it)\n")
        return cluster.stop(submission) or JobEnd("STOPPED", INTERRUPTED, "")


def _facts(cluster: "Cluster", submission: str, parcel: "Parcel", end: "JobEnd | None") -> dict[str, object]:
    return {
        "submission_id": submission,
        "address": cluster.address,
        "sent_bytes": len(parcel.content),
        "status": end.status if end else "SUBMITTED",
        "exit_code": end.exit_code if end else None,
        "look_again": dict(cluster.hints(submission))["look again"],
    }
