"""The listening sockets of a face: a host name's addresses, and what is said where one cannot be had."""

from __future__ import annotations

import socket

import pytest

from aero.errors import ListenError
from aero.server.ports import close_all, listen_at
from aero.values import Address


def test_localhost_is_every_loopback_address_that_there_is() -> None:
    socks = listen_at(Address("localhost", 0), "--api")
    try:
        families = {sock.family for sock in socks}
        assert socket.AF_INET in families
        assert len({sock.getsockname()[1] for sock in socks}) == 1
    finally:
        close_all(socks)


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(ListenError, match="--api"):
        listen_at(Address("does-not-exist.invalid", 0), "--api")
