"""A glob that finds ten million files: what the list of them takes."""

import subprocess
import sys
import textwrap

import pytest

LISTING = """
    import os, resource
    from types import SimpleNamespace
    from data.files import list_files
    from data.readers.parts import grouped, pieces_of, spans_of
    from data.reading import ReadRules

    FOLDERS, FILES, STAT = {folders}, {files}, SimpleNamespace(st_size=700)

    class Entry:
        def __init__(self, folder, name):
            self.name, self.path = name, f"{{folder}}/{{name}}"
        def is_dir(self):
            return self.name.startswith("folder")
        def is_file(self):
            return not self.is_dir()
        def is_symlink(self):
            return False
        def stat(self):
            return STAT

    class Listing:
        def __init__(self, entries):
            self.entries = entries
        def __enter__(self):
            return self.entries
        def __exit__(self, *error):
            pass

    def scandir(folder):
        folder = folder.rstrip("/")
        if folder == root:
            return Listing(Entry(folder, f"folder-{{n}}") for n in range(FOLDERS))
        return Listing(Entry(folder, f"file {{n}}\\n.txt") for n in range(FILES))

    root, os.scandir = {root!r}, scandir
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files = list_files([root + "/**/*.txt"])
    spans = spans_of(files, rules=ReadRules(), part_bytes=4 << 20)
    shards = grouped(pieces_of(files, spans, []), 4 << 20)
    assert not spans and sum(map(len, shards)) == len(files) == len({{file.name for file in files}})
    print(len(files), max(map(len, shards)), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) * 1024)
"""


@pytest.mark.parametrize("folders", [100, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_thousand_files_in_each_of_many_folders_take_little_memory(folders, tmp_path):
    """Names with spaces and line ends; the disk has only the root, and `os.scandir` is what it would be."""
    code = textwrap.dedent(LISTING.format(folders=folders, files=1000, root=str(tmp_path)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    num_files, most_in_a_shard, num_bytes = map(int, done.stdout.split())
    assert num_files == folders * 1000
    assert most_in_a_shard == (4 << 20) // 700
    assert num_bytes < 450 * num_files  # and that of the check that names are unique
