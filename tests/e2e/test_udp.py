"""UDP targets, seen from both ends: datagrams whole and in order of nothing, visitors told apart, flows that end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from tests.e2e import services
from tests.e2e.harness import (
    COMMAND,
    LOOPBACK,
    Lab,
    Program,
    Worker,
    connect,
    free_port,
    free_ports,
    listening,
    poll,
)


class Echo:
    """A UDP service in this process: sends every datagram back, and remembers who asked."""

    def __init__(self, lab: Lab, host: str = LOOPBACK, port: int = 0) -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.bind((host, port))
        self.port = int(self.sock.getsockname()[1])
        self.visitors: set[object] = set()
        threading.Thread(target=self._serve, daemon=True).start()
        lab.closing.callback(self.close)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, visitor = self.sock.recvfrom(65_536)
                if data == b"stop":
                    return
                self.visitors.add(visitor)
                self.sock.sendto(data, visitor)

    def close(self) -> None:
        with visitor(self.port, self.sock.getsockname()[0]) as last:
            last.send(b"stop")
        self.sock.close()


def visitor(port: int, host: str = LOOPBACK) -> socket.socket:
    """A socket that asks one mapping alone."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(10)
    sock.connect((host, port))
    return sock


def ask(sock: socket.socket, data: bytes) -> None:
    """What is sent comes back, in one piece."""
    sock.send(data)
    assert sock.recv(65_536) == data


def answers(sock: socket.socket, data: bytes = b"there?") -> bool:
    """Whether the mapping answers now; asks again while it does not."""
    sock.settimeout(0.2)
    with contextlib.suppress(OSError):
        sock.send(data)
        return sock.recv(65_536) == data
    return False


def test_datagrams_arrive_whole_both_ways_and_visitors_are_told_apart(lab: Lab) -> None:
    echo = Echo(lab)
    _, worker = lab.tunnel({"echo": f"{LOOPBACK}:{echo.port}/udp"})
    with visitor(worker.port("echo")) as one, visitor(worker.port("echo")) as other:
        for size in (0, 1, 512, 1200, 9000, 65_507, 0, 65_507):
            ask(one, os.urandom(size))
        ask(other, b"somebody else")
        assert len(echo.visitors) == 2
        for _ in range(300):
            ask(one, b"one flow, one socket")
        assert len(echo.visitors) == 2


def test_tcp_and_udp_share_a_name_and_a_number_and_keep_them(lab: Lab) -> None:
    echo, tcp = Echo(lab), services.echo(lab)
    low = free_ports(20)[0]
    server = lab.server(ports=f"{low}-{low + 19}", state=lab.path("state"))
    both = f"{LOOPBACK}:{echo.port}/udp,echo@{LOOPBACK}:{tcp}?remote={low + 7}"
    worker = lab.worker(server, targets={"echo": both})
    poll("both mappings", lambda: worker.stdout.count("->") == 2)
    port = worker.port("echo")
    assert worker.stdout.count(f":{low + 7}\n") == 2 and port == low + 7
    with connect(port) as stream, visitor(port) as sock:
        stream.sendall(b"by TCP")
        assert stream.recv(100) == b"by TCP"
        ask(sock, b"by UDP")
        flow = set(echo.visitors)
        state = Path(server.argv[server.argv.index("--state") + 1])
        server.stop()
        again = lab.server(port=server.link_port, ports=f"{low}-{low + 19}", state=state)
        poll("the worker to be back", lambda: answers(sock, b"after the restart"))
        assert echo.visitors > flow  # another session, another flow
        assert again.running


