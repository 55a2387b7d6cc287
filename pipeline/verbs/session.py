"""What most verbs begin with: the recipe composed, its graph, the store, and a planner over them."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import compose_recipe
from pipeline.dag.graph import Graph
from pipeline.dag.plan import Planner
from pipeline.dag.references import resolve
from pipeline.dag.store import Artifact, Store
from pipeline.errors import ConfigError
from pipeline.looking.subject import Finder
from pipeline.recipe import PipelineConfig


@dataclass
class Session:
    """A recipe at hand."""

    recipe: str
    config: PipelineConfig
    yaml: str
    "The resolved recipe."
    graph: Graph
    store: Store
    planner: Planner

    @property
    def store_path(self) -> Path | None:
        """The store's folder on this machine, or None where it is remote."""
        return Path(self.store.root.path) if self.store.root.is_local else None

    def resolve(self, reference: str) -> Artifact:
        """The artifact that REF means."""
        return resolve(reference, store=self.store, planner=self.planner)


def open_session(arguments: argparse.Namespace) -> Session:
    """Compose the recipe of a command and open its store.

    Raises:
        ConfigError: anything wrong with the recipe, an override or a pin.
    """
    composed = compose_recipe(arguments.overrides)
    graph, store = Graph(composed.config.stages), Store(composed.config.store)
    pins = {}
    for pin in getattr(arguments, "pin", None) or []:
        node, mark, reference = pin.partition("=")
        if not mark:
            raise ConfigError(
                f'the pin "{pin}" names no artifact',
                where="--pin",
                allowed="NODE=REF",
                do="give the folder or the beginning of the fingerprint of an artifact",
            )
        pins[node] = resolve(reference, store=store, planner=None)
    planner = Planner(graph, store, recipe=composed.recipe, pins=pins)
    return Session(composed.recipe, composed.config, composed.yaml, graph, store, planner)


def finder(session: Session) -> Finder:
    """Finds what a REF means beside the recipe at hand."""
    return Finder(session.store, session.planner, session.config.tracking)


def one_reference(arguments: argparse.Namespace, session: Session) -> str:
    """The only REF of a command.

    Raises:
        ConfigError: there is none, or there are several.
    """
    (reference,) = references(arguments, session, count=1)
    return reference


def references(arguments: argparse.Namespace, session: Session, *, count: int) -> list[str]:
    """The REFs of a command, exactly so many."""
    given: list[str] = arguments.nodes
    if len(given) == count:
        return given
    raise ConfigError(
        f"`headrace {arguments.verb}` takes {count} REF, and {len(given) or 'none'} is given"
        if count == 1
        else f"`headrace {arguments.verb}` takes {count} REFs, and {len(given)} are given",
        where="the command line",
        allowed=f"a node ({', '.join(session.graph.stages)}), an artifact's folder, a fingerprint, a run id",
        do=f"headrace {arguments.verb} {' '.join(list(session.graph.stages)[:count])}",
    )


def add_recipe_arguments(parser: argparse.ArgumentParser, *, words: str = "NODE|OVERRIDE") -> None:
    """Nodes and overrides, in any order."""
    parser.add_argument(
        "words", nargs="*", metavar=words, help="nodes of the recipe, and overrides KEY=VALUE"
    )


def add_pin_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pin", action="append", metavar="NODE=REF", help="use an existing artifact for a node, as it is"
    )


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print facts as JSON")
