"""`headrace inspect`: what is inside of an artifact, decoded: texts, tokens and masks, tensors, scores."""

import argparse
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.text import Text

from pipeline.dag.references import check_part
from pipeline.dag.store import Store
from pipeline.errors import ConfigError
from pipeline.looking.decoding import Decoder, decoder_of
from pipeline.looking.lineage import home_of
from pipeline.looking.lists import print_list, rows_of_list
from pipeline.looking.model_sheets import (
    TABLE_ROWS,
    model_facts,
    print_model,
    print_report,
    print_tokenizer,
    report_facts,
    tokenizer_facts,
)
from pipeline.looking.page import fields, print_json_line, standard_console
from pipeline.looking.row_sheets import print_row
from pipeline.looking.rows import Query, Rows
from pipeline.looking.subject import ArtifactPart
from pipeline.verbs.session import finder, one_reference, open_session

DEFAULT_ROWS = 5
DEFAULT_CHARACTERS = 1000
ROW_KINDS = ("documents", "examples", "tokens")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="REF|OVERRIDE", help="an artifact, or a part: NODE/train")
    parser.add_argument("--limit", type=int, metavar="N", help=f"rows to show (default {DEFAULT_ROWS})")
    parser.add_argument("--offset", type=int, default=0, metavar="N", help="rows to pass over first")
    parser.add_argument("--part", default="", metavar="NAME", help="only this part, such as train")
    parser.add_argument(
        "--list", default="", metavar="NAME", help="a list beside the content: clusters of dedup, matches"
    )
    parser.add_argument("--source", default="", metavar="GLOB", help="only rows from such files")
    parser.add_argument("--contains", default="", metavar="TEXT", help="only rows that hold this text")
    parser.add_argument(
        "--characters",
        type=int,
        default=DEFAULT_CHARACTERS,
        metavar="N",
        help="of each text, at most; 0: all (default %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines, whole and decoded")


def main(arguments: argparse.Namespace) -> int:
    _check_numbers(arguments)
    session = open_session(arguments)
    subject = finder(session).find_artifact(one_reference(arguments, session))
    if arguments.part:
        check_part(subject.artifact, arguments.part, where="--part")
        subject = replace(subject, part=arguments.part)
    store = home_of(subject.artifact, session.store)
    kind = subject.artifact.manifest.kind
    limit = arguments.limit if arguments.limit is not None else DEFAULT_ROWS
    query = Query(limit, arguments.offset, arguments.source, arguments.contains)
    if arguments.list:
        _list(subject, query, arguments)
    elif kind in ROW_KINDS:
        _rows(subject, query, store, arguments)
    else:
        if arguments.limit is None:
            query = replace(query, limit=TABLE_ROWS)
        _contents(subject, query, arguments)
    return 0


def _rows(subject: ArtifactPart, query: Query, store: Store, arguments: argparse.Namespace) -> None:
    rows = Rows(subject)
    if rows.kind == "tokens" and rows.names:
        rows.decoder = decoder_of(subject.artifact, store, tokenizer_hash=rows.token_format().tokenizer_hash)
        _check_decodable(rows, query)
    if arguments.json:
        for row in rows.select(query):
            print_json_line(row)
        return
    console = standard_console()
    console.print(_opening(rows))
    shown = 0
    for row in rows.select(query):
        print_row(row, characters=arguments.characters, decoder=rows.decoder, console=console)
        shown += 1
    if not shown:
        console.print("no row matches" if query.is_filter else "there are no rows here")


def _list(subject: ArtifactPart, query: Query, arguments: argparse.Namespace) -> None:
    rows = rows_of_list(subject.artifact, arguments.list, query)
    if not arguments.json:
        print_list(rows, characters=arguments.characters, console=standard_console())
        return
    for row in rows:
        print_json_line(row)


def _opening(rows: Rows) -> Text:
    manifest = rows.artifact.manifest
    where = f"{manifest.node}/{rows.subject.part}" if rows.subject.part else manifest.node
    text = Text(where, style="bold").append(
        f"  {manifest.kind}, {len(rows.names):,} shards", style="not bold"
    )
    if rows.kind == "tokens" and rows.names:
        text.append(f"\n{_of_tokens(rows, rows.decoder)}", style="not bold dim")
    return text.append("\n")


def _of_tokens(rows: Rows, decoder: Decoder | None) -> str:
    form = rows.token_format()
    made = f"of {decoder.name}" if decoder else "no longer in the store, so that only ids can be shown"
    learned = "⟦targets⟧ are learned" if form.has_loss_mask else "every token is a target"
    return f"tokenizer {form.tokenizer_hash[:12]} with {form.vocab_size:,} ids, {made}; {learned}"


def _contents(subject: ArtifactPart, query: Query, arguments: argparse.Namespace) -> None:
    """What is not rows."""
    artifact, console = subject.artifact, standard_console()
    kind = artifact.manifest.kind
    facts: dict[str, Any]
    if kind == "tokenizer":
        facts = tokenizer_facts(artifact, query)
    elif kind in ("checkpoint", "export"):
        facts = model_facts(artifact, query)
    elif kind == "report":
        facts = report_facts(artifact, query)
    else:
        facts = artifact.folder.read_json("registration.json")
    if arguments.json:
        print_json_line(facts)
        return
    console.print(Text(artifact.manifest.node, style="bold").append(f"  {kind}", style="not bold"))
    _print_contents(kind, facts, query, arguments.characters, console)


def _print_contents(
    kind: str, facts: dict[str, Any], query: Query, characters: int, console: Console
) -> None:
    if kind == "tokenizer":
        print_tokenizer(facts, query, console)
    elif kind in ("checkpoint", "export"):
        print_model(facts, console)
    elif kind == "report":
        print_report(facts, characters=characters, console=console)
    else:
        console.print(fields(facts))


def _check_numbers(arguments: argparse.Namespace) -> None:
    for name in ("limit", "offset", "characters"):
        value = getattr(arguments, name)
        if value is not None and value < 0:
            raise ConfigError(
                f"--{name} is {value}", where=f"--{name}", allowed="0 or more", do="give a larger number"
            )


def _check_decodable(rows: Rows, query: Query) -> None:
    if query.contains and rows.decoder is None:
        raise ConfigError(
            "the tokens cannot be searched for a text: their tokenizer is not in the store",
            where="--contains",
            allowed="tokens whose tokenizer is at hand",
            do="leave --contains out, or search the documents they were made from",
        )
