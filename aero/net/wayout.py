"""A way out of this network to a server: an endpoint, the proxy before it, and what TLS and HTTP on it are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aero.endpoint import LINK_PATH, PORTS, Endpoint, Header

if TYPE_CHECKING:
    from aero.proxies import Proxy


class Guise(NamedTuple):
    """What a link looks like to whoever stands between, and whom it trusts there; alike for all ways of a worker.

    ``ca``: a file of certificates in place of the system's; ``pins``: as net/pin.py writes them, in place of any;
    ``name``: for SNI and Host in place of the endpoint's host; ``mask``: random WebSocket masks.
    """

    ca: str = ""
    pins: tuple[str, ...] = ()
    insecure: bool = False
    name: str = ""
    headers: tuple[Header, ...] = ()
    mask: bool = False
    link_path: str = LINK_PATH


class WayOut(NamedTuple):
    """One way to a server. Its text never shows a proxy's user or password."""

    endpoint: Endpoint
    proxy: Proxy | None = None
    guise: Guise = Guise()

    @property
    def name(self) -> str:
        """Whom TLS asks for and checks, a name or an address."""
        return self.guise.name or self.endpoint.host.rstrip(".")

    @property
    def host(self) -> str:
        """What a WebSocket's request says in Host."""
        given = [header.value for header in self.guise.headers if header.name.lower() == "host"]
        if given:
            return given[-1]
        if self.guise.name or self.endpoint.port == PORTS[self.endpoint.scheme]:
            return f"[{self.name}]" if ":" in self.name else self.name
        return str(self.endpoint.address)

    @property
    def path(self) -> str:
        """What a WebSocket's request asks for."""
        return self.endpoint.path or self.guise.link_path

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What a WebSocket's request says beyond what every one does."""
        return [(header.name, header.value) for header in self.guise.headers if header.name.lower() != "host"]

    def __str__(self) -> str:
        return str(self.endpoint) + (f" by the proxy {self.proxy}" if self.proxy is not None else "")
