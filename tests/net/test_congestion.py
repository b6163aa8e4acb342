"""The kernel's congestion control for links: what there is can be had, by layers too, and what there is not is said."""

from __future__ import annotations

import socket
import sys

import pytest

from aero.errors import HostError
from aero.net import congestion
from aero.net.transport import TcpTransport
from aero.net.websocket import WebSocketTransport

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets connections choose")


def test_a_connection_gets_what_is_asked_for() -> None:
    with socket.socket() as sock:
        transport = WebSocketTransport(TcpTransport(sock), client=True)
        transport.congest("reno")  # every kernel has it
        assert congestion.in_use(sock) == transport.congestion == "reno"


def test_without_a_name_there_is_nothing_to_require() -> None:
    congestion.require("")
    congestion.require("reno")


def test_what_the_kernel_does_not_have_is_said_with_what_it_has() -> None:
    with pytest.raises(
        HostError, match=r"^no congestion control 'rot13' for links: No such file .*; there are .*reno"
    ):
        congestion.require("rot13")


def test_what_is_no_tcp_socket_has_none() -> None:
    near, far = socket.socketpair()
    with near, far:
        assert congestion.in_use(near) == ""


def test_a_system_without_the_option_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(congestion, "_OPTION", None)
    with socket.socket() as sock:
        assert congestion.in_use(sock) == ""
    with pytest.raises(HostError, match="this system lets nobody choose"):
        congestion.require("cubic")
