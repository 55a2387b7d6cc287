"""Orchestration: the only package that imports ray, deepspeed, mlflow or hydra."""

import importlib.util
import sys
from pathlib import Path

_HOME = Path(__file__).resolve().parent.parent
_COMMAND_LINES = {
    "headrace",
    "headrace.exe",
    "-m",
}  # sys.argv[0] is "-m" while `python -m pipeline` looks for us


def _refuse_shadows() -> None:
    """Say so when another top-level `data`, `model` or `conf` comes before ours on Python's path."""
    for name in ("data", "model", "conf"):
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin) if spec and spec.origin else None
        if found is None or found.resolve().parent.parent != _HOME:
            words = (
                f"another package named `{name}` is found before Headrace's\n"
                f"where: {found or 'nowhere: a part of Headrace is missing'}\n"
                f"allowed: {_HOME / name}\n"
                "do: take its folder off PYTHONPATH, or start from another folder (`headrace` does not look in the"
                " current one, `python -m pipeline` does)"
            )
            if Path(sys.argv[0]).name in _COMMAND_LINES:
                sys.stderr.write(words + "\n")
                sys.exit(2)
            raise ImportError(words)


_refuse_shadows()
