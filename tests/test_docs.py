"""What the README and the tutorials say is so: links lead somewhere, commands parse, recipes compose, and all runs."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from pipeline.cli import VERBS, parse
from pipeline.config import compose_recipe
from pipeline.dag.graph import Graph

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ALL_PAGES = sorted(page for page in ROOT.glob("*.md")) + sorted(ROOT.glob("*/*.md"))
BLOCK = re.compile(r"^```(?P<language>\w+) *(?P<file>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

NOT_RUN = {  # how a command begins: why no test here runs it
    "make": "installs a whole environment; what it runs is run here and by the suite itself",
    "source .venv/bin/activate": "the tests have that folder on PATH",
    "ray": "needs machines to log in to; tests/test_cluster.py checks cluster.yaml",
    "headrace submit": "needs a cluster; tests/pipeline/test_submit.py sends jobs to one that it starts",
}
STANDS_FOR = {"make run": "headrace run"}
"What a target does once its environment is there."
COMMAND_SECONDS = 1200
"The longest a documented command may take here: the comparison of families promises it, the quickstart 180."


@dataclass(frozen=True)
class Step:
    """A command to type, or a file to write."""

    page: Path
    line: int
    command: str = ""
    file: str = ""
    text: str = ""

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line} {self.command or self.file}"


def steps(page: Path) -> Iterator[Step]:
    """Commands of ```console blocks, and files of blocks that name one (```yaml conf/recipe/mine.yaml), in order."""
    words = page.read_text()
    for block in BLOCK.finditer(words):
        line = words.count("\n", 0, block.start()) + 1
        if block["language"] == "console":
            joined = block["text"].replace("\\\n", " ")
            for typed in re.findall(r"^\$ (.*)$", joined, re.MULTILINE):
                yield Step(page, line, command=STANDS_FOR.get(typed, typed))
        elif block["file"]:
            yield Step(page, line, file=block["file"], text=block["text"])


STEPS = [step for page in PAGES for step in steps(page)]
RECIPES = [step for step in STEPS if step.file.startswith("conf/recipe/")]
HEADRACE = [step for step in STEPS if re.search(r"\bheadrace \w", step.command)]


def words_of(command: str) -> list[str]:
    """The arguments of `headrace` in a command that may begin with another one and end with a shell's operator."""
    words = shlex.split(command)
    begin = words.index("headrace") + 1
    ends = [
        index
        for index, word in enumerate(words)
        if index > begin and word in {"||", "&&", "|", ">", "&", ";"}
    ]
    return words[begin : min(ends, default=len(words))]


@pytest.mark.parametrize("step", HEADRACE, ids=str)
def test_a_documented_command_parses(step):
    assert parse(words_of(step.command)).verb


@pytest.mark.parametrize("step", RECIPES, ids=str)
def test_a_documented_recipe_composes_into_a_graph(step, tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(step.text)
    monkeypatch.chdir(tmp_path)
    graph = Graph(
        compose_recipe(["recipe=mine.yaml"]).config.stages
    )  # refuses what is out of range or unconnected
    assert graph.order


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [page for page in PAGES if PYTHON.search(page.read_text())], ids=str)
def test_what_a_page_computes_is_so(page):
    """Its blocks of Python, one after the other, in one namespace; they assert what they show."""
    blocks = PYTHON.findall(page.read_text())
    assert any("assert" in block for block in blocks)
    with torch.random.fork_rng():
        exec(compile("\n".join(blocks), page.name, "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_readme_leads_to_every_page(page):
    assert page.name == "README.md" or f"](docs/{page.name})" in PAGES[0].read_text()


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_documented_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:`|^\$ )make ([a-z]+)", page.read_text(), re.MULTILINE)
    assert set(named) <= targets


def test_the_readme_names_every_verb():
    documented = re.findall(r"^\| `headrace (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert set(documented) == set(VERBS)


def test_the_picture_in_the_readme_is_the_quickstart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graph = Graph(compose_recipe().config.stages)
    (picture,) = re.findall(
        r"^```mermaid\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    drawn = set()
    for line in picture.splitlines()[1:]:  # the first says which way it runs
        nodes = [re.match(r"\w+", part.strip())[0] for part in re.split(r"-->(?:\|[^|]*\|)?", line)]
        drawn |= set(pairwise(nodes))
    assert drawn == {(parent, node) for node in graph.order for parent in graph.parents(node)}


def environment(folder: Path) -> dict[str, str]:
    """An activated environment in `folder`, with no terminal."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "HOME": str(folder), "TERM": "dumb"}


def run(step: Step, folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", step.command],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, f"{step}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def look_at(step: Step, folder: Path) -> None:
    """Start a server, ask for its first page on loopback, and stop it."""
    log = folder / "server.log"
    with log.open("w") as sink:
        server = subprocess.Popen(
            shlex.split(step.command),
            cwd=folder,
            env=environment(folder),
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        assert "<html" in _first_page(server, log).lower()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def _first_page(server: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        for url in re.findall(r"http://(?:127\.0\.0\.1|localhost):\d+\S*", log.read_text()):
            try:
                with urllib.request.urlopen(url, timeout=5) as page:
                    return page.read().decode()
            except OSError:
                pass
        time.sleep(0.5)
    pytest.fail(f"no answer in two minutes: {log.read_text()}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[] if page.name == "README.md" else pytest.mark.soak) for page in PAGES],
    ids=lambda page: page.name,
)
def test_a_page_runs_from_top_to_bottom(page, tmp_path):
    """In an empty folder, as a reader would: each file is written, each command is typed, in order."""
    for step in steps(page):
        if step.file:
            (tmp_path / step.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / step.file).write_text(step.text)
        elif step.command.startswith("headrace ui"):
            look_at(step, tmp_path)
        elif not any(re.match(rf"{re.escape(begin)}\b", step.command) for begin in NOT_RUN):
            run(step, tmp_path)
