"""The HTTP addresses of targets at the mux: one rule, for whoever serves them and whoever shows them."""

from __future__ import annotations

from typing import NamedTuple

from aero.address import EVERYWHERE, Address

_PORTS = {"http": 80, "https": 443}


class Face(NamedTuple):
    """Where the mux is visited, and how: "http" or "https"."""

    address: Address
    scheme: str = "http"


def target_url(
    mux: Face, domain: str, tag: str, target: str, seen_as: str = "localhost", own: str = ""
) -> str:
    """Where a browser finds a target: by path, with ``domain`` by host name, or by a name of its ``own``.

    ``seen_as``: the server's name for visitors, where ``mux`` names none.
    """
    (host, number), scheme = mux
    port = "" if number == _PORTS[scheme] else f":{number}"
    if own:
        return f"{scheme}://{own}{port}/"
    if domain:
        return f"{scheme}://{tag}.{target}.{domain}{port}/"
    host = seen_as if host in EVERYWHERE else host
    return f"{scheme}://{f'[{host}]' if ':' in host else host}{port}/{tag}/{target}/"
