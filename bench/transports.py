"""What each carriage of a link costs beside plain TCP, and other tools that go through WebSocket.

Runs take turns, so that each ratio is of two that were seconds apart.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import backends
import host
import measures
import others
import peers
from rounds import Bench, number_text

SCHEMES = ("tcp", "tls", "ws", "wss")
GROUPS = ("bulk", "rps", "rtt", "startup")


class Carried(peers.Aero):
    """aero over one carriage."""

    def __init__(
        self, scheme: str, lab: host.Lab, targets: Mapping[str, int], command: Sequence[str]
    ) -> None:
        options = ["--tls-insecure"] if scheme in ("tls", "wss") else []
        super().__init__(lab, targets, command, worker_options=options)
        self.scheme = scheme

    @property
    def label(self) -> str:
        return self.scheme

    def way_to_server(self) -> str:
        return f"{self.scheme}://{super().way_to_server()}"


class FrpByWebSocket(others.Frp):
    """frp whose client asks for a WebSocket, with frp's own TLS inside, as by default."""

    @property
    def label(self) -> str:
        return "frp, websocket"

    def write(self, name: str, text: str) -> Path:
        if name.startswith("frpc"):
            text = re.sub(
                r"^(serverPort.*)$", r'\1\ntransport.protocol = "websocket"', text, count=1, flags=re.M
            )
        return super().write(name, text)


OTHERS: Mapping[str, type[others.Tool]] = {
    "frp": FrpByWebSocket,
    "chisel": others.Chisel,
    "wstunnel": others.Wstunnel,
}


def table(bench: Bench, groups: Sequence[measures.Group], tunnels: Sequence[peers.Peer]) -> str:
    """A line for each row: plain TCP's figure, and for each other column the median of its ratios to that."""
    lines = [
        ["", "unit", *(tunnel.label for tunnel in tunnels)],
        ["---", "---", *("--:" for _ in tunnels)],
    ]
    for row in (row for group in groups for row in group.rows):
        base = bench.median(0, row.key)
        if base is None:
            continue
        cells = [number_text(base)]
        for column in range(1, len(tunnels)):
            ratios = bench.ratios(column, 0, row.key)
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "–")
        lines.append([row.title, row.unit, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Compare the carriages of a link; the table goes to stdout, progress to stderr.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--only", default=",".join(GROUPS), help="groups of rows")
    parser.add_argument("--schemes", default=",".join(SCHEMES), help="carriages, the first is the base")
    parser.add_argument("--others", default="", help=f"tools beside, of {','.join(OTHERS)}")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="runs for each figure")
    parser.add_argument("--seconds", type=int, default=2, metavar="S", help="length of one timed run")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="the interpreter for aero")
    return parser.parse_args(argv)


def main() -> int:
    """Measure what the command line asks for; 1 when a run failed."""
    arguments = parse()
    groups = [group for group in measures.GROUPS if group.name in arguments.only.split(",")]
    host.require(measures.PACKAGES)
    command = [arguments.python, "aero.py"]
    with host.Lab() as lab:
        targets = backends.Backends(lab).ports
        tunnels: list[peers.Peer] = [
            Carried(scheme, lab, targets, command) for scheme in arguments.schemes.split(",")
        ]
        tunnels += [OTHERS[name](lab, targets) for name in filter(None, arguments.others.split(","))]
        bench = Bench(measures.Settings(arguments.seconds, arguments.rounds))
        bench.run(groups, tunnels)
        found = table(bench, groups, tunnels)
    about = [*host.machine(), ("Python", peers.python_versions(arguments.python))]
    about += [("Runs", f"{arguments.rounds} of {arguments.seconds} s, taking turns")]
    print("\n".join(f"- {label}: {value}" for label, value in about), found, sep="\n\n")
    for fault in bench.faults:
        print(f"- failed: {fault}", file=sys.stderr)
    return 1 if bench.faults else 0


if __name__ == "__main__":
    sys.exit(main())
