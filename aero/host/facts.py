"""What the machine has and what this process costs: reads /proc and the cgroups."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Iterator
from time import monotonic

import gevent

from aero.limits import Limits

#: How long the objects are looked at in one turn of the loop, and after how many the clock is.
_SLICE_S = 0.001
_SLICE = 1000


def facts() -> dict[str, int]:
    """Resident memory in KiB, open descriptors, living greenlets; -1 where the system does not tell.

    Yields to the loop now and then: looking at every object takes tens of milliseconds.
    """
    return {
        "rss_kib": address_space()[1] >> 10,
        "descriptors": descriptors(),
        "greenlets": _greenlets(),
    }


def memory_share() -> int:
    """Bytes for all sessions together where nobody said how many: Limits.MEMORY_MIN to Limits.MEMORY_MAX."""
    return min(max(memory_bytes() // 4, Limits.MEMORY_MIN), Limits.MEMORY_MAX)


def memory_bytes(root: str = "/") -> int:
    """Bytes of memory that this process can get: what the machine has, or its cgroups allow, whichever is less.

    ``root``: where the paths of /proc and /sys begin. 0 where nothing is known.
    """
    known = [limit for limit in _cgroup_limits(root) if limit]
    try:
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError):
        pass
    return min(known, default=0)


def _cgroup_limits(root: str) -> Iterator[int]:
    """The memory limits of this process's cgroup and of those around it, of both versions of cgroups."""
    try:
        with open(f"{root}/proc/self/cgroup", encoding="utf-8") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except (OSError, ValueError):
        return
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if not controllers:
            folder, name = f"{root}/sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = f"{root}/sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # Within a container the path may be the host's, which is not there: its own limit stands at the top then.
        parts = [part for part in path.split("/") if part]
        for length in range(len(parts) + 1):
            yield _number("/".join([folder, *parts[:length], name]))


def _number(path: str) -> int:
    """The number in a file, 0 where there is none, as for "max"."""
    try:
        # As bytes: a text's codec may have to be imported, which takes a descriptor and the right to read its file.
        with open(path, "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def outgoing_ports() -> tuple[int, int]:
    """The first and last port that the system chooses from, for outgoing connections and where 0 is asked for."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", "rb") as file:
            low, high = map(int, file.read().split())
    except (OSError, ValueError):
        return 49152, 65535  # RFC 6335, section 6
    return low, high


def address_space() -> tuple[int, int]:
    """Bytes of address space in use, and of those in memory; (-1, -1) where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            pages = file.read().split()
    except OSError:
        return -1, -1  # not Linux
    return int(pages[0]) * os.sysconf("SC_PAGE_SIZE"), int(pages[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    """How many files and sockets are open; -1 where the system does not tell."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder)) - 1  # the listing itself has one open
        except OSError:
            continue
    return -1


def _greenlets() -> int:
    count, until = 0, monotonic() + _SLICE_S
    for number, each in enumerate(gc.get_objects()):
        count += isinstance(each, gevent.Greenlet) and not each.dead
        if not number % _SLICE and monotonic() >= until:
            gevent.sleep(0.001)
            until = monotonic() + _SLICE_S
    return count


def descriptor_line() -> int:
    """The descriptor from which on visitors are turned away: those above are kept for links and the API.

    The system gives the lowest number that is free: so many descriptors are in use where a visitor gets this one.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        limit = 1 << 20
    return limit - min(limit // 4, Limits.KEPT_DESCRIPTORS)
