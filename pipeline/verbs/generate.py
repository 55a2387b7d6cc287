"""`headrace generate`: a model answers prompts; text as it is written on a terminal, or JSON lines."""

import argparse
import re
import sys
from dataclasses import asdict
from pathlib import Path

from model.generation.settings import Generation
from pipeline.errors import ConfigError
from pipeline.looking.page import print_json_line, visible
from pipeline.looking.speaker import Speaker, speaker_of_artifact, speaker_of_folder
from pipeline.verbs.session import Session, add_json_argument, finder, one_reference, open_session

STDIN = "-"
FLAGS = (
    ("max_new_tokens", "N", "length of an answer, at most (default %(default)s)"),
    ("temperature", "T", "0 (default): greedy"),
    ("top_k", "K", "sample among the K likeliest tokens (default 0: all)"),
    ("top_p", "P", "sample among the likeliest tokens that together have this probability (default %(default)s)"),
    ("min_p", "P", "sample among tokens P times as likely as the likeliest, or more (default %(default)s)"),
    ("repetition_penalty", "R", "above 1: what was there before becomes less likely (default %(default)s)"),
    ("num_beams", "K", "follow K answers and give the best (default 1: no beam search)"),
    ("length_penalty", "L", "of beam search: above 0 prefers longer answers (default %(default)s)"),
    ("seed", "S", "of sampling (default %(default)s)"),
)  # fmt: skip
"""Settings of `Generation`, and what stands for and what explains the value."""
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
        help="what to continue, or an encoder-decoder's source; may be given several times; `-` reads stdin",
    )
    default = Generation()
    for name, metavar, meaning in FLAGS:
        value = getattr(default, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(value), default=value, metavar=metavar, help=meaning
        )
    parser.add_argument(
        "--stop", action="append", metavar="TEXT", help="ends an answer before it; may be given several times"
    )
    add_json_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    chosen = {name: getattr(arguments, name) for name, _, _ in FLAGS}
    settings = Generation(**chosen, stop=tuple(arguments.stop or ()))
    _check(settings)
    prompts = [_prompt(text) for text in _given_prompts(arguments)]
    speaker = _speaker(arguments, open_session(arguments))
    encoded = [(prompt, speaker.prompt_ids(prompt)) for prompt in prompts]
    for number, (prompt, prompt_ids) in enumerate(encoded):
        if arguments.json:
            _print_json(speaker, prompt, prompt_ids, settings)
        else:
            sys.stdout.write("\n" if number else "")
            _print_streaming(speaker, prompt, prompt_ids, settings)
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


def _check(settings: Generation) -> None:
    """Refuse settings under the names of their flags."""
    for problem in settings.problems():
        what, do = _with_flags(problem.what), _with_flags(problem.do)
        raise ConfigError(what, where=_with_flags(problem.field), allowed=_with_flags(problem.allowed), do=do)


def _with_flags(text: str) -> str:
    names = "|".join(asdict(Generation()))
    return re.sub(rf"\b({names})\b", lambda name: f"--{name[0].replace('_', '-')}", text)


def _print_json(speaker: Speaker, prompt: str, prompt_ids: list[int], settings: Generation) -> None:
    answer = speaker.answer(prompt_ids, settings, lambda _: None)
    chosen = {name: getattr(settings, name) for name, _, _ in FLAGS} | {"stop": list(settings.stop)}
    print_json_line(
        {
            "prompt": prompt,
            "text": answer.text,
            "token_ids": answer.token_ids,
            "prompt_token_ids": prompt_ids,
            "finish_reason": answer.finish_reason,
            **chosen,
            "model": speaker.name,
            "fingerprint": speaker.fingerprint,
        }
    )


def _print_streaming(speaker: Speaker, prompt: str, prompt_ids: list[int], settings: Generation) -> None:
    out = sys.stdout
    is_terminal = out.isatty()

    def tell(text: str) -> None:
        out.write(visible(text) if is_terminal else text)
        out.flush()

    out.write(f"{DIM}{visible(prompt)}{PLAIN}" if is_terminal else prompt)
    out.write("" if speaker.start_id is None else "\n")  # a target does not continue its source
    out.flush()
    speaker.answer(prompt_ids, settings, tell)
    out.write("\n")
