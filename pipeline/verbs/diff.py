"""`headrace diff`: what differs between two artifacts or two runs, field by field."""

import argparse

from pipeline.errors import ConfigError
from pipeline.looking.difference import (
    between_artifacts,
    between_runs,
    difference_facts,
    print_differences,
)
from pipeline.looking.page import print_json, standard_console
from pipeline.looking.subject import ArtifactPart, Run
from pipeline.verbs.session import add_json_argument, finder, open_session, references


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="REF|OVERRIDE",
        help="two artifacts or two runs, as `headrace show` takes them",
    )
    add_json_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    session = open_session(arguments)
    one, two = references(arguments, session, count=2)
    first, second = (finder(session).find(reference) for reference in (one, two))
    if isinstance(first, ArtifactPart) and isinstance(second, ArtifactPart):
        found = between_artifacts(first, second)
    elif isinstance(first, Run) and isinstance(second, Run):
        found = between_runs(first, second, session.store)
    else:
        run = one if isinstance(first, Run) else two
        raise ConfigError(
            f"{run} is a run and the other is an artifact",
            where="the command line",
            allowed="two artifacts, or two runs",
            do=f"`headrace show {run}` lists the artifacts of the run",
        )
    if arguments.json:
        print_json({"first": one, "second": two, "differences": difference_facts(found)})
    else:
        print_differences(found, (one, two), standard_console())
    return 0
