"""`headrace show`: an artifact, a run or the recipe, with all that is known of it."""

import argparse
import sys

import yaml

from pipeline.looking.lineage import home_of
from pipeline.looking.page import print_json, standard_console
from pipeline.looking.sheet import artifact_facts, print_artifact, print_run, run_facts
from pipeline.looking.subject import ArtifactPart, Run
from pipeline.verbs.session import Session, add_json_argument, finder, one_reference, open_session

RECIPE = "recipe"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="REF|OVERRIDE",
        help="a node, an artifact's folder, a fingerprint's beginning, the id of a run (ours or MLflow's), or `recipe`",
    )
    parser.add_argument(
        "--sequence",
        type=int,
        metavar="STEP",
        help="of a training: the sequences and documents of the global batch at this step",
    )
    add_json_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    session = open_session(arguments)
    reference = one_reference(arguments, session)
    if reference == RECIPE and RECIPE not in session.graph.stages:
        if arguments.json:
            print_json(yaml.safe_load(session.yaml))
        else:
            sys.stdout.write(session.yaml)
        return 0
    subject = finder(session).find(reference)
    if arguments.sequence is not None:
        return _global_batch(finder(session).find_artifact(reference), arguments, session)
    if isinstance(subject, Run):
        if arguments.json:
            print_json(run_facts(subject, session.store))
        else:
            print_run(subject, session.store, standard_console())
        return 0
    store = home_of(subject.artifact, session.store)
    if arguments.json:
        print_json(artifact_facts(subject, store))
    else:
        print_artifact(subject, store, standard_console())
    return 0


def _global_batch(subject: ArtifactPart, arguments: argparse.Namespace, session: Session) -> int:
    from pipeline.looking.global_batch import global_batch_facts, print_global_batch

    store = home_of(subject.artifact, session.store)
    facts = global_batch_facts(subject.artifact, arguments.sequence, store)
    if arguments.json:
        print_json(facts)
    else:
        print_global_batch(facts, standard_console())
    return 0
