"""One dial of the server, from its name to a link that has asked for a session. Blocks its greenlet."""

from __future__ import annotations

from typing import Callable

from aero.core import messages
from aero.errors import AeroError, LinkClosed
from aero.net.dial import dial
from aero.net.handshake import greet_server
from aero.net.link import Link, LinkOwner
from aero.worker.ground import Ground


def open_link(
    ground: Ground, owner: LinkOwner, user: str, join: Callable[[], bytes], keyed: Callable[[], None]
) -> Link:
    """A link to the server, not started yet; its JOIN has left.

    ``user``: the name that our code is good for. ``join()``, called with our proof at the last moment, gives the JOIN's
    payload and may raise AeroError; ``keyed()`` is called when the server has proved itself. Raises AeroError.
    """
    config = ground.config
    transport = dial(ground.names, config.server.host, config.server.port)
    try:
        keys = greet_server(transport, ground.password, user, ground.backend, join)
        keyed()
        link = Link(
            transport,
            owner,
            keys.writer,
            keys.reader,
            config.ping_s,
            keys.early,
            messages.WE_ASKED,
            keys.features,
        )
    except BaseException as failure:
        transport.close()
        if isinstance(failure, OSError) and not isinstance(failure, AeroError):
            raise LinkClosed(failure.strerror or str(failure)) from failure
        raise
    link.machine.eager = True
    return link
