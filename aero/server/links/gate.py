"""The gate: connections on the link port until their handshake is done. Bounded in number, time and bytes.

Nobody can be told apart here but by how far they have come and how their address has behaved. So when places run
out, one of those who have come least far goes, by lot: whoever speaks displaces whoever is silent, and no flood can
be timed so that a particular newcomer always loses.
"""

from __future__ import annotations

import random
import socket
from functools import partial
from time import monotonic
from typing import Any, Callable, Protocol

import gevent
from gevent.lock import Semaphore

from aero import logs
from aero.address import Address
from aero.core.aead.backend import Backend
from aero.core.spake2 import Password
from aero.errors import AeroError, LinkClosed, NetworkError, SecurityError
from aero.limits import Limits
from aero.net.handshake import greet_worker
from aero.net.link import Link
from aero.net.transport import TcpTransport, Transport
from aero.server.links.arrival import Arrival, ArrivalGround
from aero.server.links.sessions import Sessions
from aero.server.policy.origin import groups_of, key_of
from aero.server.policy.penalties import NO_PROOF, Penalties
from aero.server.policy.shares import Shares

log = logs.get("gate")

PING_S = 60.0  # until the JOIN says what the worker wants

# How far a guest has come.
_SILENT, _HELD, _ANSWERED = 0, 1, 2


class _Guest:
    """One connection in its handshake."""

    __slots__ = ("address", "greenlet", "handed_over", "ip", "stage", "transport")

    def __init__(self, transport: Transport, ip: str, port: int) -> None:
        self.transport = transport
        self.ip = ip
        self.address = str(Address(ip, port))
        self.stage = _SILENT
        self.handed_over = False
        self.greenlet: gevent.Greenlet


class GateGround(ArrivalGround, Protocol):
    """What the gate needs of the server."""

    @property
    def backend(self) -> Backend:
        """What seals and opens records."""


class Gate:
    """Lets workers in: a greenlet for each handshake."""

    def __init__(
        self, ground: GateGround, sessions: Sessions, find_password: Callable[[str], Password]
    ) -> None:
        """``find_password(user)``: what a handshake is checked against; some password for every user."""
        self.penalties = Penalties()
        self._ground = ground
        self._sessions = sessions
        self._find_password = find_password
        self._results = ground.counters.handshakes
        self._guests: set[_Guest] = set()
        self._shares = Shares(Limits.HANDSHAKES, Limits.HANDSHAKES_PER_ADDRESS, of_free=0)
        # One answer a turn of the loop: a flood of handshakes must not keep the streams waiting.
        self._turnstile = Semaphore(1)

    def __len__(self) -> int:
        """Handshakes that are under way."""
        return len(self._guests)

    def state(self) -> dict[str, object]:
        """For people who ask: handshakes that are under way, and addresses that have failed some."""
        return {"handshakes": len(self._guests), "guarded": len(self.penalties)}

    def connected(self, sock: socket.socket, address: Any) -> None:
        """Somebody connected to the link port."""
        guest = _Guest(TcpTransport(sock), *address[:2])
        group = self._shares.full(guest.ip)
        if group is not None:
            self._make_place([each for each in self._guests if group in groups_of(each.ip)])
        elif len(self._guests) >= Limits.HANDSHAKES:
            self._make_place(list(self._guests))
        self._guests.add(guest)
        self._shares.take(guest.ip)
        guest.greenlet = gevent.Greenlet(self._handshake, guest)
        guest.greenlet.rawlink(partial(self._left, guest))  # also called when it is killed before it began
        guest.greenlet.start()

    def _make_place(self, guests: list[_Guest]) -> None:
        least = min(guest.stage for guest in guests)
        loser = random.choice([guest for guest in guests if guest.stage == least])
        self._results["no place"] += 1
        self._forget(loser)
        loser.greenlet.kill(block=False)

    def _forget(self, guest: _Guest) -> None:
        if guest in self._guests:
            self._guests.discard(guest)
            self._shares.give(guest.ip)

    def _left(self, guest: _Guest, _: gevent.Greenlet) -> None:
        self._forget(guest)
        if not guest.handed_over:
            guest.transport.close()

    def _handshake(self, guest: _Guest) -> None:
        transport, ground = guest.transport, self._ground
        try:
            keyed = greet_worker(
                transport,
                self._find_password,
                ground.backend,
                partial(self._hold, guest),
                partial(self._failed, guest),
            )
            arrival = Arrival(ground, self._sessions, keyed.user, guest.address)
            arrival.link = Link(
                transport, arrival, keyed.writer, keyed.reader, PING_S, keyed.early, features=keyed.features
            )
            guest.handed_over = True
            self._results["ok"] += 1
            arrival.start()
        except (LinkClosed, NetworkError) as error:
            self._results["gave up"] += 1
            log.debug("! handshake ended", address=guest.address, why=error)
        except SecurityError as error:
            self._results["wrong code"] += 1
            ground.events.fault("handshake failed", address=guest.address, why=error)
        except AeroError as error:
            self._results["rule broken"] += 1
            log.warning("handshake failed", address=guest.address, why=error)
        except OSError as error:
            self._results["gave up"] += 1
            log.debug("! handshake ended", address=guest.address, why=error)

    def _hold(self, guest: _Guest) -> None:
        """Keeps a guest that has begun to speak until it may be answered."""
        guest.stage = _HELD
        delay_s = self.penalties.delay_s(key_of(guest.ip), monotonic())
        if delay_s:
            gevent.sleep(delay_s)
        with self._turnstile:
            gevent.sleep(0)
        guest.stage = _ANSWERED

    def _failed(self, guest: _Guest, proved_wrong: bool) -> None:
        self.penalties.failed(key_of(guest.ip), monotonic(), 1.0 if proved_wrong else NO_PROOF)
