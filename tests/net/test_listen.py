"""Accepting: what is told of whom."""

from __future__ import annotations

import socket
from typing import Any

import gevent
import pytest

from aero.net.listen import Listener
from tests.faults.inside import until


def test_ipv4_is_called_ipv4_where_one_socket_listens_for_both() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    came: list[Any] = []
    sock = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    sock.setblocking(False)
    listener = Listener(gevent.get_hub().loop, sock, lambda sock, address: came.append((sock, address)))
    visitors = [socket.create_connection((ip, listener.address[1])) for ip in ("127.0.0.1", "::1")]
    until("both visitors", lambda: len(came) == len(visitors))
    assert {(address[0], address[1]) for _, address in came} == {v.getsockname()[:2] for v in visitors}
    listener.close()
    for each in (*visitors, *(sock for sock, _ in came)):
        each.close()
