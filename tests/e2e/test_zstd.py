"""Compression between worker and server: what it saves, what it leaves alone, and peers that do not have it."""

from __future__ import annotations

import json
import random
import signal
import socket
import threading
from pathlib import Path

import pytest

from tests.e2e import services
from tests.e2e.harness import COMMAND, LOOPBACK, Lab, Server, Worker, connect, poll, read_all
from tests.e2e.mux import Mux

ROWS = [{"id": each, "name": f"visitor {each % 97}", "paid": each % 3 == 0} for each in range(30_000)]
TEXT = json.dumps(ROWS, indent=1).encode()  # 2 MB
NOISE = random.Random(1).randbytes(2_000_000)
#: Hides zstd from a process, as on a host that has none of it.
HIDDEN = """
import ctypes, sys
sys.modules["compression"] = sys.modules["backports"] = None
real = ctypes.PyDLL
def load(name, *rest, **options):
    if "zstd" in str(name):
        raise OSError(f"{name}: cannot open shared object file")
    return real(name, *rest, **options)
ctypes.PyDLL = load
"""


def without_zstd(lab: Lab) -> dict[str, str]:
    folder = lab.new_folder("hidden")
    Path(folder, "sitecustomize.py").write_text(HIDDEN)
    return {"PYTHONPATH": str(folder)}


def both_ways(sock: socket.socket) -> None:
    """Sends TEXT and takes what the visitor sends; says how much that was."""
    sock.settimeout(60)
    threading.Thread(target=sock.sendall, args=(TEXT,), daemon=True).start()
    left = len(TEXT)
    while left:
        left -= len(sock.recv(min(left, 65536)))
    sock.sendall(b"all")


def exchange(port: int) -> None:
    """A visitor of ``both_ways``."""
    with connect(port) as visitor:
        visitor.settimeout(60)
        threading.Thread(target=visitor.sendall, args=(TEXT,), daemon=True).start()
        assert read_all(visitor) == TEXT + b"all"


def path(
    lab: Lab, server: Server, target: int, options: str, **env: dict[str, str]
) -> tuple[Worker, services.Relay]:
    relay = services.Relay(lab, server.link_port)
    return lab.worker(relay.port, targets={"web": f"{LOOPBACK}:{target}{options}"}, **env), relay  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_text_takes_a_fraction_both_ways_and_noise_no_more_than_before(lab: Lab, mode: str) -> None:
    server = lab.server()
    worker, relay = path(lab, server, services.serve(lab, both_ways), f"?zstd={mode}")
    exchange(worker.port("web"))
    assert relay.carried < len(TEXT) / 2  # a quarter of the two
    for each in (server, worker):
        each.send(signal.SIGUSR1)
        each.says(r'zstd="sent \d+ for \d{4} KiB, received \d+ for \d{4} KiB"')
    worker, relay = path(lab, server, services.serve(lab, lambda sock: sock.sendall(NOISE)), f"?zstd={mode}")
    with connect(worker.port("web")) as visitor:
        assert read_all(visitor) == NOISE
    assert len(NOISE) < relay.carried < len(NOISE) * 1.02
    assert "no zstd" not in server.stderr + worker.stderr


def test_streams_go_on_over_a_new_link_in_the_middle_of_it(lab: Lab) -> None:
    server = lab.server()
    worker, relay = path(lab, server, services.serve(lab, both_ways), "?zstd=auto")
    port = worker.port("web")
    cuts = 0
    with connect(port) as visitor:
        visitor.settimeout(60)
        threading.Thread(target=visitor.sendall, args=(TEXT,), daemon=True).start()
        got = bytearray()
        while len(got) < len(TEXT) + 3:
            got += visitor.recv(65536)
            if cuts < 4 and len(got) > (cuts + 1) * len(TEXT) // 5:
                cuts += 1
                poll("a link", lambda: relay.connections)
                relay.cut(0)
        assert got == TEXT + b"all"
    assert cuts == 4
    assert len(worker.stderr.split("link resumed")) > 2


