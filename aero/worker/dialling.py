"""From a worker's ways out to a link that has asked for a session. Blocks its greenlet.

One way is simply gone; several are worker/attempt.py's.
"""

from __future__ import annotations

from functools import partial
from typing import Callable

from aero.core.joining import WE_ASKED
from aero.endpoint import TLS
from aero.errors import AeroError, LinkClosed, NetworkError, PassageError, RemoteProtocolError
from aero.net.connect import connect
from aero.net.handshake import Keyed, greet_server
from aero.net.link import Link, LinkOwner
from aero.net.transport import Transport
from aero.net.wayout import WayOut
from aero.worker.ground import Ground

#: Who ends TLS to look into it mostly looks for HTTP: he waits for that, hangs up, or answers that this is none.
_NOT_A_SERVER = (NetworkError, LinkClosed, RemoteProtocolError)
_OPENED = "does this network look into TLS? wss:// in place of tls:// may get through"


def open_link(
    ground: Ground, owner: LinkOwner, user: str, join: Callable[[int], bytes], keyed: Callable[[], None]
) -> Link:
    """A link to the server, not started yet; its JOIN has left. ``ground.outlets.last`` is the way that it goes.

    ``user``: the name that our code is good for. ``join(ping_s)``, called with our proof at the last moment, gives the
    JOIN's payload and may raise AeroError; it is called again where that proof did not get through. ``keyed()`` is
    called when the server has proved itself. Raises AeroError.
    """
    outlets = ground.outlets
    ways = outlets.in_order()
    if len(ways) == 1:
        way, (transport, keys) = ways[0], _try(ground, user, ways[0], join, _nothing)
    else:
        from aero.worker.attempt import Attempt

        go = partial(_try, ground, user)
        way, (transport, keys) = Attempt(ways, join, go, outlets.failed).run()
    try:
        outlets.worked(way)
        keyed()
        link = Link(
            transport,
            owner,
            keys.writer,
            keys.reader,
            ground.config.ping(way.endpoint.by_websocket),
            keys.early,
            WE_ASKED,
            keys.features,
        )
    except BaseException as failure:
        transport.close()
        if isinstance(failure, OSError) and not isinstance(failure, AeroError):
            raise LinkClosed(failure.strerror or str(failure)) from failure
        raise
    link.machine.eager = True
    link.congest(ground.config.congestion)
    return link


def _nothing() -> None:
    """Nobody waits for a connection."""


def _try(
    ground: Ground, user: str, way: WayOut, join: Callable[[int], bytes], connected: Callable[[], None]
) -> tuple[Transport, Keyed]:
    """A connection by one way, on which both sides have proved themselves. Raises AeroError."""
    transport = connect(ground.names, way, connected)
    ping_s = ground.config.ping(way.endpoint.by_websocket)
    answered = False

    def payload() -> bytes:
        nonlocal answered
        answered = True
        return join(ping_s)

    try:
        return transport, greet_server(
            transport, ground.password, user, ground.backend, payload, ground.offered
        )
    except BaseException as failure:
        transport.close()
        if isinstance(failure, OSError) and not isinstance(failure, AeroError):
            raise LinkClosed(failure.strerror or str(failure)) from failure
        if way.endpoint.scheme == TLS and not answered and isinstance(failure, _NOT_A_SERVER):
            raise PassageError(f"{failure}; {_OPENED}") from failure
        raise
