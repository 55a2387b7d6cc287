"""The house holds by itself: sizes, names, import directions, what the wheel carries, and documented fields."""

import ast
import re
import statistics
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "model", "data", "conf")
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py")) + sorted((ROOT / "benchmarks").rglob("*.py"))

MAX_FILE_LINES = 300
BANNED_WORDS = {"util", "utils", "helper", "helpers", "common", "misc", "shared"}
BANNED_MODULES = {
    "data.py",
    "model.py",
    "pipeline.py",
    "conf.py",
}  # each would be taken for the package of that name


class Function:
    """A function's place and its length in lines, from `def` to its last line, docstring included."""

    def __init__(self, path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.name = node.name
        self.where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        self.num_lines = (node.end_lineno or node.lineno) - node.lineno + 1


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(path, node)


@pytest.fixture(scope="module")
def all_functions() -> list[Function]:
    return sorted((each for path in SOURCES for each in functions(path)), key=lambda each: each.num_lines)


def longest(all_functions: list[Function]) -> str:
    return "longest: " + ", ".join(f"{each.where} ({each.num_lines})" for each in all_functions[:-16:-1])


def test_the_median_function_is_at_most_ten_lines(all_functions):
    assert statistics.median(each.num_lines for each in all_functions) <= 10


def test_nine_functions_in_ten_are_at_most_forty_lines(all_functions):
    assert all_functions[int(0.9 * len(all_functions))].num_lines <= 40, longest(all_functions)


def test_functions_over_sixty_lines_are_under_three_percent(all_functions):
    long = [each for each in all_functions if each.num_lines > 60]
    assert len(long) < 0.03 * len(all_functions), longest(all_functions)


def test_the_loop_reads_on_one_screen():
    lengths = {each.name: each.num_lines for each in functions(ROOT / "pipeline/training/loop.py")}
    assert lengths["train"] <= 60
    assert lengths["train_step"] <= 30


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_at_most_three_hundred_lines(path):
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES


def test_no_module_is_named_for_nothing_or_for_a_package():
    """Also holds for folders: `pipeline/common/` says as little as `common.py`."""
    for path in [*SOURCES, *TESTS]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        words = {word for part in parts for word in part.split("_")}
        assert not words & BANNED_WORDS, path
        assert path.name not in BANNED_MODULES, path


def test_tests_are_no_package():
    """With one, `tests/data` would be importable as a second `data`."""
    assert [path for path in TESTS if path.name == "__init__.py"] == []


def imported(path: Path) -> set[str]:
    """The top-level names that a file imports."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {
        node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    return {name.split(".")[0] for name in names}


def test_every_library_that_we_import_is_a_dependency_of_ours():
    """And not only of another library, which may drop it."""
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    declared = {re.split(r"[\[<>=]", each)[0].lower() for each in requirements}
    libraries = set().union(*map(imported, SOURCES)) - set(sys.stdlib_module_names) - set(PACKAGES)
    owners = packages_distributions()
    undeclared = {
        name for name in libraries if not declared & {each.lower() for each in owners.get(name, [])}
    }
    assert undeclared == set()


def test_imports_run_one_way(capsys):
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


@pytest.fixture
def import_beside(tmp_path):
    """Import `pipeline` in a new process where another package of a given name comes first on the path."""

    def start(name: str, argv: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        path = [str(tmp_path), str(ROOT)]
        code = f"import sys; sys.path[:0] = {path}; sys.argv = [{argv!r}]; import pipeline"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    return start


@pytest.mark.parametrize("name", ["data", "model", "conf"])
def test_a_package_that_shadows_ours_is_named_at_once(import_beside, tmp_path, name):
    done = import_beside(name, "notebook.py")
    assert done.returncode == 1
    assert f"ImportError: another package named `{name}`" in done.stderr
    assert str(tmp_path / name) in done.stderr


def test_the_command_line_names_a_shadow_without_a_traceback(import_beside):
    done = import_beside("data", "bin/headrace")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines()[1:]] == ["where", "allowed", "do"]


def test_the_command_line_starts_without_the_heavy_libraries():
    """Each costs half a second to three; a verb imports what it uses."""
    heavy = {"torch", "ray", "deepspeed", "mlflow", "transformers", "pandas"}
    code = f"import pipeline.cli, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_wheel_has_our_four_packages_and_no_more(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    shipped = {str(path.relative_to(ROOT)) for name in PACKAGES for path in (ROOT / name).rglob("*.yaml")}
    assert shipped
    assert shipped <= set(names), "a recipe that the wheel lacks is not there for who installs it"
