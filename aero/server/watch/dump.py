"""The server's state as lines of its log, when SIGUSR1 asks for it. Reads everything, changes nothing."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from aero import logs
from aero.host.facts import facts

if TYPE_CHECKING:
    from aero.server.app import Server

log = logs.get("state")

_MOST_LINES = 200  # of workers: some screens; the API tells the rest


def dump(server: Server) -> None:
    """One line for the process, one for each of the first workers."""
    registry = server.registry
    uplinks = server.uplinks.values()
    log.info(
        "server",
        workers=len(registry.workers),
        links=len(server.arrivals),
        sessions=len(uplinks),
        frozen=sum(not uplink.alive for uplink in uplinks),
        streams=registry.streams,
        mappings=sum(len(worker.mappings) for worker in registry.workers.values()),
        waiting=sum(len(worker.lobby) for worker in registry.workers.values()),
        handshakes=len(server.gate),
        guarded=len(server.gate.guard),
        blocks=server.pool.taken,
        **facts(),
    )
    for worker in islice(registry.workers.values(), _MOST_LINES):
        log.info(
            "worker",
            cid=worker.cid,
            tag=worker.tag,
            host=worker.host,
            address=worker.address,
            links=worker.links,
            sessions=len(worker.carriers),
            streams=worker.streams,
            waiting=len(worker.lobby),
            kept_kib=sum(carrier.session.outbox.kept_bytes for carrier in worker.carriers) >> 10,
            targets=",".join(f"{mapping.name}:{mapping.port}" for mapping in worker.mappings.values()),
        )
