"""`headrace inspect`: what is inside of an artifact, decoded: texts, tokens and masks, tensors, scores."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from pipeline.dag.references import check_part
from pipeline.dag.store import LOGS, Store
from pipeline.errors import ConfigError, close_match
from pipeline.looking.data_sheets import data_report_facts, print_data_report
from pipeline.looking.decoding import Decoder, decoder_of
from pipeline.looking.lineage import home_of
from pipeline.looking.lists import print_list, rows_of_list
from pipeline.looking.model_sheets import (
    TABLE_ROWS,
    model_facts,
    print_comparison,
    print_model,
    print_report,
    print_tokenizer,
    report_facts,
    tokenizer_facts,
)
from pipeline.looking.page import fields, print_json_line, recording_console, standard_console
from pipeline.looking.row_sheets import print_row
from pipeline.looking.rows import Query, Rows
from pipeline.looking.subject import ArtifactPart
from pipeline.looking.vector_sheets import (
    print_vectors,
    print_vectors_report,
    vectors_facts,
    vectors_report_facts,
)
from pipeline.stages import compare, data_report
from pipeline.verbs.session import finder, one_reference, open_session

DEFAULT_ROWS = 5
DEFAULT_CHARACTERS = 1000
DROPPED = f"{LOGS}dropped/"
PAGES = {"data_report": data_report.PAGE, "comparison": compare.PAGE}
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
        "--dropped", default="", metavar="REASON", help="documents dropped for it, or for all reasons: all"
    )
    parser.add_argument(
        "--characters",
        type=int,
        default=DEFAULT_CHARACTERS,
        metavar="N",
        help="of each text, at most; 0: all (default %(default)s)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON lines, whole and decoded")
    form.add_argument("--html", type=Path, metavar="FILE", help="write it as a page for the browser instead")


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
    reason = _reason(subject, arguments.dropped)
    query = Query(limit, arguments.offset, arguments.source, arguments.contains, reason)
    console = recording_console() if arguments.html else standard_console()
    if arguments.list:
        _list(subject, query, arguments, console)
    elif kind in ROW_KINDS:
        _rows(subject, query, store, arguments, console)
    else:
        if arguments.limit is None:
            query = replace(query, limit=TABLE_ROWS)
        _contents(subject, query, arguments, console)
    if arguments.html:
        own = None if arguments.list else _own_page(subject)
        _write_page(arguments.html, own or console.export_html().encode())
    return 0


def _own_page(subject: ArtifactPart) -> bytes | None:
    """The page that an artifact brings along."""
    page = PAGES.get(subject.artifact.manifest.kind)
    return subject.artifact.folder.read_bytes(page) if page else None


def _write_page(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(
            f"the page cannot be written: {error.strerror}",
            where=f"--html {path}",
            allowed="a file in a folder that this user may write to",
            do="choose another file",
        ) from error
    sys.stdout.write(f"{path}\n")


def _rows(
    subject: ArtifactPart, query: Query, store: Store, arguments: argparse.Namespace, console: Console
) -> None:
    rows = Rows(subject, kept=DROPPED if arguments.dropped else "")
    if rows.kind == "tokens" and rows.names:
        rows.decoder = decoder_of(subject.artifact, store, tokenizer_hash=rows.token_format().tokenizer_hash)
        _check_decodable(rows, query)
    if arguments.json:
        for row in rows.select(query):
            print_json_line(row)
        return
    console.print(_opening(rows))
    shown = 0
    for row in rows.select(query):
        print_row(row, characters=arguments.characters, decoder=rows.decoder, console=console)
        shown += 1
    if not shown:
        console.print("no row matches" if query.is_filter else "there are no rows here")


def _reason(subject: ArtifactPart, wanted: str) -> str:
    """The reason to look for, or nothing for any; ConfigError where no such document was kept."""
    manifest = subject.artifact.manifest
    reasons = sorted(
        name.removeprefix("dropped/") for name in manifest.counters if name.startswith("dropped/")
    )
    if not wanted:
        return ""
    if not any(file.name.startswith(DROPPED) for file in manifest.files):
        raise ConfigError(
            f"the documents that {manifest.node} dropped were not kept",
            where="--dropped",
            allowed="a node of stage clean with keep_dropped",
            do=f"headrace run {manifest.node} stages.{manifest.node}.keep_dropped=true",
        )
    if wanted not in {"all", *reasons}:
        raise ConfigError(
            f'nothing was dropped for the reason "{wanted}"',
            where="--dropped",
            allowed=", ".join(["all", *reasons]),
            do=f"{close_match(wanted, reasons)}name one of these",
        )
    return "" if wanted == "all" else wanted


def _list(subject: ArtifactPart, query: Query, arguments: argparse.Namespace, console: Console) -> None:
    rows = rows_of_list(subject.artifact, arguments.list, query)
    if not arguments.json:
        print_list(rows, characters=arguments.characters, console=console)
        return
    for row in rows:
        print_json_line(row)


def _opening(rows: Rows) -> Text:
    manifest = rows.artifact.manifest
    where = f"{manifest.node}/{rows.subject.part}" if rows.subject.part else manifest.node
    where += ", dropped" if rows.kept else ""
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


def _contents(subject: ArtifactPart, query: Query, arguments: argparse.Namespace, console: Console) -> None:
    """What is not rows."""
    artifact = subject.artifact
    kind = artifact.manifest.kind
    facts: dict[str, Any]
    if kind == "tokenizer":
        facts = tokenizer_facts(artifact, query)
    elif kind in ("checkpoint", "export"):
        facts = model_facts(artifact, query)
    elif kind == "report":
        facts = report_facts(artifact, query)
    elif kind == "data_report":
        facts = data_report_facts(artifact)
    elif kind == "comparison":
        facts = artifact.folder.read_json(compare.FACTS)
    elif kind == "vectors":
        facts = vectors_facts(artifact, query)
    elif kind == "vectors_report":
        facts = vectors_report_facts(artifact, query)
    elif kind == "vectors_export":
        facts = {each.name: each.size for each in artifact.manifest.files}
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
    elif kind == "data_report":
        print_data_report(facts, console)
    elif kind == "comparison":
        print_comparison(facts, console)
    elif kind == "vectors":
        print_vectors(facts, console)
    elif kind == "vectors_report":
        print_vectors_report(facts, console)
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
