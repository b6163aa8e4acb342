"""The gate: connections on the link port until their handshake is done. Bounded in number, time and bytes.

When all places are taken, a newcomer takes the place of a connection that is chosen by lot among those that are least
far in their handshake. So whoever speaks displaces whoever is silent, and no flood can be timed so that a particular
newcomer always loses.
"""

from __future__ import annotations

import socket
from functools import partial
from time import monotonic
from typing import Any, Callable, Protocol

import gevent

from aero import logs
from aero.core import features
from aero.core.aead.backend import Backend
from aero.core.spake2plus import Verifier
from aero.errors import AeroError, LinkClosed, NetworkError, SecurityError
from aero.limits import Limits
from aero.net.faults import report
from aero.net.handshake import greet_worker
from aero.net.link import Link
from aero.net.semaphore import Semaphore
from aero.net.transport import TcpTransport, Transport
from aero.server.links.arrival import Arrival, ArrivalGround
from aero.server.links.codes import Codes
from aero.server.links.entrance import Entrance
from aero.server.links.invitations import Invitations
from aero.server.links.sessions import Sessions
from aero.server.policy.origin import groups_of, key_of
from aero.server.policy.penalties import Penalties
from aero.server.policy.proxies import Origin, origin_of
from aero.server.policy.shares import Shares

log = logs.get("gate")

PING_S = 60.0  # until the JOIN says what the worker wants

# How far a guest has come.
_SILENT, _HELD, _ANSWERED = 0, 1, 2


class _Guest:
    """One connection in its handshake; watches how far it comes."""

    __slots__ = (
        "_gate",
        "address",
        "charged",
        "counted",
        "greenlet",
        "handed_over",
        "ip",
        "origin",
        "result",
        "stage",
        "taken",
        "to_web",
        "transport",
        "why",
    )

    def __init__(self, gate: Gate, transport: Transport, origin: Origin, counted: str) -> None:
        """``counted``: whose share it takes, "" for nobody's."""
        self._gate = gate
        self.transport: Transport = transport  # the uppermost layer
        self.origin = origin
        self.ip = origin.ip
        self.address = str(origin)
        self.counted = counted
        self.to_web = False  # it came where only visitors come
        self.taken = False  # it is the mux's now
        self.stage = _SILENT
        self.charged = False  # its address has paid for its failure
        self.handed_over = False
        # What it ends as, unless the handshake says otherwise: pushed out by a newer connection.
        self.result, self.why = "no place", "a newer connection took its place"
        self.greenlet: gevent.Greenlet

    def reported(self, origin: Origin) -> None:
        """A trusted proxy says who this is."""
        self.origin, self.ip, self.address = origin, origin.ip, str(origin)
        self._gate.recount(self)

    def turn(self) -> None:
        """What comes next costs arithmetic."""
        self._gate.turn()

    def hold(self) -> None:
        """It has begun to speak: keeps it until it may be answered."""
        self.stage = _HELD
        self._gate.hold(self.ip)

    def answered(self) -> None:
        """It owes a proof from here on."""
        self.stage = _ANSWERED

    def failed(self) -> None:
        """It was answered and has no proof: whatever it learned, its address pays for one guess."""
        if not self.charged:
            self.charged = True
            self._gate.penalties.failed(key_of(self.ip), monotonic())

    def ends_as(self, result: str, why: object) -> None:
        """Remembers for the log why it ended."""
        self.result, self.why = result, str(why)


class GateGround(ArrivalGround, Protocol):
    """What the gate needs of the server."""

    @property
    def backend(self) -> Backend:
        """What seals and opens records."""


