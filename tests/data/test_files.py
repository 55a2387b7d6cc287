import os

import pytest

from data.errors import DataError
from data.files import STDLIB, glob_regex, list_files
from data.readers import read_file
from data.reading import ReadRules, Reason


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "corpus"
    names = [
        "b.txt",
        "a.txt",
        "sub/c.txt",
        "sub/deep/d.md",
        "sub/deep/e.txt",
        ".git/config",
        "sub/.hidden",
        "x[1].txt",
    ]
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def names(*patterns, exclude=()):
    return [file.name for file in list_files([str(pattern) for pattern in patterns], exclude=exclude)]


def test_a_folder_is_walked_whole_but_for_what_is_hidden(corpus):
    assert names(corpus) == ["a.txt", "b.txt", "sub/c.txt", "sub/deep/d.md", "sub/deep/e.txt", "x[1].txt"]


def test_a_file_is_named_by_its_last_component(corpus):
    assert names(corpus / "sub/deep/d.md") == ["d.md"]


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*.txt", ["a.txt", "b.txt", "x[1].txt"]),
        ("**/*.txt", ["a.txt", "b.txt", "sub/c.txt", "sub/deep/e.txt", "x[1].txt"]),
        ("s*/**", ["sub/c.txt", "sub/deep/d.md", "sub/deep/e.txt"]),
        ("[ab].txt", ["a.txt", "b.txt"]),
        ("[!a].txt", ["b.txt"]),
        ("?.txt", ["a.txt", "b.txt"]),
        ("*/*.txt", ["sub/c.txt"]),
        ("x[1].txt", ["x[1].txt"]),  # a file of that very name
        (".git/*", ["config"]),
        ("**/.hidden", ["sub/.hidden"]),
    ],
)
def test_globs(corpus, glob, expected):
    assert names(corpus / glob) == expected


def test_names_are_relative_to_the_folder_before_the_first_wildcard(corpus):
    assert names(corpus / "sub/**/*.txt") == ["c.txt", "deep/e.txt"]


def test_exclude_matches_names_and_without_a_slash_last_components(corpus):
    assert names(corpus, exclude=["*.txt"]) == ["sub/deep/d.md"]
    assert names(corpus, exclude=["sub/**", "a.txt"]) == ["b.txt", "x[1].txt"]


def test_a_file_found_twice_is_listed_once(corpus):
    (corpus / "link.txt").symlink_to(corpus / "a.txt")
    assert names(corpus / "*.txt", corpus / "a.txt", corpus) == names(corpus)
    assert len(names(corpus)) == 6


def test_symbolic_links_that_go_round_end(corpus):
    (corpus / "sub/deep/up").symlink_to(corpus)
    (corpus / "self").symlink_to(corpus / "self")
    assert names(corpus / "**/e.txt") == ["sub/deep/e.txt"]


def test_a_link_that_leads_nowhere_is_no_gap(corpus):
    """A file that was moved away, or a link to itself: it is listed, and whoever reads it says so by its name."""
    (corpus / "sub/gone.txt").symlink_to(corpus / "elsewhere.txt")
    (corpus / "self.txt").symlink_to(corpus / "self.txt")
    found = {file.name: file for file in list_files([str(corpus)])}
    assert len(found) == 8
    for name in ("sub/gone.txt", "self.txt"):
        (outcome,) = read_file(found[name], rules=ReadRules())
        assert (outcome.source, outcome.reason) == (name, Reason.UNOPENABLE)
    assert names(corpus, exclude=["gone.txt", "self.txt"]) == names(
        corpus / "**", exclude=["gone.txt", "self.txt"]
    )
    assert len(names(corpus, exclude=["gone.txt", "self.txt"])) == 6


def test_what_finds_nothing_is_an_error_that_names_the_pattern(corpus):
    for pattern in (corpus / "*.pdf", corpus / "missing", corpus / "missing/*.txt"):
        with pytest.raises(DataError, match="finds no file") as caught:
            names(corpus, pattern)
        assert caught.value.where == str(pattern)
    with pytest.raises(DataError, match="no file is left"):
        names(corpus, exclude=["*"])


def test_two_files_of_one_name_are_an_error_that_names_both(corpus, tmp_path):
    other = tmp_path / "other/a.txt"
    other.parent.mkdir()
    other.write_text("another")
    with pytest.raises(DataError, match=r"both be called 'a\.txt'") as caught:
        names(corpus, other.parent)
    assert str(other) in caught.value.where


def test_names_that_are_no_unicode_become_unicode(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"x")
    (name,) = names(tmp_path)
    assert name.encode() == b"caf\\xe9.txt"


def test_the_standard_library_is_sources_without_tests():
    files = list_files([STDLIB])
    found = {file.name for file in files}
    assert {"abc.py", "json/decoder.py", "asyncio/tasks.py"} <= found
    assert all(name.endswith(".py") for name in found)
    parts = {part for name in found for part in name.split("/")[:-1]}
    assert not parts & {"test", "tests", "idle_test", "site-packages", "__pycache__"}
    assert 5e6 < sum(file.num_bytes for file in files) < 40e6


def test_a_star_does_not_cross_folders():
    assert not glob_regex("*.py").match("a/b.py")
    assert glob_regex("**/*.py").match("b.py")
    assert not glob_regex("a?b").match("a/b")
    assert not glob_regex("a[!x]b").match("a/b")


@pytest.mark.parametrize(
    "name", ["a b.txt", "a\nb.txt", "näme.txt", "水.txt", "a'\"b.txt", "a#1?.txt", "-a.txt", "a\\b.txt"]
)
def test_names_of_any_kind_are_found_and_open(tmp_path, name):
    (tmp_path / name).write_text("content")
    for pattern in (tmp_path, tmp_path / "*.txt"):
        (file,) = list_files([str(pattern)])
        assert file.name == name
        assert file.open().read() == b"content"


def test_a_file_whose_name_is_no_unicode_opens(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"x")
    (file,) = list_files([str(tmp_path)])
    assert file.name == "sub/caf\\xe9.txt"
    assert file.open().read() == b"x"


def test_a_folder_linked_twice_is_walked_once(corpus):
    (corpus / "again").symlink_to(corpus / "sub")
    (corpus / "sub/round").symlink_to(corpus / "again")
    found = names(corpus)
    assert len(found) == 6
    assert "again/c.txt" in found  # the first of its names


def test_a_folder_that_cannot_be_listed_is_an_error_and_no_gap(corpus, monkeypatch):
    real = os.scandir

    def scandir(folder):
        if str(folder).rstrip("/").endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(DataError, match="cannot be listed: Permission denied") as caught:
        names(corpus)
    assert "sub/deep" in caught.value.where
