"""Links over TLS and WebSocket: whole through cuts, taken over by another carriage, several at once, sent away."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Iterator
from time import monotonic
from typing import Callable

import gevent
import pytest

from aero.core.codes import Close
from aero.net.transport import Transport
from aero.worker import dialling
from tests.faults.inside import ECHO, Inside, ask, download, exchange, until, upload
from tests.faults.relay import Connection

MIB = 1024 * 1024
KINDS = ("tls", "ws", "wss")
Connect = Callable[..., Transport]


def carried(monkeypatch: pytest.MonkeyPatch, kinds: Iterator[str]) -> list[str]:
    """Has each dial of the worker go over the next of these carriages; which it were."""
    from aero.net.tls import TlsTransport
    from aero.net.websocket import upgrade

    straight, used = dialling.connect, []

    def connect(*arguments: object) -> Transport:
        transport = straight(*arguments)  # type: ignore[arg-type]
        kind = next(kinds)
        used.append(kind)
        if kind in ("tls", "wss"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            secured = TlsTransport(transport, context, name="aero")
            secured.handshake()
            transport = secured
        if kind in ("ws", "wss", "ws-masked"):
            transport = upgrade(transport, "aero", "/_aero/link", [], kind == "ws-masked")
        return transport

    monkeypatch.setattr(dialling, "connect", connect)
    return used


def both_ways(lab: Inside, total: int) -> None:
    """Bulk in both directions, checked, and an echo beside it."""
    with ask(lab.port, ECHO) as echo:
        jobs = [gevent.spawn(download, lab.port, 1, total), gevent.spawn(upload, lab.port, 2, total)]
        while not all(job.ready() for job in jobs):
            exchange(echo, b"still there")
            gevent.sleep(0.01)
        gevent.joinall(jobs, raise_error=True)
        exchange(echo, b"still there")


@pytest.mark.parametrize("kind", [*KINDS, "ws-masked"])
def test_bulk_is_whole_through_cuts(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def cut_later(connection: Connection) -> None:
        for way in connection.ways:
            way.cut_at = 3 * MIB

    carried(monkeypatch, itertools.repeat(kind))
    with Inside(on_connection=cut_later) as lab:
        both_ways(lab, 8 * MIB)
        assert lab.relay.cuts >= 2
        assert {link.kind for link in lab.server.sessions.links} == {kind.partition("-")[0]}


def test_a_session_goes_on_over_whatever_gets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    used = carried(monkeypatch, itertools.cycle(("tcp", "wss", "tcp", "ws", "tls", "wss", "ws")))
    with Inside() as lab, ask(lab.port, ECHO) as visitor:
        for number in range(7):
            exchange(visitor, b"x" * 100_000)
            before = len(used)
            lab.relay.cut()
            until("the next link", lambda before=before: len(used) > before and lab.resumed)
            exchange(visitor, b"%d" % number)
            assert [link.kind for link in lab.server.sessions.links] == [used[-1]]


@pytest.mark.parametrize("kind", KINDS)
def test_several_links_at_once(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    carried(monkeypatch, itertools.repeat(kind))
    with Inside(pool=3) as lab:
        jobs = [gevent.spawn(download, lab.port, number, MIB) for number in range(12)]
        gevent.joinall(jobs, raise_error=True)
        assert len(lab.server.sessions.links) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_is_sent_away_hears_why(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    carried(monkeypatch, itertools.repeat(kind))
    with Inside() as lab:
        (uplink,) = lab.server.sessions.uplinks.values()
        (lane,) = lab.worker.crew.lanes
        assert lane.link is not None
        heard: list[tuple[int, str]] = []
        monkeypatch.setattr(
            lane.link.machine.handler,
            "close_received",
            lambda code, text: (heard.append((code, text)), type(lane).close_received(lane, code, text)),
        )
        uplink.end(Close.KICKED, "by the operator")
        until("the reason", lambda: heard)
        assert heard == [(Close.KICKED, "by the operator")]


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["tcp", *KINDS, "ws-masked"])
def test_a_quarter_of_a_gigabyte_through_a_cut_every_5_s(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Each way, and again until three cuts have come: plain TCP may need less than 5 s for all of it."""
    carried(monkeypatch, itertools.repeat(kind))
    began, cuts, rounds = monotonic(), 0, 0
    with Inside() as lab:
        while cuts < 3:
            rounds += 1
            jobs = [
                gevent.spawn(download, lab.port, 1, 256 * MIB),
                gevent.spawn(upload, lab.port, 2, 256 * MIB),
            ]
            while not all(job.ready() for job in jobs):
                gevent.joinall(jobs, timeout=max(began + 5 * (cuts + 1) - monotonic(), 0.01))
                if monotonic() >= began + 5 * (cuts + 1) and not all(job.ready() for job in jobs):
                    cuts += lab.relay.cut()
            gevent.joinall(jobs, raise_error=True)
    print(f"{kind}: {rounds} x 512 MiB, {cuts} cuts, {monotonic() - began:.0f} s")
