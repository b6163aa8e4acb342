"""What an archive holds for the interpreter that runs it: lists of files, and the streams that they are packed in.

Reads the archive and the interpreter's own description; knows nothing of folders.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from typing import NamedTuple
from zipimport import zipimporter

SOURCE = (
    "source"  # the group with aero as it was written, for interpreters that the archive has no byte code for
)


class NoParts(Exception):
    """The archive holds nothing for this interpreter; the text says for which ones it does."""


class Unusable(Exception):
    """The archive holds what is needed, but it cannot be unpacked."""


class Part(NamedTuple):
    """One file: its size in bytes, the hex SHA-256 of its content, and its path in the tree."""

    size: int
    sha256: str
    path: str


class Group(NamedTuple):
    """Files that stand in one piece, in this order, ``offset`` bytes after the beginning of an .xz stream."""

    stream: str
    offset: int
    files: list[Part]


class Parts(NamedTuple):
    """Everything for one interpreter. ``name`` is that of its folder: build id, then tag."""

    importer: zipimporter
    name: str
    groups: list[Group]

    def files(self) -> list[Part]:
        """Return every file."""
        return [part for group in self.groups for part in group.files]

    def contents(self) -> Iterator[tuple[Part, bytes]]:
        """Unpack: yield every file with its content. Raises Unusable."""
        try:
            import lzma
        except ImportError:
            raise Unusable("this Python was built without its lzma module, which unpacking needs") from None
        for group in self.groups:
            end = group.offset + sum(part.size for part in group.files)
            try:
                packed = member(self.importer, group.stream)
                content = memoryview(lzma.LZMADecompressor().decompress(packed, end))
            except (OSError, lzma.LZMAError) as error:
                raise Unusable(f"{self.importer.archive} is damaged: {group.stream}: {error}") from None
            if len(content) < end:
                raise Unusable(f"{self.importer.archive} is damaged: {group.stream} ends early")
            offset = group.offset
            for part in group.files:
                yield part, bytes(content[offset : offset + part.size])
                offset += part.size


def tag() -> tuple[str, str]:
    """Return ABI and platform of the running interpreter, like "cp311", "x86_64-gnu".

    The suffix of its own extension modules tells the ABI: "cpython-313t" is free-threaded, "311d" a debug build.
    """
    soabi = EXTENSION_SUFFIXES[0].split(".")[1]
    abi = "-".join(soabi.split("-")[:2]).replace("cpython-", "cp")
    try:
        libc = "gnu" if os.confstr("CS_GNU_LIBC_VERSION") else "musl"
    except ValueError:  # musl does not know the question
        libc = "musl"
    return abi, f"{os.uname().machine if sys.maxsize > 2**32 else '32bit'}-{libc}"


def member(importer: zipimporter, name: str) -> bytes:
    """Return the content of one member of the archive. Raises OSError where there is none."""
    return importer.get_data(f"{importer.archive}/{name}")


def groups_of(importer: zipimporter, name: str) -> list[Group]:
    """Return one group of the archive, and before it those that it needs. Raises OSError where there is none."""
    first, *lines = member(importer, f"parts/{name}.txt").decode().splitlines()
    stream, offset, *companions = first.split()
    fields = [line.split(" ", 2) for line in lines]
    own = Group(stream, int(offset), [Part(int(size), sha256, path) for size, sha256, path in fields])
    return [group for companion in companions for group in groups_of(importer, companion)] + [own]


def read(archive: str) -> Parts:
    """Return what the archive at that path holds for this interpreter. Raises NoParts."""
    importer = zipimporter(archive)
    abi, platform = tag()
    mine = f"{abi}-{platform}"
    try:
        groups = groups_of(importer, mine)
    except OSError:
        manifest = member(importer, "MANIFEST").decode().split()
        names = [path[len("parts/") : -len(".txt")] for path in manifest if path.endswith(".txt")]
        others = ", ".join(name for name in names if name.count("-") == 2)
        version = sys.version.split()[0]
        raise NoParts(f"this archive is for {others}, not for {mine} (Python {version})") from None
    return Parts(importer, f"{member(importer, 'ID').decode()}-{mine}", groups)


def read_source(archive: str) -> Parts:
    """Return aero alone, as source."""
    importer = zipimporter(archive)
    return Parts(importer, f"{member(importer, 'ID').decode()}-{SOURCE}", groups_of(importer, SOURCE))
