"""Listening: which sockets, on what port, and what is told of whom."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections import Counter
from pathlib import Path
from typing import Any

import gevent
import pytest

from aero.address import Address, UnixPath
from aero.errors import ListenError
from aero.net import listen
from aero.net.listen import (
    ACCEPT_S,
    Listener,
    close_all,
    listen_all,
    listen_at,
    listen_or_explain,
    listen_unix,
    needed,
)
from tests.faults.inside import until


@pytest.mark.parametrize("raw", [True, False])
def test_ipv4_is_called_ipv4_where_one_socket_listens_for_both(
    raw: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "_HAS_RAW_ACCEPT", raw)
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


def test_all_addresses_share_one_port_or_none_is_kept() -> None:
    first = listen_all(("127.0.0.1", "127.0.0.2"), 0)
    port = first[0].getsockname()[1]
    try:
        assert [sock.getsockname() for sock in first] == [("127.0.0.1", port), ("127.0.0.2", port)]
        with pytest.raises(OSError, match="in use"):
            listen_all(("127.0.0.3", "127.0.0.2"), port)
        close_all(listen_all(("127.0.0.3",), port))  # what the failed try had bound is free again
    finally:
        close_all(first)


def test_a_port_that_is_taken_is_said_with_its_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ListenError, match=f"port {port} on 127.0.0.1 is taken .* --port"):
            listen_or_explain(("127.0.0.1",), port, "--port")
        with pytest.raises(ListenError, match="taken by another program; choose another address with --mux"):
            listen_at(Address("127.0.0.1", port), "--mux")


def test_an_address_that_is_not_here() -> None:
    with pytest.raises(ListenError, match=r"no address of this machine.*--ip"):
        listen_or_explain(("192.0.2.1",), 0, "--port")
    with pytest.raises(ListenError, match="--api"):
        listen_at(Address("192.0.2.1", 0), "--api")


@pytest.mark.parametrize(
    ("ips", "sockets"),
    [
        (("0.0.0.0",), ("0.0.0.0",)),
        (("0.0.0.0", "127.0.0.1"), ("0.0.0.0",)),
        (("127.0.0.1", "0.0.0.0", "10.0.0.1"), ("0.0.0.0",)),
        (("0.0.0.0", "::1"), ("0.0.0.0", "::1")),
        (("0.0.0.0", "::"), ("::",)),
        (("::", "::1", "127.0.0.1"), ("::",)),
        (("127.0.0.1", "::1"), ("127.0.0.1", "::1")),
    ],
)
def test_one_socket_for_addresses_that_another_covers(ips: tuple[str, ...], sockets: tuple[str, ...]) -> None:
    assert needed(ips) == sockets
    socks = listen_all(ips, 0) if "10.0.0.1" not in ips else []
    close_all(socks)


def test_localhost_needs_no_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> None:
        raise socket.gaierror("no resolver here")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    for name in ("localhost", "LOCALHOST.", "api.localhost"):
        socks = listen_at(Address(name, 0), "--api")
        assert [sock.getsockname()[0] for sock in socks][:1] == ["127.0.0.1"]
        close_all(socks)
    with pytest.raises(ListenError, match=r"cannot find the address of localhost\.example"):
        listen_at(Address("localhost.example", 0), "--api")


@pytest.mark.parametrize("doors", [1, 3])
def test_a_flood_gets_a_short_time_a_turn_however_many_doors_it_comes_through(doors: int) -> None:
    loop = gevent.get_hub().loop
    accepted: list[float] = []  # the turn of each

    def serve(sock: socket.socket, address: Any) -> None:
        accepted.append(loop.now())
        time.sleep(ACCEPT_S / 2)  # what opening a stream costs, in a bad moment
        sock.close()

    socks = [sock for _ in range(doors) for sock in listen_all(("127.0.0.1",), 0)]
    visitors = [socket.create_connection(sock.getsockname()) for sock in socks for _ in range(12)]
    listeners = [Listener(loop, sock, serve) for sock in socks]
    until("all visitors", lambda: len(accepted) == len(visitors))
    assert max(Counter(accepted).values()) <= 2 + doors, "two in the time, and one at each other door"
    for each in (*listeners, *visitors):
        each.close()


def test_without_descriptors_visitors_wait_in_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "PAUSE_S", 0.01)
    came: list[Any] = []
    (sock,) = listen_all(("127.0.0.1",), 0)

    class Exhausted:
        """A listening socket of a process that has no descriptor left, for two tries."""

        tries = 0

        def accept(self) -> Any:
            self.tries += 1
            if self.tries <= 2:
                raise OSError(errno.EMFILE, "Too many open files")
            return sock.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(sock, name)

    listener = Listener(gevent.get_hub().loop, Exhausted(), lambda sock, address: came.append(sock))  # type: ignore[arg-type]
    with socket.create_connection(sock.getsockname()):
        until("the visitor", lambda: came)
        listener.close()
        came[0].close()


def test_while_a_door_is_busy_visitors_wait_in_the_kernel() -> None:
    busy = True
    came: list[Any] = []
    (sock,) = listen_all(("127.0.0.1",), 0)
    listener = Listener(
        gevent.get_hub().loop, sock, lambda sock, address: came.append(sock), lambda: busy or len(came) == 1
    )
    visitors = [socket.create_connection(sock.getsockname()) for _ in range(3)]
    gevent.sleep(0.05)  # some turns of the loop, in which nobody may come
    assert not came
    busy = False
    until("one", lambda: came)
    gevent.sleep(0.05)  # the same
    assert len(came) == 1
    listener.close()
    for each in (*visitors, *came):
        each.close()


# ----------------------------------------------------------------------------
# A path in the file system
# ----------------------------------------------------------------------------


def test_a_path_is_for_its_owner_and_what_is_dead_there_is_replaced(tmp_path: Path) -> None:
    where = UnixPath(str(tmp_path / "api"))
    first = listen_unix(where, "--api")
    assert stat.S_IMODE(os.stat(where.path).st_mode) == 0o600
    with pytest.raises(ListenError, match=r"unix:.*api: it is taken; choose another path with --api"):
        listen_unix(where, "--api")
    first.close()  # its file stays, as after a kill
    second = listen_unix(where, "--api")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(where.path)
    second.close()


def test_a_path_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "api").write_text("mine")
    for path in (tmp_path / "api", tmp_path, tmp_path / "nowhere" / "api"):
        with pytest.raises(ListenError, match="--api"):
            listen_unix(UnixPath(str(path)), "--api")
    assert (tmp_path / "api").read_text() == "mine"
    mask = os.umask(0o022)
    os.umask(mask)
    assert mask != 0o177, "the process' own mask is as it was"
