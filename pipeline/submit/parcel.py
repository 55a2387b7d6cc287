"""What a job takes along: our packages, the recipes of the folder the command was given in, and how to start."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import conf
import data
import model
import pipeline
from pipeline.errors import ConfigError

PACKAGES = (pipeline, model, data, conf)
SUFFIXES = (".py", ".yaml", ".yml", ".md", ".json", ".typed")
FOLDER = "job"
"The job's current folder. Our packages lie beside it, so that a `conf` of the user's does not hide ours."
START = "start.sh"
START_SCRIPT = """\
# Starts Headrace with the Python that Ray itself runs on, which need not be on PATH.
process=$$
found=
while [ -z "$found" ] && [ "$process" -gt 1 ] && [ -r "/proc/$process/status" ]; do
  found=$(tr '\\0' '\\n' < "/proc/$process/cmdline" | sed -n 's/^--python_worker_command=\\([^ ]*\\) .*/\\1/p')
  process=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$process/status")
done
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
cd job || exit 2
for python in "$found" python python3; do
  if [ -n "$python" ] && "$python" -c 'import importlib.util as i, sys; sys.exit(not i.find_spec("ray"))' 2>/dev/null
  then exec "$python" -m pipeline "$@"; fi
done
echo "error: no Python with Ray was found on the cluster's head node" >&2
exit 2
"""


@dataclass(frozen=True)
class Parcel:
    """A zip file, the same bytes for the same files, so that a cluster that has it is not sent it again."""

    content: bytes
    command: list[str]
    "The verb and its words, as they are right inside."


def pack(command: Sequence[str], *, folder: Path) -> Parcel:
    """The parcel of a command given in `folder`: a recipe named by its file goes along, and `conf/` with all its YAML.

    Raises:
        ConfigError: the recipe's file cannot be read.
    """
    files = dict(_packages())
    files |= {f"{FOLDER}/conf/{name}": content for name, content in _own_conf(folder)}
    words = []
    for word in command:
        if word.startswith("recipe=") and word.endswith((".yaml", ".yml")):
            path = folder / Path(word.partition("=")[2]).expanduser()
            files[f"{FOLDER}/{path.name}"] = _read(path, word)
            words.append(f"recipe={path.name}")
        else:
            words.append(word)
    files.setdefault(f"{FOLDER}/.keep", b"")
    files[START] = START_SCRIPT.encode()
    return Parcel(_zipped(files), words)


def check_size(parcel: Parcel, *, limit: int, folder: Path) -> None:
    """Refuse what Ray would not take.

    Args:
        parcel: what is to be sent.
        limit: bytes that Ray takes.
        folder: where the command was given.

    Raises:
        ConfigError: it is too large.
    """
    if len(parcel.content) >= limit:
        raise ConfigError(
            f"what the job takes along has {len(parcel.content) / 2**20:.1f} MiB",
            where=f"Headrace's packages and the YAML files in {folder / 'conf'}",
            allowed=f"less than {limit / 2**20:g} MiB, which is what Ray takes",
            do="move what is no configuration out of conf/; data belongs where the recipe's paths point",
        )


def _packages() -> Iterator[tuple[str, bytes]]:
    for package in PACKAGES:
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.suffix in SUFFIXES and "__pycache__" not in path.parts:
                yield f"{root.name}/{path.relative_to(root).as_posix()}", path.read_bytes()


def _own_conf(folder: Path) -> Iterator[tuple[str, bytes]]:
    root = folder / "conf"
    if not root.is_dir() or root.samefile(Path(str(conf.__file__)).parent):
        return
    for path in sorted(root.rglob("*")):
        if path.suffix in (".yaml", ".yml") and path.is_file():
            yield path.relative_to(root).as_posix(), path.read_bytes()


def _read(path: Path, word: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the recipe cannot be read: {error.strerror}",
            where=word,
            allowed="a YAML file of this machine; it goes along with the job",
            do="correct the path",
        ) from error


def _zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])
    return buffer.getvalue()
