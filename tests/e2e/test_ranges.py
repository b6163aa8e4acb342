"""Ports in a row: one target, one mapping, one lease; each port of it leads to one of the target's."""

from __future__ import annotations

import json
import signal
import socket
import threading
import urllib.request
from pathlib import Path

from tests.e2e.harness import (
    LOOPBACK,
    Lab,
    connect,
    free_port,
    free_ports,
    is_reset,
    listening,
    poll,
    read_all,
)
from tests.e2e.services import find
from tests.e2e.test_udp import Echo, visitor

ELSEWHERE = "127.0.0.2"


def says(lab: Lab, port: int, text: str) -> None:
    """A service on one port that says something to whoever comes."""
    sock = socket.create_server((LOOPBACK, port))
    lab.closing.callback(sock.close)

    def serve() -> None:
        while True:
            try:
                came, _ = sock.accept()
            except OSError:
                return
            with came:
                came.sendall(text.encode())

    threading.Thread(target=serve, daemon=True).start()


def heard(port: int) -> str:
    with connect(port) as sock:
        return read_all(sock).decode()


def row(ports: range) -> str:
    return f"{ports[0]}-{ports[-1]}"


def test_each_port_leads_to_its_own_and_all_come_back_together(lab: Lab) -> None:
    theirs, ours, api = free_ports(5), free_ports(12), free_port()
    for number, port in enumerate(theirs[:4]):
        says(lab, port, f"service {number}")
    options, state = ("--api", f"{LOOPBACK}:{api}"), Path(lab.new_folder("server-state"))
    server = lab.server(*options, ports=row(ours), state=state)
    to = f"{LOOPBACK}:{row(theirs)}?remote={row(ours[3:8])}"
    own = Path(lab.new_folder("worker-state"))
    worker = lab.worker(server, targets={"ftp": to}, state=own)
    poll("the mapping", lambda: f"-> {LOOPBACK}:{row(ours[3:8])}" in worker.stdout)
    assert [heard(port) for port in ours[3:7]] == [f"service {number}" for number in range(4)]
    assert is_reset(ours[7]), "nobody listens at the last one"
    with urllib.request.urlopen(f"http://{LOOPBACK}:{api}/list") as answer:
        (target,) = json.load(answer)["workers"][0]["targets"]
    assert (target["local"], target["listen"]) == (
        f"{LOOPBACK}:{row(theirs)}",
        f"{LOOPBACK}:{row(ours[3:8])}",
    )
    # Killed, and back with the same ports, also where it asks for none.
    server.stop(signal.SIGKILL)
    worker.stop()
    server = lab.server(*options, ports=row(ours), state=state, port=server.link_port)
    worker = lab.worker(server, targets={"ftp": f"{LOOPBACK}:{row(theirs)}", "one": theirs[0]}, state=own)
    worker.prints(f"ftp@.* -> {LOOPBACK}:{row(ours[3:8])}")
    assert heard(ours[4]) == "service 1"
    assert not any(int(worker.port("one")) == port for port in ours[3:8]), "the row is kept"


def test_a_row_is_had_whole_or_not_at_all(lab: Lab) -> None:
    theirs, ours = free_ports(4), free_ports(9)
    busy = socket.create_server((LOOPBACK, ours[5]))
    lab.closing.callback(busy.close)
    server = lab.server(ports=row(ours))
    many = free_ports(129)
    targets = {
        "a": f"{LOOPBACK}:{row(theirs)}?remote={row(ours[3:7])}",
        "b": f"{LOOPBACK}:{row(theirs)}",
        "c": f"{LOOPBACK}:{row(many)}",
    }
    worker = lab.worker(server, targets=targets)
    worker.says(f"port {ours[5]} of {row(ours[3:7])} is taken")
    worker.says("a worker may have 128 ports in all")
    worker.prints("b@")
    assert not any(listening(port) for port in (ours[6], ours[7])), "of the first row nothing is left"
    assert all(listening(port) for port in ours[:4]), "where the other one fits"
    for text, why in (
        (f"x@{LOOPBACK}:5000-5003?remote=6000", "remote=6000-6003"),
        (f"x@{LOOPBACK}:5003-5000", "write 5000-5003"),
        (f"x@{LOOPBACK}:1-20000", "write 16384 at the most"),
        (f"x@{LOOPBACK}:5000-5003?access=closed", "cannot be closed"),
    ):
        done = lab.aero("client", "--server", "localhost:1", "--target", text)
        assert done.returncode == 2 and why in done.stderr, done.stderr


