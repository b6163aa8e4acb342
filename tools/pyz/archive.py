"""Writes the archive: sorted members, fixed dates and modes, one SHA-256 for one content.

The layout is described in docs/PYZ.md; aero/boot reads it.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from io import BytesIO

SHEBANG = b"#!/usr/bin/env python3\n"
SEAL = b"# sha256 of what follows: "
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest date that a zip file can say
MODE = 0o100644 << 16

# The identifiers of the .xz format, as in the module lzma.
FILTER_X86 = 0x04
FILTER_LZMA2 = 0x21
PRESET = 6  # 9 and "extreme" make not even 0.1 % of difference here
# 8 MiB holds the largest stream whole; unpacking needs that much memory, once.
DICTIONARY = 8 << 20


@dataclass(frozen=True)
class Stream:
    """What is compressed together: groups of files (name → path → content) in their order, for one ``machine``.

    Groups that resemble each other, like the libraries for two neighbouring Pythons, need a quarter less that way.
    """

    machine: str
    groups: dict[str, dict[str, bytes]]

    @property
    def member(self) -> str:
        """The name of the stream in the archive."""
        return f"parts/{'+'.join(self.groups)}.xz"

    def content(self) -> bytes:
        """Return every file's content: group by group, and in a group in the order of the paths."""
        return b"".join(files[path] for files in self.groups.values() for path in sorted(files))

    def filters(self) -> list[dict[str, int]]:
        """Return how to compress it."""
        chain = [{"id": FILTER_LZMA2, "preset": PRESET, "dict_size": DICTIONARY}]
        # The filter for aarch64 code is younger than most liblzma that will unpack this.
        return [{"id": FILTER_X86}, *chain] if self.machine == "x86_64" else chain

    def listings(self, companions: dict[str, list[str]]) -> dict[str, bytes]:
        """Return the members that say where the files are, one for each group.

        The first line is ``stream offset`` and the names of the ``companions``, the groups that this one needs;
        the others are ``size sha256 path``.
        """
        members = {}
        offset = 0
        for name, files in self.groups.items():
            head = " ".join([self.member, str(offset), *companions.get(name, [])])
            lines = [f"{len(files[p])} {hashlib.sha256(files[p]).hexdigest()} {p}" for p in sorted(files)]
            members[f"parts/{name}.txt"] = "\n".join([head, *lines, ""]).encode()
            offset += sum(map(len, files.values()))
        return members


def assemble(members: dict[str, bytes]) -> bytes:
    """Return the archive of these members (name → content), with build id, manifest and a seal over the whole.

    Nothing is compressed here but what came compressed: zlib's output differs between its releases, and the
    bootstrap reads faster without.
    """
    members = dict(members, ID=hashlib.sha256(manifest(members)).hexdigest()[:16].encode())
    members["MANIFEST"] = manifest(members)
    buffer = BytesIO()
    head = SHEBANG + SEAL + b"0" * 64 + b"\n"
    buffer.write(head)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3  # Unix, whatever builds it
            info.external_attr = MODE
            archive.writestr(info, members[name], zipfile.ZIP_STORED)
    body = buffer.getvalue()[len(head) :]
    return SHEBANG + SEAL + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def manifest(members: dict[str, bytes]) -> bytes:
    """Return the members' digests in the format of sha256sum."""
    lines = [f"{hashlib.sha256(members[name]).hexdigest()}  {name}\n" for name in sorted(members)]
    return "".join(lines).encode()