def test_what_a_reload_adds_and_removes(lab: Lab) -> None:
    first, second = Echo(lab), Echo(lab)
    config = lab.path("aero.toml")

    def write(*targets: str) -> None:
        config.write_text("[client]\ntarget = [" + ", ".join(f'"{each}"' for each in targets) + "]\n")

    write(f"a@{LOOPBACK}:{first.port}/udp")
    server = lab.server()
    worker = lab.start(
        [*COMMAND, "client", "--server", f"{LOOPBACK}:{server.link_port}", "--auth", lab.code, "--tag", "t"]
        + ["--config", str(config), "--state", str(lab.path("worker-state"))],
        name="worker",
    )
    a = port_of(worker, "a")
    with visitor(a) as kept:
        ask(kept, b"before")
        write(f"a@{LOOPBACK}:{first.port}/udp", f"b@{LOOPBACK}:{second.port}/udp?idle=5")
        worker.send(signal.SIGHUP)
        b = port_of(worker, "b")
        with visitor(b) as new:
            ask(new, b"added")
            ask(kept, b"untouched")
            assert len(first.visitors) == 1
            write(f"b@{LOOPBACK}:{second.port}/udp?idle=5")
            worker.send(signal.SIGHUP)
            kept.settimeout(0.2)
            poll("the mapping to be gone", lambda: is_refused(kept))
            ask(new, b"still there")


def port_of(worker: Program, name: str) -> int:
    return int(worker.prints(rf"^{name}@.*:(\d+)\s*$")[1])


def is_refused(sock: socket.socket) -> bool:
    try:
        sock.send(b"?")
        sock.recv(100)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def test_a_target_that_refuses_ends_the_flow_and_is_found_when_it_is_there(lab: Lab) -> None:
    spare = Echo(lab)
    target = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    target.bind((LOOPBACK, 0))
    where = target.getsockname()
    target.close()
    server, worker = lab.tunnel(
        {"gone": f"{LOOPBACK}:{where[1]}/udp", "spare": f"{LOOPBACK}:{spare.port}/udp"}
    )
    with visitor(worker.port("gone")) as sock:
        sock.send(b"anybody?")
        worker.says("target does not answer.*refused")
        with visitor(worker.port("spare")) as other:
            ask(other, b"others go on")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
            late.bind(where)
            late.settimeout(0.2)

            def came() -> bool:
                sock.send(b"now?")
                with contextlib.suppress(OSError):
                    return late.recvfrom(100)[0] == b"now?"
                return False

            poll("a datagram at the target that has come", came)
    assert server.running and worker.running


def test_a_name_that_does_not_resolve_ends_the_flow(lab: Lab) -> None:
    _, worker = lab.tunnel({"lost": "no-such-host.invalid:53/udp"})
    with visitor(worker.port("lost")) as sock:
        sock.send(b"?")
        worker.says("target does not answer.*no-such-host.invalid does not resolve")


@pytest.mark.parametrize(("ip", "asked"), [("0.0.0.0", "127.0.0.2"), ("::", "::1"), ("::", "127.0.0.3")])
def test_an_answer_comes_from_the_address_that_was_asked(lab: Lab, ip: str, asked: str) -> None:
    """A connected socket takes no other; IPv6 visitors of an IPv4 target and back with it."""
    echo = Echo(lab)
    server = lab.server(ip=ip)
    worker = lab.worker(server, targets={"echo": f"{LOOPBACK}:{echo.port}/udp"})
    with visitor(worker.port("echo"), asked) as sock:
        ask(sock, b"who answers?")


def test_an_ipv6_target_of_ipv4_visitors(lab: Lab) -> None:
    echo = Echo(lab, "::1")
    _, worker = lab.tunnel({"six": f"[::1]:{echo.port}/udp", "name": f"localhost:{echo.port}/udp"})
    for name in ("six", "name"):  # localhost is 127.0.0.1 first, where nobody listens
        with visitor(worker.port(name)) as sock:
            ask(sock, b"six")


def test_a_flow_that_nobody_uses_ends_at_both_ends(lab: Lab) -> None:
    echo = Echo(lab)
    _, worker = lab.tunnel({"echo": f"{LOOPBACK}:{echo.port}/udp?idle=5"})
    with visitor(worker.port("echo")) as sock:
        ask(sock, b"hello")
        before = descriptors(worker)
        poll("the flow to end", lambda: descriptors(worker) < before)
        ask(sock, b"and again")
        assert len(echo.visitors) == 2


