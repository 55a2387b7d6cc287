"""Rows on the terminal: where each came from, its text, and what of it is learned."""

from typing import Any

from rich.console import Console
from rich.text import Text

from pipeline.looking.decoding import Decoder
from pipeline.looking.page import named, shortened, visible

TARGET_STYLE = "bold green"
IDS_SHOWN = 24


def print_row(row: dict[str, Any], *, characters: int, decoder: Decoder | None, console: Console) -> None:
    """One row; `characters` of each text at most, 0 for all."""
    console.print(_title(row))
    if "input_ids" in row:
        _print_tokens(row, characters, decoder, console)
    elif "prompt" in row:
        console.print(_block("prompt", row["prompt"], characters))
        console.print(_block("response", row["response"], characters, style=f"not dim {TARGET_STYLE}"))
    else:
        console.print(Text(visible(shortened(row["text"], characters)), overflow="fold"))
    if row.get("metadata"):
        console.print(Text(f"metadata  {visible(shortened(row['metadata'], characters))}", style="dim"))
    console.print()


def _title(row: dict[str, Any]) -> Text:
    place = f"{row['part']} {row['number']}".strip()
    text = Text(f"── {place} ", style="bold").append(f" {visible(row['id'])}", style="not bold cyan")
    if row["source"] != row["id"]:
        text.append(f"  from {visible(row['source'])}", style="not bold dim")
    if row.get("row"):
        text.append(f", row {row['row']}", style="not bold dim")
    return text.append(f"  {_measure(row)}", style="not bold dim")


def _measure(row: dict[str, Any]) -> str:
    if "input_ids" not in row:
        sizes = {name: f"{len(row[name]):,}" for name in ("text", "prompt", "response") if name in row}
        return f"{' + '.join(sizes.values())} characters"
    targets = f", {sum(row['loss_mask']):,} of them targets" if "loss_mask" in row else ""
    return f"{len(row['input_ids']):,} tokens{targets}"


def _block(name: str, text: str, characters: int, *, style: str = "") -> Text:
    block = Text(f"{name}\n", style="dim", overflow="fold")
    return block.append(visible(shortened(text, characters)), style=style or "not dim")


def _print_tokens(row: dict[str, Any], characters: int, decoder: Decoder | None, console: Console) -> None:
    if "text" in row:
        console.print(_segments(row, characters, is_terminal=console.is_terminal))
    ids = row["input_ids"]
    console.print(Text(f"ids     {named(map(str, ids), most=IDS_SHOWN)}", style="dim", overflow="fold"))
    if decoder:
        pieces = "|".join(decoder.pieces(ids[:IDS_SHOWN])).replace("\n", "␊")
        more = "|…" if len(ids) > IDS_SHOWN else ""
        console.print(Text(f"pieces  {visible(pieces)}{more}", style="dim", overflow="fold"))


def _segments(row: dict[str, Any], characters: int, *, is_terminal: bool) -> Text:
    """The text; what is learned of an example is coloured on a terminal, and in ⟦brackets⟧ everywhere."""
    segments: list[dict[str, Any]] = row.get("segments") or [{"target": False, "text": row["text"]}]
    text = Text(overflow="fold")
    for segment in segments:
        words = visible(shortened(segment["text"], characters))
        if segment["target"]:
            text.append(f"⟦{words}⟧", style=TARGET_STYLE if is_terminal else "")
        else:
            text.append(words)
    return text
