"""A connection for a link by one way out: TCP, and a proxy where the way has one.

What a plain way does not have is not imported. Each step blocks the greenlet, has a deadline, and fails with one line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

import gevent

from aero.address import Address
from aero.errors import DialError, PassageError
from aero.net.dial import DIAL_TIMEOUT_S, addresses_of, dial
from aero.net.lookup import Names
from aero.net.transport import Transport
from aero.net.wayout import WayOut

if TYPE_CHECKING:
    from aero.proxies import Proxy

# A proxy that dials, two round trips of TLS, one of WebSocket: as long as the connection itself may take.
PASSAGE_TIMEOUT_S = DIAL_TIMEOUT_S


def connect(names: Names, way: WayOut, connected: Callable[[], None]) -> Transport:
    """A connection over which a link's handshake can begin.

    ``connected()`` is called when the server, or the proxy before it, has been connected to. Raises DialError.
    """
    proxy = way.proxy
    if proxy is None:
        transport = dial(names, way.endpoint.host, way.endpoint.port)
        connected()
        return transport
    try:
        transport = dial(names, proxy.host, proxy.port)
    except DialError as error:
        raise DialError(f"the proxy does not answer: {error}") from error
    connected()
    silence = PassageError(
        f"the proxy {proxy} said nothing for {PASSAGE_TIMEOUT_S:.0f} s;"
        f" is it {'an HTTP' if proxy.scheme == 'http' else 'a SOCKS5'} proxy?"
    )
    try:
        with gevent.Timeout(PASSAGE_TIMEOUT_S, silence):
            _through_proxy(names, proxy, way.endpoint.address, transport)
    except BaseException:
        transport.close()
        raise
    return transport


def _through_proxy(names: Names, proxy: Proxy, server: Address, transport: Transport) -> None:
    """Has the proxy connect us; looks the server's name up before, where the proxy does not."""
    from aero.net.proxy import pass_through
    from aero.proxies import SOCKS5

    if proxy.scheme == SOCKS5:
        found = [str(address[0]) for _, address in addresses_of(names, server.host)]
        # Of one connection only one address can be asked for: rather one that every proxy can reach.
        server = Address(min(found, key=lambda each: ":" in each), server.port)
    pass_through(transport, proxy, server)
