"""`headrace gc`: delete what no recipe and no recent run reaches, and work that nobody continues."""

import argparse

from rich.text import Text

from pipeline.dag.collect import Garbage, delete_garbage, find_garbage
from pipeline.errors import ConfigError
from pipeline.looking.page import grid, print_json, standard_console
from pipeline.report import numbers
from pipeline.verbs.session import Session, add_json_argument, open_session

KEEP_RUNS = 10
KEEP_WORK_DAYS = 7.0
ROWS_SHOWN = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="OVERRIDE", help="such as store=…")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    parser.add_argument(
        "--keep-runs",
        type=int,
        default=KEEP_RUNS,
        metavar="N",
        help="keep what the newest N runs used (default %(default)s)",
    )
    parser.add_argument(
        "--keep-work-days",
        type=float,
        default=KEEP_WORK_DAYS,
        metavar="D",
        help="keep unfinished work that is younger (default %(default)s)",
    )
    add_json_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    _check(arguments)
    session = open_session(arguments)
    garbage = find_garbage(
        session.store, keep_runs=arguments.keep_runs, keep_work_days=arguments.keep_work_days
    )
    if not arguments.dry_run:
        delete_garbage(garbage)
    if arguments.json:
        print_json(_facts(session, garbage, deleted=not arguments.dry_run))
    else:
        _print(session, garbage, deleted=not arguments.dry_run)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.nodes:
        raise ConfigError(
            f'`headrace gc` takes no node, and "{arguments.nodes[0]}" is given',
            where="the command line",
            allowed="overrides, such as store=…, and options",
            do="leave it away; to build a node again, delete its artifact's folder",
        )
    for name in ("keep_runs", "keep_work_days"):
        if getattr(arguments, name) < 0:
            option = f"--{name.replace('_', '-')}"
            what = f"{option} is {getattr(arguments, name)}"
            raise ConfigError(what, where=option, allowed="0 or more", do="give a larger number")


def _facts(session: Session, garbage: list[Garbage], *, deleted: bool) -> dict[str, object]:
    rows = [
        {
            "kind": each.kind,
            "stage": each.stage,
            "key": each.key,
            "bytes": each.size,
            "reason": each.reason,
            "url": each.folder.url,
        }
        for each in garbage
    ]
    total = sum(each.size for each in garbage)
    return {"store": session.store.url, "deleted": deleted, "bytes": total, "garbage": rows}


def _print(session: Session, garbage: list[Garbage], *, deleted: bool) -> None:
    console = standard_console()
    if not garbage:
        console.print(f"nothing to delete in {session.store.url}")
        return
    table = grid("what", "", "size", "why", right=("size",))
    for each in garbage[:ROWS_SHOWN]:
        table.add_row(f"{each.stage}/{each.key[:12]}", each.kind, numbers.size(each.size), each.reason)
    console.print(table)
    if len(garbage) > ROWS_SHOWN:
        rest = sum(each.size for each in garbage[ROWS_SHOWN:])
        console.print(Text(f"and {len(garbage) - ROWS_SHOWN:,} more, {numbers.size(rest)}", style="dim"))
    total = numbers.size(sum(each.size for each in garbage))
    done = "deleted" if deleted else "would be deleted; without --dry-run they are"
    console.print(f"\n{_number(garbage)}, {total}, {done}; store {session.store.url}")


def _number(garbage: list[Garbage]) -> str:
    counts = {kind: sum(each.kind == kind for each in garbage) for kind in ("artifact", "work")}
    words = {"artifact": "artifacts", "work": "unfinished works"}
    return " and ".join(
        f"{number} {kind if number == 1 else words[kind]}" for kind, number in counts.items() if number
    )
