"""Memory for buffers: costs nothing until it is written, and is gone when it is freed."""

from __future__ import annotations

import mmap


def pages(count: int) -> mmap.mmap:
    """``count`` zero bytes to write to.

    A bytearray is filled with zeroes by hand, so it is resident from its first moment: a worker that says nothing
    cost its server 1 MiB of buffers. And what malloc gets back may stay in the process, between what is still in use.
    """
    return mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
