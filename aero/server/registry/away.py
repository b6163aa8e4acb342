"""Targets whose workers are away and will be back (``wait=SECONDS``): their ports go on listening, and visitors wait.

Such a target is there as long as its lease: what holds its port in the worker's place gives way to whoever may have the
leased port, which is judged as if nobody held it. After a restart of the server the leases say which ones there are.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import Any, Callable, Protocol

from aero import logs
from aero.address import TCP
from aero.errors import PortError
from aero.limits import Limits
from aero.net.listen import Listener, close_all
from aero.net.pipe import make_abrupt, refuse
from aero.server.policy.origin import is_near
from aero.server.registry.doors.tcp import House, TcpDoor
from aero.server.registry.life import Mortal
from aero.server.registry.lobby import Lobby
from aero.server.registry.mapping import Mapping
from aero.server.registry.ports.claims import Holder
from aero.server.registry.ports.ports import Ports
from aero.server.store.leases import Leases, Owner

log = logs.get("mapping")


class AwayDoor:
    """The listening sockets of one port, and the visitors who wait."""

    def __init__(self, house: House, lobby: Lobby, wait_s: int, socks: list[socket.socket]) -> None:
        """``socks``: listening, on one port; none for a target that only the mux leads to."""
        self.then: Callable[[socket.socket, Any], None] | None = None  # the target's door, once it is back
        self._house = house
        self._lobby = lobby
        self.wait_s = wait_s
        self._porch = house.announcers.porch(self.receive)
        for sock in socks:
            make_abrupt(sock)
        self._listeners = [Listener(house.loop, sock, self._porch.entrance) for sock in socks]

    def receive(self, sock: socket.socket, address: Any) -> None:
        """A visitor came."""
        whose = "" if is_near(address[0]) else address[0]
        shares = self._house.shares
        if sock.fileno() >= self._house.line or (whose and shares.full(whose)):
            refuse(sock)
            return
        shares.take(whose)
        late = partial(self._late, whose, sock)
        if not self._lobby.wait(partial(self._serve, whose, sock, address), late, self.wait_s):
            late()

    def _serve(self, whose: str, sock: socket.socket, address: Any) -> None:
        self._house.shares.give(whose)
        if self.then is not None:
            self.then(sock, address)
        else:
            refuse(sock)

    def _late(self, whose: str, sock: socket.socket) -> None:
        self._house.shares.give(whose)
        refuse(sock)

    def release(self) -> list[socket.socket]:
        """Gives its sockets back, which go on listening; who waits goes on waiting."""
        self._porch.close()
        listeners, self._listeners = self._listeners, []
        return [each.release() for each in listeners]

    def close(self) -> None:
        """Listens no more; who waits goes on waiting."""
        close_all(self.release())


class Absent:
    """One target whose worker is away; holds its port."""

    def __init__(self, owner: Owner, identity: str, port: int, lobby: Lobby, door: AwayDoor) -> None:
        """``door``: on that port."""
        self.owner = owner
        self.identity = identity
        self.port = port
        self.lobby = lobby
        self.door = door

    @property
    def worker(self) -> Mortal:
        """Nobody can be asked for a sign of life."""
        raise AssertionError("a worker that is away is asked for a sign of life")

    def holder(self) -> Holder | None:
        """Nobody: the lease alone says who may have the port."""
        return None

    def give_way(self) -> None:
        """Listens no more. Who waits is served if it is the worker who comes, and else waits in vain."""
        self.door.close()

    def hand_over(self) -> list[socket.socket]:
        """As ``give_way``; its sockets go on listening for who has the port now."""
        return self.door.release()


class Ground(Protocol):
    """All mappings, as they are needed here."""

    def house(self) -> House:
        """What TCP doors share now."""


class Away:
    """All of them."""

    def __init__(self, ground: Ground, ports: Ports) -> None:
        """``ports``: of TCP. Nobody is away yet."""
        self._ground = ground
        self._ports = ports
        self._all: dict[int, Absent] = {}  # by port
        self._named: dict[
            tuple[str, str], dict[int, Absent]
        ] = {}  # the same by tag and name, and then by port

    def __len__(self) -> int:
        return len(self._all)

    def begin(self, leases: Leases) -> None:
        """Takes over from a former run: those who went last, where there are too many."""
        found = [each for each in leases if each.wait_s and each.owner.proto == TCP and each.ports == 1]
        found.sort(key=lambda lease: lease.used_at)
        for lease in found[-Limits.AWAY_TARGETS :]:
            try:
                socks = self._ports.listen(lease.port)
            except PortError as error:
                log.warning(
                    "visitors of a target do not wait",
                    target=lease.owner.name,
                    tag=lease.owner.tag,
                    why=error,
                )
                continue
            self._stand_in(lease.owner, lease.identity, lease.port, lease.wait_s, socks)

    def leaves(self, mapping: Mapping) -> Callable[[], None] | None:
        """A worker is about to be gone: what to call once it has let go of a target's port; None for nothing."""
        wait_s = mapping.options.get("wait")
        if not isinstance(wait_s, int):
            return None
        if len(self._all) >= Limits.AWAY_TARGETS:
            log.warning("too many targets are away, their visitors do not wait", target=mapping.name)
            return None
        # Whoever is in the kernel's queue stays in it: the sockets change hands and are not bound anew.
        socks = mapping.door.release() if isinstance(mapping.door, TcpDoor) else []
        return partial(self._left, mapping, wait_s, socks)

    def _left(self, mapping: Mapping, wait_s: int, socks: list[socket.socket]) -> None:
        absent = self._stand_in(mapping.owner, mapping.identity, mapping.port, wait_s, socks)
        mapping.later = absent.door.receive

    def _stand_in(
        self, owner: Owner, identity: str, port: int, wait_s: int, socks: list[socket.socket]
    ) -> Absent:
        house = self._ground.house()
        lobby = Lobby(house.loop)
        absent = Absent(owner, identity, port, lobby, AwayDoor(house, lobby, wait_s, socks))
        self._forget(port)
        self._all[port] = self._named.setdefault((owner.tag, owner.name), {})[port] = absent
        self._ports.stand_in(port, absent, self._gone)
        return absent

    def _gone(self, port: int) -> None:
        """Its lease is void."""
        absent = self._forget(port)
        if absent is not None:
            absent.door.close()
            absent.lobby.close()

    def _forget(self, port: int) -> Absent | None:
        absent = self._all.pop(port, None)
        if absent is not None:
            name = absent.owner.tag, absent.owner.name
            del self._named[name][port]
            if not self._named[name]:
                del self._named[name]
        return absent

    def back(self, mapping: Mapping) -> None:
        """A target is there again, and its worker knows that."""
        if mapping.owner.proto != TCP or not self._all:
            return
        absent = self._forget(mapping.port)
        if absent is not None:
            if absent.owner == mapping.owner and isinstance(mapping.door, TcpDoor):
                absent.door.then = mapping.door.receive
            absent.lobby.open()
        others = self._named.get((mapping.owner.tag, mapping.owner.name), {})
        for port, each in list(others.items()):  # it has another port now
            if (each.owner, each.identity) == (mapping.owner, mapping.identity):
                self._ports.release(port)
                self._gone(port)

    def lobby(self, tag: str, name: str) -> tuple[Lobby, int] | None:
        """Where requests for a target wait, and how long; None where it is not away."""
        found = next(iter(self._named.get((tag, name), {}).values()), None)
        return (found.lobby, found.door.wait_s) if found is not None else None

    def close(self) -> None:
        """Nobody comes back any more."""
        for port in list(self._all):
            self._gone(port)