def descriptors(worker: Worker) -> int:
    return len(os.listdir(f"/proc/{worker.pid}/fd"))


# Real programs


def dns(lab: Lab) -> tuple[str, int]:
    """A dnsmasq that knows `*.lab` (10.1.2.3), and `big.lab` and `huge.lab` with texts of 2 and 8 KB; where it is."""
    port, config = free_port(), lab.path("dnsmasq.conf")
    lines = [
        f"txt-record={name}.lab,{number:03d}{'x' * 197}\n"
        for name, count in (("big", 10), ("huge", 40))
        for number in range(count)
    ]
    config.write_text("".join(lines))
    argv = [services.find("dnsmasq"), "--keep-in-foreground", "--no-resolv", "--no-hosts", "--pid-file="]
    argv += [f"--conf-file={config}", f"--port={port}", f"--listen-address={LOOPBACK}", "--bind-interfaces"]
    argv += ["--user=root", "--address=/lab/10.1.2.3", "--edns-packet-max=4096", "--cache-size=0"]
    lab.start(argv, name="dnsmasq")
    poll("dnsmasq to listen", lambda: listening(port))
    return LOOPBACK, port


def dig(lab: Lab, port: int, *arguments: str, timeout_s: float = 120) -> str:
    where = [f"@{LOOPBACK}", "-p", str(port), "+tries=1", "+time=5"]
    return lab.check([services.find("dig"), *where, *arguments], timeout_s=timeout_s)


def by_dns(lab: Lab) -> int:
    """A tunnel to a name server by both protocols on one number, which it returns."""
    host, port = dns(lab)
    _, worker = lab.tunnel({"dns": f"{host}:{port},dns@{host}:{port}/udp"})
    poll("both mappings", lambda: worker.stdout.count("->") == 2)
    ports = {line.rpartition(":")[2] for line in worker.stdout.splitlines()}
    assert len(ports) == 1, worker.stdout
    return int(ports.pop())


def test_a_name_server_by_both_protocols(lab: Lab) -> None:
    port = by_dns(lab)
    names = lab.path("names")
    names.write_text("".join(f"host{number}.lab A\n" for number in range(300)))
    assert dig(lab, port, "-f", str(names), "+short").splitlines() == ["10.1.2.3"] * 300
    assert len(dig(lab, port, "big.lab", "TXT", "+short", "+bufsize=4096", "+ignore").splitlines()) == 10
    cut = dig(lab, port, "huge.lab", "TXT", "+bufsize=4096", "+ignore")
    assert " tc" in cut.partition("flags:")[2].partition(";")[0]
    assert len(dig(lab, port, "huge.lab", "TXT", "+short", "+bufsize=4096").splitlines()) == 40  # by TCP


@pytest.mark.programs
@pytest.mark.timeout(300)
def test_ten_thousand_queries_and_none_is_lost(lab: Lab) -> None:
    """One after the other: several digs at once may pick the same port, and lose answers to each other."""
    port = by_dns(lab)
    names = lab.path("names")
    names.write_text("".join(f"host{number}.lab A\n" for number in range(10_000)))
    assert dig(lab, port, "-f", str(names), "+short", timeout_s=250).splitlines() == ["10.1.2.3"] * 10_000


def test_a_rate_limit_holds_for_datagrams(lab: Lab) -> None:
    echo = Echo(lab)
    _, worker = lab.tunnel({"echo": f"{LOOPBACK}:{echo.port}/udp?limit=20KiB"})
    with visitor(worker.port("echo")) as sock:
        ask(sock, b"hello")
        sock.settimeout(0.5)
        for _ in range(200):
            sock.send(bytes(1200))
        back = 0
        with contextlib.suppress(OSError):
            while True:
                back += len(sock.recv(2000))
        assert 0 < back < 150_000
