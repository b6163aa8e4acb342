"""A connection for a link by one way out: TCP, a proxy, TLS, WebSocket, as many of these as the way has.

What a way does not have is not imported. Each step blocks the greenlet, has a deadline, and fails with one line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

import gevent

from aero.address import Address
from aero.endpoint import TCP, WS
from aero.errors import DialError, LinkClosed, PassageError, UpgradeError
from aero.logs import clean
from aero.net.dial import DIAL_TIMEOUT_S, addresses_of, dial
from aero.net.lookup import Names
from aero.net.transport import Transport
from aero.net.wayout import WayOut

if TYPE_CHECKING:
    from aero.proxies import Proxy

# A proxy that dials, two round trips of TLS, one of WebSocket: each as long as the connection itself may take.
STEP_TIMEOUT_S = DIAL_TIMEOUT_S


def connect(names: Names, way: WayOut, connected: Callable[[], None]) -> Transport:
    """A connection over which a link's handshake can begin.

    ``connected()`` is called when the server, or the proxy before it, has been connected to. Raises DialError.
    """
    endpoint, proxy = way.endpoint, way.proxy
    first = endpoint.address if proxy is None else proxy.address
    try:
        transport = dial(names, first.host, first.port)
    except DialError as error:
        if proxy is None:
            raise
        raise DialError(f"the proxy does not answer: {error}") from error
    connected()
    if proxy is None and endpoint.scheme == TCP:
        return transport
    try:
        if proxy is not None:
            kind = "an HTTP" if proxy.by_http else "a SOCKS5"
            with _patience(f"the proxy {proxy}", f"; is it {kind} proxy?"):
                _through_proxy(names, proxy, endpoint.address, transport)
        if endpoint.by_tls:
            secure = _tls()
            with _patience(f"{endpoint.address}, asked for TLS,"):
                transport = secure(transport, way)
        if endpoint.by_websocket:
            with _patience(f"{endpoint.address}, asked for a WebSocket,"):
                transport = _in_websocket(transport, way)
    except BaseException:
        transport.close()
        raise
    return transport


def _tls() -> Callable[[Transport, WayOut], Transport]:
    """What puts TLS on a connection. Raises PassageError where this Python was built without OpenSSL."""
    try:
        from aero.net.trust import secure
    except ImportError as error:
        raise PassageError(
            f"this Python has no TLS ({error}); links by tcp:// and ws:// need none"
        ) from error
    return secure


def _patience(who: str, hint: str = "") -> gevent.Timeout:
    return gevent.Timeout(
        STEP_TIMEOUT_S, PassageError(f"{who} said nothing for {STEP_TIMEOUT_S:.0f} s{hint}")
    )


def _through_proxy(names: Names, proxy: Proxy, server: Address, transport: Transport) -> None:
    """Has the proxy connect us; looks the server's name up before, where the proxy does not."""
    from aero.net.proxy import pass_through

    if proxy.wants_addresses:
        found = [str(address[0]) for _, address in addresses_of(names, server.host)]
        # Of one connection only one address can be asked for: rather one that every proxy can reach.
        server = Address(min(found, key=lambda each: ":" in each), server.port)
    pass_through(transport, proxy, server)


def _in_websocket(transport: Transport, way: WayOut) -> Transport:
    from aero.net.websocket import upgrade

    try:
        return upgrade(transport, way.host, way.path, way.headers, way.guise.mask)
    except UpgradeError as error:
        raise PassageError(refusal(error, way)) from error
    except LinkClosed as error:
        raise PassageError(f"{way.endpoint.address} hung up when it was asked for a WebSocket") from error


def refusal(error: UpgradeError, way: WayOut) -> str:
    """One line for a person: why there is no WebSocket, and what to do."""
    where, status = way.endpoint.address, error.status
    said = f"HTTP {status}"
    page = b"<html" in error.body.lower() or error.headers.get("content-type", "").startswith("text/html")
    if status in (0, 101):
        return f"what answers at {where} is no WebSocket: {error}"
    if status == 511 or status == 200 or (300 <= status < 400 and way.endpoint.scheme == WS):
        place = clean(error.headers.get("location", "").partition("?")[0][:80])
        if place.startswith(f"https://{way.endpoint.host}"):
            return f"{where} wants TLS ({said}): write wss:// in place of ws://"
        at = f" at {place}" if place else ""
        return f"{where} answers with a page{at}: does this network want a login in a browser? ({said})"
    if status in (401, 403, 407):
        return (
            f"{where} does not let us in ({said}): does a gateway there want a token, as --header gives one?"
        )
    if status == 404:
        return f"{where} knows nothing of {way.path} ({said}): is that the server's --link-path, and passed on to it?"
    if status in (400, 405, 426, 501):
        return f"{where} does not pass WebSocket on ({said}): the proxy before the server has to (Upgrade, Connection)"
    if status >= 500:
        return f"what is before the server at {where} cannot reach it ({said})"
    return f"{where} answers {said}{' and a page' if page else ''} in place of a WebSocket"
