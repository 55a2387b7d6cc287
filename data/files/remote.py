"""Files on another machine: URLs that `pyarrow.fs` knows, with the same globs as paths.

The part before the first wildcard is the root that names begin in. A `?` begins the URL's query, so it is no wildcard
here. Which version of a file was read is known by its size and modification time, not by its bytes: reading a whole
corpus over the network to plan a run would cost more than to read it again where it was copied.
"""

from collections.abc import Iterator

import pyarrow as pa
from pyarrow import fs

from data.errors import DataError
from data.files.globs import depth_of, glob_regex, has_wildcard, names_hidden
from data.files.source import Root, SourceFile, stamp_of


def find_remote(url: str) -> Iterator[SourceFile]:
    """The files that a URL, a folder's URL or a glob finds; names of hidden files only where the glob says so.

    Raises:
        DataError: the URL cannot be opened, or its place not be listed.
    """
    fixed, rest, query = _split(url)
    try:
        filesystem, path = fs.FileSystem.from_uri(fixed + query)
        found = filesystem.get_file_info(path)
        if found.type == fs.FileType.File and not rest:
            folder, _, name = path.rpartition("/")
            root = Root(folder, filesystem, f"{fixed.rpartition('/')[0]}{query}")
            yield SourceFile(name, root, found.size, stamp=stamp_of(found))
            return
        yield from _below(Root(path.rstrip("/"), filesystem, fixed + query), rest)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"the place cannot be opened: {error}",
            where=url,
            allowed="a URL that begins with s3://, gs://, hdfs:// or file://, and that this user may read",
            do="correct the URL; an S3 endpoint is given as s3://bucket/path?endpoint_override=HOST:PORT&scheme=http",
        ) from error


def _below(root: Root, rest: str) -> Iterator[SourceFile]:
    depth, matched = depth_of(rest) if rest else None, glob_regex(rest or "**")
    hidden = names_hidden(rest)
    selector = fs.FileSelector(root.path, recursive=depth != 1, allow_not_found=True)
    for info in root.filesystem.get_file_info(selector):
        name = info.path[len(root.path) + 1 :]
        is_hidden = name.startswith(".") or "/." in name
        if info.type == fs.FileType.File and (hidden or not is_hidden) and matched.match(name):
            yield SourceFile(name, root, info.size, stamp=stamp_of(info))


def _split(url: str) -> tuple[str, str, str]:
    """The URL up to the first component with a wildcard, the components from there on, and the query with its mark."""
    address, mark, query = url.partition("?")
    scheme, _, place = address.partition("://")
    parts = place.split("/")
    wild = next((k for k, part in enumerate(parts) if has_wildcard(part)), len(parts))
    return f"{scheme}://{'/'.join(parts[:wild])}", "/".join(parts[wild:]), mark + query
