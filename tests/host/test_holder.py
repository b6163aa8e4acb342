"""Who uses a port: found for a listener and for a connection that went out over it; nothing for a port of nobody."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from aero.host.holder import port_holder

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has this /proc")


@pytest.mark.parametrize(("family", "ip"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_listening_program_is_named(family: int, ip: str) -> None:
    if family == socket.AF_INET6 and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with socket.create_server((ip, 0), family=family) as listener:
        found = port_holder(listener.getsockname()[1])
    assert found.endswith(f"(pid {os.getpid()})")


def test_a_connection_that_went_out_over_the_port_is_found() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as out,
    ):
        assert f"(pid {os.getpid()})" in port_holder(out.getsockname()[1])


def test_a_port_of_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert port_holder(port) == ""