def test_a_peer_without_zstd_gets_everything_as_it_is_and_says_so_once(lab: Lab) -> None:
    target = services.serve(lab, both_ways)
    for lacks in ("server", "worker"):
        env = without_zstd(lab)
        server = lab.server(env=env if lacks == "server" else None, state=lab.path(f"server-of-{lacks}"))
        worker, relay = path(lab, server, target, "?zstd=on", **({"env": env} if lacks == "worker" else {}))
        exchange(worker.port("web"))
        assert relay.carried > 2 * len(TEXT)
        program = server if lacks == "server" else worker
        assert program.stderr.count("this host has no zstd: streams go uncompressed") == 1
        assert ('ignored="zstd=on"' in worker.stderr) == (lacks == "server")
        worker.stop()


def test_the_workers_default_holds_for_targets_without_a_word_of_their_own(lab: Lab) -> None:
    server = lab.server()
    relay = services.Relay(lab, server.link_port)
    target = services.serve(lab, lambda sock: sock.sendall(TEXT))
    targets = {"web": target, "raw": f"{LOOPBACK}:{target}?zstd=off"}
    worker = lab.worker(relay.port, "--zstd", "auto", targets=targets)
    for name in ("web", "raw"):
        before = relay.carried
        with connect(worker.port(name)) as visitor:
            assert read_all(visitor) == TEXT
        assert (relay.carried - before < len(TEXT) / 3) == (name == "web")


def test_a_target_that_wants_it_after_a_reload_gets_it_with_the_next_link(lab: Lab) -> None:
    server = lab.server()
    relay = services.Relay(lab, server.link_port)
    target = services.serve(lab, lambda sock: sock.sendall(TEXT))
    config = lab.path("aero.toml")
    config.write_text(f'[client]\ntarget = "web@{LOOPBACK}:{target}?zstd=off"\n')
    argv = [
        *COMMAND,
        "client",
        "--server",
        f"{LOOPBACK}:{relay.port}",
        "--auth",
        lab.code,
        "--config",
        str(config),
    ]
    worker = lab.start([*argv, "--state", str(lab.path("worker-state"))])

    def taken() -> int:
        before, port = relay.carried, worker.stdout.split()[-1].rpartition(":")[2]
        with connect(int(port)) as visitor:
            assert read_all(visitor) == TEXT
        return relay.carried - before

    worker.prints(" -> ")
    assert taken() > len(TEXT)
    config.write_text(f'[client]\ntarget = "web@{LOOPBACK}:{target}?zstd=auto"\n')
    worker.send(signal.SIGHUP)
    worker.says("begins with the next link")
    poll("the target to be registered anew", lambda: worker.stdout.count(" -> ") == 2)
    assert taken() > len(TEXT)
    relay.cut(0)
    worker.says("link resumed")
    assert taken() < len(TEXT) / 3


def test_the_mux_hands_on_what_was_compressed(lab: Lab) -> None:
    mux = Mux(lab)
    body = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(TEXT) + TEXT
    )
    posted: list[int] = []

    def answer(sock: socket.socket) -> None:
        sock.settimeout(60)
        while head := _head(sock):
            left = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0] or 0)
            posted.append(left)
            while left:
                left -= len(sock.recv(min(left, 65536)))
            sock.sendall(body)

    worker, relay = path(lab, mux.server, services.serve(lab, answer), "?zstd=auto")
    worker.port("web")
    with connect(mux.port) as visitor:
        visitor.settimeout(60)
        for _ in range(3):
            visitor.sendall(
                b"POST /t/web/ HTTP/1.1\r\nHost: mux.test\r\nContent-Length: %d\r\n\r\n" % len(TEXT) + TEXT
            )
            head = _head(visitor)
            assert head.startswith(b"HTTP/1.1 200")
            got = bytearray()
            while len(got) < len(TEXT):
                got += visitor.recv(65536)
            assert got == TEXT
    assert posted == [len(TEXT)] * 3
    assert relay.carried < 6 * len(TEXT) / 4


def _head(sock: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            return b""
        head += byte
    return head
