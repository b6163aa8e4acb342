"""What this process costs right now, for people who ask (SIGUSR1) and for tests that look for leaks."""

from __future__ import annotations

import gc
import os

import gevent


def facts() -> dict[str, int]:
    """Resident memory in KiB, open descriptors, living greenlets; -1 where the system does not tell."""
    return {"rss_kib": _rss_kib(), "descriptors": _descriptors(), "greenlets": _greenlets()}


def _rss_kib() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 10
    except OSError:
        return -1  # not Linux


def _descriptors() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder)) - 1  # the listing itself has one open
        except OSError:
            continue
    return -1


def _greenlets() -> int:
    return sum(1 for each in gc.get_objects() if isinstance(each, gevent.Greenlet) and not each.dead)
