"""Commands as a user gives them, run in this process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline.cli import main


@dataclass
class Said:
    """What a command left on the screen."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    def error(self, code: int = 2) -> str:
        """The four parts of the error, after a look that there are four and no traceback."""
        assert self.code == code, self.err or self.out
        assert self.out == ""
        assert "Traceback" not in self.err
        assert self.err.startswith("error: ")
        for part in ("\n  where:", "\n  allowed:", "\n  do:"):
            assert part in self.err, self.err
        return " ".join(self.err.split())


@pytest.fixture
def headrace(tmp_path, monkeypatch, capsys) -> Callable[..., Said]:
    """Run a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str) -> Said:
        capsys.readouterr()
        code = main(list(argv))
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run


@pytest.fixture
def look(headrace, tiny) -> Callable[..., Said]:
    """Run a command on the finished tiny store."""

    def run(verb: str, *argv: str) -> Said:
        return headrace(verb, *argv, *tiny.overrides)

    return run
