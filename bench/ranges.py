"""What ports in a row cost: one target with many of them, and beside it as many targets with one each.

    python3 bench/ranges.py [PORTS ...]       default: 1000 10000

Each row is a process of its own that runs a server's registry without a network: it registers, lists, and goes. So
the figures are those of the server alone; times are the processor's, also the longest turn of the loop. Where other
programs have some of the ports: unshare -n sh -c "ip link set lo up; python3 bench/ranges.py".
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path
from time import process_time
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
FIRST = 10_000


def memory_kib() -> int:
    """What this process has in memory now, without files."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def free(port: int, proto: str) -> bool:
    """Whether a port can be had."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def measure(kind: str, count: int, proto: str) -> dict[str, Any]:
    """``kind``: "one" target with all ports, or as "many" targets."""
    import gevent

    from aero.core.control import Answer, Wanted
    from aero.limits import Limits
    from aero.net.announced import Announcers
    from aero.net.loop import event_loop
    from aero.server.policy.proxies import Trust
    from aero.server.policy.rules import Rule, Users
    from aero.server.registry.doors import tcp, udp
    from aero.server.registry.ports.ports import Ports
    from aero.server.registry.registry import Registry
    from aero.server.registry.tenants import Tenants
    from aero.server.store.database import Database
    from aero.server.store.leases import Leases
    from aero.server.watch.counters import Counters
    from aero.server.watch.events import Events

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Limits.LEASES_PER_IDENTITY = Limits.LEASES_PER_ADDRESS = Limits.WAITING_TARGETS = 1 << 20  # type: ignore[misc]
    loop, leases = event_loop(), Leases(Database(""))
    door = tcp if proto == "tcp" else udp
    ports = Ports(proto, door.bind, ("127.0.0.1",), 1024, 65535, leases, 1e9)
    rule = Rule(ports=((FIRST, FIRST + count - 1),))
    registry = Registry(
        loop,
        {proto: ports},
        Events(),
        Counters(),
        Announcers.build(loop, Trust(())),
        Tenants(Users(default=rule)),
    )
    worker = registry.add("", "t", "h", "i", "192.0.2.1:5")
    worker.limits = Limits(TARGETS_PER_WORKER=1 << 20)
    if proto == "udp":
        worker.sessions.append(type("Session", (), {"flows": object(), "alive": True, "ended": False})())
    last = f"-{5000 + count - 1}" if kind == "one" and count > 1 else ""
    wanted = [
        Wanted(
            each + 1, f"n{each}", f"127.0.0.1:5000{last}", FIRST + each, proto=proto, row=count if last else 1
        )
        for each in range(1 if kind == "one" else count)
    ]
    answers: list[Answer] = []
    turns: list[float] = []
    watching = True

    def look() -> None:
        at = process_time()
        while watching:
            gevent.sleep(0)
            now = process_time()
            turns.append(now - at)
            at = now

    gevent.spawn(look)
    gevent.sleep(0.1)
    turns.clear()
    before, began = memory_kib(), process_time()
    worker.register(wanted, answers.extend)
    while len(answers) < len(wanted):
        gevent.sleep(0.001)
    took_s, grown = process_time() - began, memory_kib() - before
    assert not any(each.error for each in answers), answers[0]
    listed = json.dumps(
        [
            {"name": each.name, "local": each.local, "listen": each.addresses}
            for each in worker.mappings.values()
        ]
    )
    opened, began = max(turns, default=0.0), process_time()
    turns.clear()
    registry.remove(worker, "the measurement is over")
    while not free(FIRST + count - 1, proto):
        gevent.sleep(0.001)
    gone_s = process_time() - began
    watching = False
    return {
        "took_s": took_s, "kib": grown, "turn_ms": 1000 * opened, "gone_s": gone_s,
        "gone_turn_ms": 1000 * max(turns, default=0.0), "listed": len(listed), "leases": len(leases),
    }  # fmt: skip


def main(counts: list[int]) -> None:
    """Prints a table."""
    print(
        "| ports | as | registered, s | MB | longest turn, ms | gone, s | longest turn, ms | list bytes | leases |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for count in counts:
        for kind, proto in (("one", "tcp"), ("many", "tcp"), ("one", "udp")):
            argv = [sys.executable, __file__, "--row", kind, str(count), proto]
            row = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
            name = f"{'one target' if kind == 'one' else 'targets'}, {proto.upper()}"
            print(
                f"| {count} | {name} | {row['took_s']:.2f} | {row['kib'] / 1024:.1f} | {row['turn_ms']:.1f}"
                f" | {row['gone_s']:.2f} | {row['gone_turn_ms']:.1f} | {row['listed']} | {row['leases']} |",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--row"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]), sys.argv[4])))
    else:
        main([int(text) for text in sys.argv[1:]] or [1000, 10_000])