def test_a_row_of_udp_ports_answers_from_the_port_that_was_asked(lab: Lab) -> None:
    echoes = [Echo(lab, port=port) for port in free_ports(3)]
    ours = free_ports(5)
    server = lab.server(ports=row(ours))
    to = f"{LOOPBACK}:{echoes[0].port}-{echoes[2].port}/udp?remote={row(ours[1:4])}"
    worker = lab.worker(server, targets={"rtp": to})
    worker.prints(f"-> {LOOPBACK}:{row(ours[1:4])}")
    with socket.socket(
        socket.AF_INET, socket.SOCK_DGRAM
    ) as one:  # the same visitor to all three, as RTP and RTCP do
        one.settimeout(10)
        one.bind((LOOPBACK, 0))
        for number, port in enumerate(ours[1:4]):
            one.sendto(b"to %d" % number, (LOOPBACK, port))
            data, whence = one.recvfrom(100)
            assert (data, whence) == (b"to %d" % number, (LOOPBACK, port))
    assert [len(echo.visitors) for echo in echoes] == [1, 1, 1]
    with visitor(ours[2]) as sock:
        sock.send(b"again")
        assert sock.recv(100) == b"again"
    assert len(echoes[1].visitors) == 2


def test_a_targets_own_port_is_in_its_proxy_header(lab: Lab) -> None:
    theirs, ours = free_ports(3), free_ports(4)
    for port in theirs:
        sock = socket.create_server((LOOPBACK, port))
        lab.closing.callback(sock.close)
        threading.Thread(target=_echo_line, args=(sock,), daemon=True).start()
    server = lab.server(ports=row(ours))
    to = f"{LOOPBACK}:{row(theirs)}?remote={row(ours[1:])}&proxy=v1"
    worker = lab.worker(server, targets={"x": to})
    worker.prints("x@")
    for port in ours[1:]:
        with connect(port) as visitor:
            mine = visitor.getsockname()[1]
            visitor.sendall(b"\n")
            assert read_all(visitor).decode() == f"PROXY TCP4 {LOOPBACK} {LOOPBACK} {mine} {port}\r\n"


def _echo_line(sock: socket.socket) -> None:
    came, _ = sock.accept()
    with came, came.makefile("rb") as lines:
        came.sendall(lines.readline())
        lines.readline()  # what is closed with something unread resets


def test_several_workers_share_a_row(lab: Lab) -> None:
    ours = free_ports(4)
    server = lab.server(ports=row(ours))
    key = lab.path("key")
    key.write_text("a key of the group's own")
    key.chmod(0o600)
    for number in range(2):
        theirs = free_ports(3)
        for offset, port in enumerate(theirs):
            says(lab, port, f"{number}.{offset}")
        to = f"{LOOPBACK}:{row(theirs)}?group=g&group-key=@{key}"
        worker = lab.worker(
            server, targets={"x": to}, tag=f"w{number}", state=Path(lab.new_folder(f"s{number}"))
        )
        worker.prints("x@")
    first = ours[0] if listening(ours[0]) else ours[1]
    for offset in range(3):
        assert {heard(first + offset) for _ in range(4)} == {f"0.{offset}", f"1.{offset}"}


def test_ftp_with_passive_ports(lab: Lab) -> None:
    """vsftpd opens a port of its range for each transfer; visitors find it at the same number."""
    control, ours = free_port(), free_ports(5)
    passive = ours[1:]
    folder = lab.new_folder("ftp")
    folder.chmod(0o755)
    (folder / "file").write_bytes(bytes(range(256)) * 4096)
    config = lab.path("vsftpd.conf")
    config.write_text(
        f"listen=YES\nlisten_address={LOOPBACK}\nlisten_port={control}\nanonymous_enable=YES\nlocal_enable=NO\n"
        f"anon_root={folder}\npasv_min_port={passive[0]}\npasv_max_port={passive[-1]}\npasv_address={ELSEWHERE}\n"
        f"background=NO\nsecure_chroot_dir={lab.new_folder('empty')}\nseccomp_sandbox=NO\n"
    )
    lab.start([find("vsftpd"), str(config)])
    poll("vsftpd to listen", lambda: listening(control))
    # The server is another machine to its visitors: it has the same numbers at an address of its own.
    server = lab.server(ports=row(ours), ip=ELSEWHERE)
    targets = {
        "ftp": f"{LOOPBACK}:{control}?remote={ours[0]}",
        "data": f"{LOOPBACK}:{row(passive)}?remote={row(passive)}",
    }
    worker = lab.worker(server, targets=targets, server_host=ELSEWHERE)
    worker.prints(f"data@.* -> {ELSEWHERE}:{row(passive)}")
    assert worker.port("ftp") == ours[0]
    curl = [find("curl"), "-sS", "--disable-epsv", "--no-ftp-skip-pasv-ip"]
    got = lab.path("got")
    for _ in range(3):
        lab.check([*curl, f"ftp://{ELSEWHERE}:{ours[0]}/file", "-o", str(got)])
        assert got.read_bytes() == bytes(range(256)) * 4096
    assert "file" in lab.check([*curl, f"ftp://{ELSEWHERE}:{ours[0]}/"])
