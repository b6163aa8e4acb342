"""What worked on which network: a small file in the worker's state that says which way out to begin with.

A network is known by its gateway: the address, and the hardware address, as far as the system shows them. A laptop
that comes back to an office then begins with what got out there the last time, and not with what got out at home.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from aero import logs

log = logs.get("worker")

FILE = "networks"
#: Networks and lists of ways that are remembered: a year of travels, 100 bytes each.
MAX_LINES = 64
_MAX_BYTES = 64 * 1024
_ROUTES, _NEIGHBOURS = "/proc/net/route", "/proc/net/arp"
_UP_AND_GATEWAY = 0x3  # RTF_UP, RTF_GATEWAY of route(8)


class Worked(NamedTuple):
    """One line of the file: on ``network``, of the ways that ``ways`` stands for, ``way`` got through."""

    network: str
    ways: str
    way: str


def gateway(routes: str, neighbours: str) -> str:
    """Of the default route the gateway's address and hardware address, as texts of /proc/net have them; "" for none."""
    best: tuple[int, str] | None = None
    for line in routes.splitlines()[1:]:
        fields = line.split()
        try:
            if (
                int(fields[1], 16)
                or int(fields[7], 16)
                or int(fields[3], 16) & _UP_AND_GATEWAY != _UP_AND_GATEWAY
            ):
                continue
            octets = int(fields[2], 16).to_bytes(4, sys.byteorder)
            metric = int(fields[6])
        except (IndexError, ValueError, OverflowError):
            continue
        if best is None or metric < best[0]:
            best = (metric, ".".join(map(str, octets)))
    if best is None:
        return ""
    for line in neighbours.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[0] == best[1] and fields[3] != "00:00:00:00:00:00":
            return f"{best[1]} {fields[3]}"
    return best[1]


def parse(text: str) -> list[Worked]:
    """The file's lines, the latest last; what is not one is left out."""
    rows = [line.split("\t") for line in text.splitlines()]
    return [Worked(*row) for row in rows if len(row) == 3][-MAX_LINES:]


def chosen(lines: list[Worked], network: str, ways: str) -> str:
    """What got through on this network, else what did last wherever that was; "" where nothing is known."""
    ours = [line for line in lines if line.ways == ways]
    here = [line for line in ours if line.network == network]
    return (here or ours)[-1].way if ours else ""


def noted(lines: list[Worked], line: Worked) -> list[Worked]:
    """The lines with one more at the end, in place of what it is newer than."""
    return [*(each for each in lines if each[:2] != line[:2]), line][-MAX_LINES:]


def here() -> str:
    """The network that this machine is in now; "" where nothing tells."""
    return gateway(_read(_ROUTES), _read(_NEIGHBOURS))


def recall(state: str, ways: str) -> str:
    """The way that the file says to begin with; "" for none."""
    return chosen(parse(_read(os.path.join(state, FILE))), here(), ways) if state else ""


def remember(state: str, ways: str, way: str) -> None:
    """Notes that a way got through here, unless the file says so already."""
    if not state:
        return
    path = os.path.join(state, FILE)
    lines, line = parse(_read(path)), Worked(here(), ways, way)
    if [each for each in lines if each.ways == ways][-1:] == [line]:
        return
    fresh = f"{path}.{os.getpid()}"
    try:
        os.makedirs(state, mode=0o700, exist_ok=True)
        with open(fresh, "w", encoding="utf-8", opener=_private) as file:
            file.writelines("\t".join(each) + "\n" for each in noted(lines, line))
        os.replace(fresh, path)
    except OSError as error:
        log.debug("! cannot note what worked on this network", path=path, error=error.strerror)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_BYTES)
    except OSError:
        return ""
