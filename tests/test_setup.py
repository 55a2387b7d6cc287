"""Set-up: the pins are pins and fit the ranges; `make` installs once, and says in words what it lacks."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PINS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REQUIRED = [
    *PROJECT["project"]["dependencies"],
    *PROJECT["project"]["optional-dependencies"]["dev"],
    *PROJECT["build-system"]["requires"],
]


@pytest.mark.parametrize("line", PINS)
def test_a_pin_is_one_public_version(line):
    """Not a URL, a path or a local build such as +cpu, which another machine may not have."""
    assert re.fullmatch(r"[\w.-]+==[\w.]+", line)


@pytest.mark.parametrize("text", REQUIRED)
def test_what_we_require_is_pinned_within_its_range(text):
    requirement = Requirement(text)
    pins = {
        name.lower().replace("_", "-"): version
        for name, _, version in (line.partition("==") for line in PINS)
    }
    assert requirement.specifier.contains(pins[requirement.name.lower()])


@pytest.fixture
def clone(tmp_path):
    """A clone, in a path with a space, whose environment looks installed."""
    folder = tmp_path / "my clone"
    (folder / ".venv/bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, folder)
    (folder / ".venv/bin/python").symlink_to(sys.executable)
    for name in (".place", ".run", ".dev"):
        (folder / ".venv" / name).write_text(str(folder))
    return folder


def make(folder: Path, *words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *words],
        cwd=folder,
        env=environment | {"PATH": path or os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("target", ["run", "test", "lint"])
def test_a_second_make_installs_nothing(clone, target):
    done = make(clone, "-n", target)
    assert done.returncode == 0
    assert "pip install" not in done.stdout


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_change_of_the_pins_installs_again(clone, name):
    later = (clone / ".venv/.run").stat().st_mtime + 10
    os.utime(clone / name, (later, later))
    assert "pip install" in make(clone, "-n", "run").stdout


def test_a_moved_clone_gets_a_new_environment(clone):
    moved = clone.rename(clone.with_name("elsewhere"))
    assert "venv .venv" in make(moved, "-n", "run").stdout


def test_without_a_python_that_is_new_enough_make_says_so_in_words(tmp_path, clone):
    shutil.rmtree(clone / ".venv")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name in ("bash", "make"):
        (bin_folder / name).symlink_to(shutil.which(name))
    old = bin_folder / "python3"
    old.write_text("#!/bin/bash\nexit 1\n")
    old.chmod(0o755)
    done = make(clone, "run", path=str(bin_folder))
    assert done.returncode == 2
    assert "no Python 3.11 or newer" in done.stderr
    assert "do: install one" in done.stderr
