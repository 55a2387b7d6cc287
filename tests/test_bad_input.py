"""Bad input of every kind, as a user meets it: four parts, the right exit code, nothing lost."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEADRACE = Path(sys.executable).with_name("headrace")
pytestmark = pytest.mark.slow

RECIPE = """
defaults:
{defaults}
  - _self_
stages:
{stages}
"""


def headrace(*words, cwd):
    environment = os.environ | {"HEADRACE_CACHE": str(cwd / "cache"), "COLUMNS": "200"}
    return subprocess.run(
        [HEADRACE, *map(str, words)],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """One folder per way to be bad, and a good one."""
    root = tmp_path_factory.mktemp("corpora")
    good = "".join(json.dumps({"text": f"row {n} is fine"}) + "\n" for n in range(50)).encode()
    contents = {
        "good": ("a.txt", b"A text that is fine."),
        "gz": ("a.jsonl.gz", gzip.compress(good * 40)[:-20]),
        "utf8": ("a.txt", b"caf\xe9"),
        "json": ("a.jsonl", b'{"text": "fine"}\n{"text": \n'),
        "field": ("a.jsonl", b'{"txet": "misspelt"}\n'),
        "type": ("a.jsonl", b'{"text": 7}\n'),
        "empty": ("a.txt", b""),
        "parquet": ("a.parquet", b"PAR1 but no more"),
        "bomb": ("a.txt.gz", gzip.compress(b" " * 30_000_000)),
    }
    for name, (file, content) in contents.items():
        (root / name).mkdir()
        (root / name / file).write_bytes(content)
    return root


@pytest.fixture(scope="module")
def outcome(corpora, tmp_path_factory):
    """One run over all corpora at once: each node fails by itself, and the good one is kept."""
    folder = tmp_path_factory.mktemp("run")
    names = sorted(path.name for path in corpora.iterdir())
    defaults = "\n".join(f"  - /stage/ingest@stages.{name}" for name in names)
    stages = "\n".join(f'  {name}: {{paths: ["{corpora / name}"]}}' for name in names)
    (folder / "bad.yaml").write_text(RECIPE.format(defaults=defaults, stages=stages))
    return folder, headrace("run", "recipe=bad.yaml", cwd=folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gz", ["corrupt_gzip", "a.jsonl.gz, row"]),
        ("utf8", ["invalid_utf8", "a.txt, row 0", "0xe9"]),
        ("json", ["bad_json", "a.jsonl, row 1"]),
        ("field", ["missing_field", "txet"]),
        ("type", ["wrong_type", "int"]),
        ("empty", ["the corpus is empty"]),
        ("parquet", ["corrupt_parquet", "a.parquet"]),
        ("bomb", ["inflates", "more than 1000 times", "rules.max_inflation", "a.txt.gz"]),
    ],
)
def test_bad_files_fail_their_node_with_file_row_and_the_parsers_words(outcome, name, words):
    _, done = outcome
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 3
    assert f"node {name}" in text
    for word in words:
        assert word in text
    assert f"stages.{name}." in text or "check the paths" in text
    assert "Traceback" not in text


def test_what_was_good_beside_the_bad_is_kept(outcome):
    folder, _ = outcome
    done = headrace("plan", "good", "recipe=bad.yaml", "--json", cwd=folder)
    (node,) = json.loads(done.stdout)["nodes"]
    assert node["status"] == "reuse"


def test_a_tolerated_fraction_lets_the_rest_through_and_counts_what_was_left_out(outcome):
    folder, _ = outcome
    done = headrace(
        "run", "json", "recipe=bad.yaml", "stages.json.max_unreadable_fraction=0.5", "--json", cwd=folder
    )
    counters = json.loads(done.stdout)["nodes"]["json"]["counters"]
    assert counters["rows"] == 2
    assert counters["documents"] == 1
    assert counters["unreadable/bad_json"] == 1


def test_a_missing_file_is_found_before_anything_starts(corpora, tmp_path):
    (tmp_path / "r.yaml").write_text(
        RECIPE.format(defaults="  - /stage/ingest@stages.a", stages="  a: {paths: [nowhere/*.txt]}")
    )
    done = headrace("run", "recipe=r.yaml", cwd=tmp_path)
    assert done.returncode == 3
    assert "nowhere/*.txt" in done.stderr
    assert not (tmp_path / ".headrace" / "logs").exists()


def test_a_store_that_cannot_be_written_is_refused_before_anything_starts(corpora, tmp_path):
    (tmp_path / "r.yaml").write_text(
        RECIPE.format(defaults="  - /stage/ingest@stages.a", stages=f'  a: {{paths: ["{corpora / "good"}"]}}')
    )
    (tmp_path / "taken").write_text("a file")
    done = headrace("run", "recipe=r.yaml", "store=taken/store", cwd=tmp_path)
    assert done.returncode == 2
    assert "the store cannot be written" in done.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_said_and_the_same_command_continues_once_there_is_room(small_disk, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for n in range(8):
        (corpus / f"{n}.txt").write_text(f"{n} " * 100_000)
    (tmp_path / "r.yaml").write_text(
        RECIPE.format(
            defaults="  - /stage/ingest@stages.a",
            stages=f'  a: {{paths: ["{corpus}"], shard_bytes: 200000}}\ntracking: {{uri: "sqlite:///{tmp_path}/m.db"}}',
        )
    )
    words = ("run", "recipe=r.yaml", f"store={small_disk}/store", "--json")
    full = headrace(*words, cwd=tmp_path)
    assert full.returncode == 1
    assert "the disk is full" in full.stderr
    kept = len(list(small_disk.glob("store/work/ingest/*/done/*/*.json")))
    assert kept >= 1
    subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
    done = headrace(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["nodes"]["a"]["counters"]["documents"] == 8
