"""`headrace generate`: a model continues texts; as they are written on a terminal, or as JSON lines."""

import argparse
import sys
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.looking.page import print_json_line, visible
from pipeline.looking.speaker import Sampling, Speaker, speaker_of_artifact, speaker_of_folder
from pipeline.verbs.session import Session, add_json_argument, finder, one_reference, open_session

STDIN = "-"
DIM, PLAIN = "\x1b[2m", "\x1b[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="REF|OVERRIDE",
        help="a checkpoint, an export or a Hugging Face folder (default: the recipe's last node that trains)",
    )
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="what to continue; may be given several times; `-` reads stdin",
    )
    default = Sampling()
    parser.add_argument("--max-new-tokens", type=int, default=default.max_new_tokens, metavar="N")
    parser.add_argument(
        "--temperature", type=float, default=default.temperature, metavar="T", help="0 (default): greedy"
    )
    parser.add_argument(
        "--top-p",
        type=float,
        default=default.top_p,
        metavar="P",
        help="sample among the likeliest tokens that together have this probability (default %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=default.seed, metavar="S", help="of sampling")
    add_json_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    sampling = Sampling(arguments.max_new_tokens, arguments.temperature, arguments.top_p, arguments.seed)
    _check(sampling)
    prompts = [_prompt(text) for text in _given_prompts(arguments)]
    speaker = _speaker(arguments, open_session(arguments))
    encoded = [(prompt, speaker.prompt_ids(prompt)) for prompt in prompts]
    for number, (prompt, prompt_ids) in enumerate(encoded):
        if arguments.json:
            _print_json(speaker, prompt, prompt_ids, sampling)
        else:
            sys.stdout.write("\n" if number else "")
            _print_streaming(speaker, prompt, prompt_ids, sampling)
    return 0


def _speaker(arguments: argparse.Namespace, session: Session) -> Speaker:
    if not arguments.nodes:
        node = _last_model(session)
        artifact = session.resolve(node)
        key = artifact.manifest.key[:12]
        sys.stderr.write(
            f"model: {node} ({artifact.manifest.stage}/{key}), the last that {session.recipe} trains\n"
        )
        return speaker_of_artifact(artifact)
    reference = one_reference(arguments, session)
    if reference not in session.graph.stages and _is_model_path(Path(reference).expanduser()):
        return speaker_of_folder(Path(reference).expanduser())
    return speaker_of_artifact(finder(session).find_artifact(reference).artifact)


def _is_model_path(path: Path) -> bool:
    """Something on this machine that is no artifact."""
    return path.exists() and not (path / "manifest.json").exists() and path.name != "manifest.json"


def _last_model(session: Session) -> str:
    stages = session.graph.stages
    trained = [node for node in session.graph.order if stages[node].produces == "checkpoint"]
    if trained:
        return trained[-1]
    raise ConfigError(
        f"the recipe {session.recipe} trains no model",
        where="the command line",
        allowed="a checkpoint, an export, or a Hugging Face folder",
        do="name one: headrace generate REF --prompt TEXT",
    )


def _given_prompts(arguments: argparse.Namespace) -> list[str]:
    if arguments.prompt:
        return list(arguments.prompt)
    raise ConfigError(
        "there is nothing to continue",
        where="--prompt",
        allowed="a text, or - for what comes on stdin",
        do='headrace generate REF --prompt "def add(a, b):"',
    )


def _prompt(text: str) -> str:
    """What is meant by a `--prompt`; the line break that ends a piped text is not part of it."""
    return sys.stdin.read().removesuffix("\n") if text == STDIN else text


def _check(sampling: Sampling) -> None:
    ranges = [
        ("--max-new-tokens", sampling.max_new_tokens, sampling.max_new_tokens >= 1, "1 or more"),
        (
            "--temperature",
            sampling.temperature,
            0 <= sampling.temperature < float("inf"),
            "0 or more; 0 is greedy",
        ),
        ("--top-p", sampling.top_p, 0 < sampling.top_p <= 1, "above 0 and at most 1"),
        ("--seed", sampling.seed, 0 <= sampling.seed < 1 << 63, "0 or more, below 2^63"),
    ]
    for name, value, holds, allowed in ranges:
        if not holds:
            raise ConfigError(
                f"{name} is {value}", where=name, allowed=allowed, do=f"set {name} within this range"
            )


def _print_json(speaker: Speaker, prompt: str, prompt_ids: list[int], sampling: Sampling) -> None:
    ids = speaker.answer(prompt_ids, sampling, lambda _: None)
    print_json_line(
        {
            "prompt": prompt,
            "text": speaker.text(ids),
            "token_ids": ids,
            "prompt_token_ids": prompt_ids,
            "finish_reason": "stop" if ids and ids[-1] in speaker.eos_ids else "length",
            "seed": sampling.seed,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "model": speaker.name,
            "fingerprint": speaker.fingerprint,
        }
    )


def _print_streaming(speaker: Speaker, prompt: str, prompt_ids: list[int], sampling: Sampling) -> None:
    out = sys.stdout
    is_terminal = out.isatty()

    def tell(text: str) -> None:
        out.write(visible(text) if is_terminal else text)
        out.flush()

    out.write(f"{DIM}{visible(prompt)}{PLAIN}" if is_terminal else prompt)
    out.flush()
    speaker.answer(prompt_ids, sampling, tell)
    out.write("\n")
