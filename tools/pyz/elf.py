"""Strips shared libraries. Works on bytes alone, so that the result depends on no tool of the machine that builds.

The dynamic loader reads program headers and what they point to; section headers, symbol tables and debug
information are for linkers and debuggers. So everything that no loadable segment covers goes.
"""

from __future__ import annotations

import struct

PT_LOAD = 1
# e_phoff, e_shoff | e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx: the 64-bit header of the ELF
# specification (gABI, chapter 4), little-endian as on both of our machines.
HEADER_SIZE = 64


def strip(library: bytes) -> bytes:
    """Return ``library`` without what dlopen never looks at.

    Raises ValueError for anything but a 64-bit little-endian ELF shared object.
    """
    if library[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", library, 16)[0] != 3:
        raise ValueError("not a 64-bit little-endian ELF shared object")
    program_headers = struct.unpack_from("<Q", library, 32)[0]
    entry_size, count = struct.unpack_from("<HH", library, 54)
    covered = [(0, HEADER_SIZE), (program_headers, program_headers + entry_size * count)]
    for i in range(count):
        entry = program_headers + i * entry_size
        (kind,) = struct.unpack_from("<I", library, entry)
        offset, _, _, size = struct.unpack_from("<QQQQ", library, entry + 8)
        if kind == PT_LOAD:
            covered.append((offset, offset + size))
    kept = bytearray(max(end for _, end in covered))
    for start, end in covered:
        kept[start:end] = library[start:end]
    struct.pack_into("<Q", kept, 40, 0)  # e_shoff: there are no sections any more
    struct.pack_into("<HHH", kept, 58, 0, 0, 0)  # e_shentsize, e_shnum, e_shstrndx
    return bytes(kept)
