"""Which program uses a TCP port of this host, where /proc tells. May take long: not for the loop's thread."""

from __future__ import annotations

import os
from collections.abc import Iterator


def port_holder(port: int) -> str:
    """``nginx (pid 7)`` of a program that has a socket on a local port; "" where that cannot be found out."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(port)}
    for pid in _programs() if wanted else ():
        folder = f"/proc/{pid}/fd"
        try:
            if any(_link(f"{folder}/{name}") in wanted for name in os.listdir(folder)):
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                    return f"{file.read().strip()} (pid {pid})"
        except OSError:
            continue  # it has ended, or it is another user's
    return ""


def _inodes(port: int) -> Iterator[str]:
    """The inodes of sockets whose local port it is, those of ended connections apart (inode 0)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="utf-8") as file:
                next(file, None)  # names of the columns
                for line in file:
                    fields = line.split()
                    if int(fields[1].rpartition(":")[2], 16) == port and fields[9] != "0":
                        yield fields[9]
        except (OSError, ValueError, IndexError):
            continue  # no such table here


def _programs() -> list[str]:
    try:
        return [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
