"""The page's address for somebody who may change things. Imports nothing of the page: `aero page` prints it."""

from __future__ import annotations

from urllib.parse import quote

from aero.address import Address


def address_with(secret: str, api: Address) -> str:
    """Where the page is, with what it may change things by. The fragment never leaves the browser."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(api.host, api.host)
    return f"http://{Address(host, api.port)}/#key={quote(secret, safe='')}"
