"""What is told of workers, their targets and their throughput: as pieces of JSON, each of them quickly made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any, Callable

from aero import logs
from aero.address import UDP
from aero.server.api.replies import dumps
from aero.server.api.times import rfc3339
from aero.server.registry.mapping import Mapping
from aero.server.registry.worker import Worker
from aero.server.store.rhythms import Late
from aero.server.watch.traffic import Throughput


def listed(
    workers: Iterable[Worker], late: Iterable[Late], url: Callable[[Worker, Mapping], str | None]
) -> Iterator[str]:
    """Workers with their targets, and who is late; ``url``: where the mux has a target."""
    yield f'{{"late":{dumps([_late(each) for each in late])},"workers":['
    for number, worker in enumerate(workers):
        yield ("," if number else "") + dumps(_worker(worker))[:-1] + ',"targets":['
        for place, mapping in enumerate(list(worker.mappings.values())):
            yield ("," if place else "") + dumps(_target(mapping, url(worker, mapping)))
        yield "]}"
    yield "]}"


def _worker(worker: Worker) -> dict[str, Any]:
    return {
        "cid": worker.cid,
        "tag": worker.tag,
        "host": logs.clean(worker.host),
        "user": logs.clean(worker.user),
        "address": worker.address,
        "connected_at": rfc3339(worker.connected_at),
        "ping_ms": round(1000 * worker.ping_s, 3) if worker.ping_s else None,
        "links": worker.links,
        "transports": worker.transports,
        "paths": [path._asdict() for path in worker.paths],
    }


def _target(mapping: Mapping, url: str | None) -> dict[str, Any]:
    access = mapping.access
    names = [each.decode() for each in mapping.domains]
    counts: dict[str, Any] = {"streams": mapping.streams}
    if mapping.owner.proto == UDP:
        counts = {"flows": mapping.streams, "drops": mapping.drops.counts}
    return {
        "name": mapping.name,
        "proto": mapping.owner.proto,
        "local": logs.clean(mapping.local),
        "listen": ", ".join(mapping.addresses),
        **({"open": access.is_open(monotonic())} if access is not None else {}),
        **({"auth": True} if mapping.logins is not None else {}),
        **({"domains": names} if names else {}),
        "healthy": mapping.health is None or mapping.health.in_order,
        "why": logs.clean(mapping.health.why)
        if mapping.health is not None and not mapping.health.in_order
        else "",
        **counts,
        "bytes_in": mapping.bytes_in,
        "bytes_out": mapping.bytes_out,
        "url": url,
    }


def _late(late: Late) -> dict[str, Any]:
    return {**late.who._asdict(), "since": rfc3339(late.since), "usual_s": late.usual_s}


def throughput(traffic: Throughput) -> Iterator[str]:
    """Bytes a second of all, and of each worker and target."""
    head = {"step_s": traffic.step_s, "last": traffic.last, "all": traffic.all()}
    yield dumps(head)[:-1] + ',"workers":{'
    for number, (cid, rates, targets) in enumerate(traffic.workers()):
        yield ("," if number else "") + f"{dumps(cid)}:{dumps(rates)[:-1]}" + ',"targets":{'
        for place, (name, series) in enumerate(targets):
            yield ("," if place else "") + f"{dumps(name)}:{dumps(series)}"
        yield "}}"
    yield "}}"
