"""The command line: finds the verb, reads its arguments, and turns errors into words and exit codes."""

import argparse
import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from pipeline.errors import ConfigError, HeadraceError, close_match

VERBS = {
    "run": "run the recipe's DAG, or only what the named nodes need",
    "plan": "what would run, what is reused, and why; runs nothing",
    "graph": "the DAG as Mermaid text, or as a picture",
    "show": "an artifact, a run or the recipe: config, inputs, counters, metrics, lineage",
    "diff": "what differs between two artifacts or runs, field by field",
    "inspect": "decoded rows of a data artifact",
    "generate": "sample from a model",
    "tune": "hyperparameter search over overrides of any node",
    "submit": "run a verb as a job on a Ray cluster",
    "ui": "the MLflow UI on the store's runs",
    "gc": "delete what no recipe or recent run reaches",
}
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """argparse, with its errors in four parts."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(
            message,
            where="the command line",
            allowed=self.format_usage().strip().removeprefix("usage: "),
            do=f"see `{self.prog} --help`",
        )


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command, with `verb`, `nodes` and `overrides` among them.

    Raises:
        ConfigError: an unknown verb or option.
    """
    if not argv or argv[0] in ("-h", "--help", "help"):
        return argparse.Namespace(verb="help")
    if argv[0] == "--version":
        return argparse.Namespace(verb="version")
    verb, rest = argv[0], list(argv[1:])
    if verb not in VERBS:
        raise ConfigError(
            f'there is no verb "{verb}"',
            where="the command line",
            allowed=", ".join(VERBS),
            do=f"{close_match(verb, VERBS)}see `headrace --help`",
        )
    parser = verb_parser(verb)
    rest, command = _split_command(rest)
    arguments = parser.parse_intermixed_args(rest)
    arguments.verb, arguments.command = verb, command
    arguments.submitted = parse(command) if command else None
    words = getattr(arguments, "words", [])
    arguments.overrides = [word for word in words if _is_override(word)]
    arguments.nodes = [word for word in words if not _is_override(word)]
    return arguments


def verb_parser(verb: str) -> argparse.ArgumentParser:
    """The parser of one verb's arguments."""
    parser = _Parser(prog=f"headrace {verb}", description=VERBS[verb].capitalize() + ".", allow_abbrev=False)
    importlib.import_module(f"pipeline.verbs.{verb}").add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 done, 1 a stage failed, 2 config, 3 input data, 130 interrupted)."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(given)
    except KeyboardInterrupt:
        print("interrupted; the same command continues where this one stopped", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    except BrokenPipeError:
        with contextlib.suppress(OSError):  # the reader has gone, as with `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last place where an error can become words
        return _say(error, debug="--debug" in given)


def _dispatch(argv: list[str]) -> int:
    arguments = parse(argv)
    if arguments.verb == "help":
        sys.stdout.write(help_text())
        return 0
    if arguments.verb == "version":
        from pipeline.dag.facts import versions

        sys.stdout.write(f"headrace {versions()['headrace']}\n")
        return 0
    code: int = importlib.import_module(f"pipeline.verbs.{arguments.verb}").main(arguments)
    return code


def help_text() -> str:
    """What `headrace --help` prints."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {words}" for verb, words in VERBS.items())
    return (
        "headrace: raw text in; a trained, evaluated language model out.\n\n"
        "usage: headrace VERB [NODE …] [OVERRIDE …] [OPTION …]\n\n"
        f"{verbs}\n\n"
        "An OVERRIDE is KEY=VALUE in Hydra's grammar: recipe=gpt2_124m stages.base.learning_rate=3e-4.\n"
        "A NODE is one of the recipe's; `headrace plan` lists them. `headrace VERB --help` tells the options.\n"
        "Exit codes: 0 done; 1 a stage failed; 2 wrong configuration or command, nothing was started;\n"
        "3 wrong input data; 130 interrupted, and the same command resumes.\n"
    )


def _say(error: Exception, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    four_parts = all(
        isinstance(getattr(error, part, None), str) for part in ("what", "where", "allowed", "do")
    )
    if not four_parts:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        error = HeadraceError(
            f"{type(error).__name__}: {error}",
            where=f"{frame.filename}:{frame.lineno} in {frame.name}",
            do="this is a fault of Headrace or of its surroundings: --debug shows the traceback",
        )
    from pipeline.report import print_error

    print_error(error)
    return int(getattr(error, "exit_code", 1))


def _is_override(word: str) -> bool:
    """`key=value`, `+key=value` or `~key`; a path or URL may have an equals sign too."""
    key = word.partition("=")[0]
    return word.startswith("~") or (
        "=" in word and not key.startswith(("/", "./", "../")) and "://" not in key
    )


def _split_command(words: list[str]) -> tuple[list[str], list[str]]:
    """What stands before and after a lone `--`."""
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]