class Gate:
    """Lets workers in: a greenlet for each handshake."""

    def __init__(
        self,
        ground: GateGround,
        sessions: Sessions,
        codes: Codes,
        entrance: Entrance,
        invitations: Invitations,
        offered: Callable[[int], int] = features.always,
    ) -> None:
        """``codes``: what a handshake is checked against; ``entrance``: tells what a guest speaks;
        ``invitations``: what some of the codes are for; ``offered``: as in core/handshake.py.
        """
        self._offered = offered
        self.penalties = Penalties()
        self._ground = ground
        self._sessions = sessions
        self._codes = codes
        self._entrance = entrance
        self._invitations = invitations
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
        self._receive(sock, address, to_web=False)

    def visited(self, sock: socket.socket, address: Any) -> None:
        """Somebody connected to --mux-tls: a visitor, who needs a handshake, too."""
        self._receive(sock, address, to_web=True)

    def _receive(self, sock: socket.socket, address: Any, to_web: bool) -> None:
        origin = origin_of(address)
        # A trusted proxy's guests are counted by the address that it reports, once it has.
        counted = "" if self._entrance.trust.covers(origin.ip) else origin.ip
        guest = _Guest(self, TcpTransport(sock), origin, counted)
        guest.to_web = to_web
        self._take_place(guest)
        guest.greenlet = gevent.Greenlet(self._handshake, guest)
        guest.greenlet.rawlink(partial(self._left, guest))  # also called when it is killed before it began
        guest.greenlet.start()

    def _take_place(self, guest: _Guest) -> None:
        group = self._shares.full(guest.counted) if guest.counted else None
        if group is not None:
            self._make_place(
                [each for each in self._guests if each.counted and group in groups_of(each.counted)]
            )
        elif len(self._guests) >= Limits.HANDSHAKES:
            self._make_place(list(self._guests))
        self._guests.add(guest)
        self._shares.take(guest.counted)

    def recount(self, guest: _Guest) -> None:
        """From here on a guest is counted by its address."""
        self._forget(guest)
        guest.counted = guest.ip
        self._take_place(guest)

    def _make_place(self, guests: list[_Guest]) -> None:
        lowest = min(guest.stage for guest in guests)
        from random import choice  # 0.1 MB that most servers never need

        loser = choice([guest for guest in guests if guest.stage == lowest])
        self._forget(loser)
        loser.greenlet.kill(block=False)

    def _forget(self, guest: _Guest) -> None:
        if guest in self._guests:
            self._guests.discard(guest)
            self._shares.give(guest.counted)

    def _left(self, guest: _Guest, _: gevent.Greenlet) -> None:
        self._forget(guest)
        if guest.taken:
            return
        if guest.handed_over:
            self._results["ok"] += 1
            return
        guest.transport.close()
        if guest.stage == _ANSWERED or guest.charged:
            guest.failed()
            result = guest.result if guest.result == "wrong code" else "no proof"
            self._ground.events.fault("handshake failed", address=guest.address, why=guest.why)
        else:
            result = guest.result
            if result == "rule broken":
                log.warning("handshake failed", address=guest.address, why=guest.why)
            else:
                log.debug("! handshake ended", address=guest.address, why=guest.why)
        self._results[result] += 1

    def _handshake(self, guest: _Guest) -> None:
        ground = self._ground
        verifiers: list[Verifier] = []
        login = ""

        def find(name: str) -> Verifier:
            nonlocal login
            login = name
            verifiers.append(self._codes.verifier(name))
            return verifiers[0]

        try:
            early = self._entrance.enter_web(guest) if guest.to_web else self._entrance.enter(guest)
            if early is None:
                return  # it was no worker, and has its answer
            transport = guest.transport
            keyed = greet_worker(
                transport, find, ground.backend, guest, self._codes.refusal, early, self._offered
            )
            if not self._codes.counts(verifiers[0]):
                guest.stage = _HELD  # it has given its proof, of what is no longer asked for
                raise LinkClosed("the auth code was changed during the handshake")
            arrival = Arrival(
                ground, self._sessions, keyed.user, guest.address, verifiers[0], self._invitations
            )
            arrival.link = Link(
                transport, arrival, keyed.writer, keyed.reader, PING_S, keyed.early, features=keyed.features
            )
            arrival.link.congest(ground.present.config.congestion)
            guest.handed_over = True
            arrival.start()
        except SecurityError as error:
            self._invitations.guessed(login, guest.address)
            guest.ends_as("wrong code", error)
        except (LinkClosed, NetworkError, OSError) as error:
            guest.ends_as("gave up", error)
        except AeroError as error:
            guest.ends_as("rule broken", error)
        except Exception as error:
            report(error)
            guest.ends_as("gave up", "an error of the program")
            if guest.handed_over:
                arrival.link.faulted(error)

    def hold(self, ip: str) -> None:
        """Keeps a guest from this address until it may be answered."""
        delay_s = self.penalties.delay_s(key_of(ip), monotonic())
        if delay_s:
            gevent.sleep(delay_s)
        self.turn()

    def turn(self) -> None:
        """Waits for the next turn of the loop, behind those who wait for one already."""
        with self._turnstile:
            gevent.sleep(0)
