"""What two ends may agree on in the handshake, bit by bit (PROTOCOL.md, section "Versions, and what is reserved").

The worker offers bits, the server answers those that it has as well; what both have said holds for the link, and for
the session while that link carries it. A bit is given a meaning once and never another one.
"""

from __future__ import annotations

DATAGRAMS = 1 << 0  # records of type 3 carry datagrams, FLOW_END ends their flows
ZSTD = 1 << 1  # streams may be compressed, by PACKED
HEALTH = 1 << 2  # limits and health in control messages
LARGE_WINDOWS = 1 << 3  # windows above 16 MiB, up to 64

#: What this version always offers. ZSTD is offered beside it by who wants it and can (core/packing.py); the other bits
#: are reserved, and have no meaning yet.
OFFERED = DATAGRAMS | HEALTH | LARGE_WINDOWS


def always(_: int) -> int:
    """What a server has for a worker with these bits, where it always has the same."""
    return OFFERED
