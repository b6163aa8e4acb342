"""Limits of rate between real processes: both directions hold, and small messages do not wait."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time

from tests.e2e import services
from tests.e2e.harness import Lab, connect, exchange

MB = 1_000_000


def moved(port: int, count: int, send: bool) -> float:
    """Seconds for so many bytes to the echo service and back, or from it alone."""
    began = time.monotonic()
    with connect(port) as visitor:
        assert exchange(visitor, b"x" * count)
    return time.monotonic() - began


def test_a_targets_limit_holds_in_both_directions(lab: Lab) -> None:
    server = lab.server()
    worker = lab.worker(server, targets={"echo": f"127.0.0.1:{services.echo(lab)}?limit=2MB"})
    port = worker.port("echo")
    with connect(port) as typing:
        assert exchange(typing, b"before")
        took_s = moved(port, 6 * MB, send=True)
        # Each direction by itself: 3 s, and at the beginning a tenth of a second's worth at once.
        assert 2.6 < took_s < 6
        assert exchange(typing, b"after")


#: A worker that was made to ignore what the server tells it about rates.
DEAF = (
    "import sys; sys.argv[0] = 'aero'; from aero.worker.targets import Services; Services.limit = lambda *_: None;"
    " from aero.cli.main import main; sys.exit(main())"
)


def source(lab: Lab) -> int:
    """A service that sends for as long as anybody reads."""
    listener = socket.create_server(("127.0.0.1", 0))
    lab.closing.callback(listener.close)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                visitor, _ = listener.accept()
                with contextlib.suppress(OSError), visitor:
                    while True:
                        visitor.sendall(bytes(65536))

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def test_credit_holds_back_a_worker_that_ignores_its_rates(lab: Lab) -> None:
    server = lab.server()
    deaf = (sys.executable, "-c", DEAF, "client")
    worker = lab.worker(server, targets={"all": f"127.0.0.1:{source(lab)}?limit=2MB"}, command=deaf)
    got, until = 0, time.monotonic() + 6.0
    with connect(worker.port("all")) as visitor:
        while time.monotonic() < until:
            got += len(visitor.recv(1 << 20))
    # Two seconds ahead, a tenth faster, and what was on its way; without credit held back it is a hundred times that.
    assert 4 * MB < got < 40 * MB, got
