"""The HTTP addresses of targets at the mux: one rule, for whoever serves them and whoever shows them."""

from __future__ import annotations

from aero.address import EVERYWHERE, Address


def target_url(mux: Address, domain: str, tag: str, target: str, seen_as: str = "localhost") -> str:
    """Where a browser finds a target: by path, or with ``domain`` by host name.

    ``mux``: where the mux listens; ``seen_as``: the server's name for visitors, where ``mux`` names none.
    """
    port = "" if mux.port == 80 else f":{mux.port}"
    if domain:
        return f"http://{tag}.{target}.{domain}{port}/"
    host = seen_as if mux.host in EVERYWHERE else mux.host
    return f"http://{f'[{host}]' if ':' in host else host}{port}/{tag}/{target}/"
