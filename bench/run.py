#!/usr/bin/env python3
"""Compares aero with `ssh -R` and other tunnels on this machine and prints a Markdown table. Only the command line
and the table live here; what is measured is in measures.py, who is measured in peers.py and others.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import backends
import host
import measures
import others
import peers
from rounds import Bench, fault_text, number_text, say

AEADS = ("cryptography", "openssl", "pycryptodome")
LIMITS = {"relays": others.BareRelays, "direct": peers.Direct}  # what no tunnel here can be better than
PEERS = ("aero", "ssh", "ssh-plain", *others.TOOLS, *LIMITS)


def base_of(target: measures.Target, row: measures.Row, medians: dict[str, float]) -> float | None:
    """What the target's limit is a multiple of; 1 for a limit of its own, None where it was not measured.
    `medians`: of the peers that are neither aero nor a limit, and of the bare relays, by label."""
    if not target.of:
        return 1.0
    if target.of != measures.BEST:
        return medians.get(target.of)
    rivals = [value for label, value in medians.items() if label != measures.RELAYS]
    return (max if row.more_is_better else min)(rivals) if rivals else None


def judged(row: measures.Row, cell: dict[str, Any], aead: str | None, medians: dict[str, float]) -> None:
    """Put into an aero's cell what it is to reach (`limit`, of what), its `ratio` to that base, and whether it has
    `met` the limit."""
    target = row.target
    if target is None:
        return
    base = base_of(target, row, medians)
    cell["limit"] = target.limit_for(row, aead)
    cell["of"] = target.of
    if base and cell["median"] is not None:
        cell["ratio"] = ratio = cell["median"] / base
        cell["met"] = ratio >= cell["limit"] if row.more_is_better else ratio <= cell["limit"]


def results(
    bench: Bench, groups: Sequence[measures.Group], tunnels: Sequence[peers.Peer]
) -> list[dict[str, Any]]:
    """One entry per row: key, title, unit, and per peer its median and samples; an aero's also what `judged` says."""
    rows = []
    for row in (row for group in groups for row in group.rows):
        cells: list[dict[str, Any]] = []
        for column, peer in enumerate(tunnels):
            median, samples = bench.median(column, row.key), bench.values(column, row.key)
            cells.append({"peer": peer.label, "median": median, "samples": samples})
        medians = {
            cell["peer"]: cell["median"]
            for cell, peer in zip(cells, tunnels)
            if cell["median"] is not None and not isinstance(peer, (peers.Aero, peers.Direct))
        }
        for cell, peer in zip(cells, tunnels):
            if isinstance(peer, peers.Aero):
                judged(row, cell, peer.aead, medians)
        entry = {"key": row.key, "title": row.title, "unit": row.unit, "more_is_better": row.more_is_better}
        rows.append({**entry, "peers": cells})
    return rows


def table(rows: Sequence[dict[str, Any]], tunnels: Sequence[peers.Peer]) -> str:
    """Markdown: every peer has its value, an aero also what it is to reach and its ratio to that."""
    head = ["", "unit"]
    for peer in tunnels:
        head += [peer.label, "to reach", "reached"] if isinstance(peer, peers.Aero) else [peer.label]
    lines = [head, ["---", "---", *("--:" for _ in head[2:])]]
    for row in rows:
        line = [row["title"], row["unit"]]
        for cell, peer in zip(row["peers"], tunnels):
            line.append(number_text(cell["median"]))
            if isinstance(peer, peers.Aero):
                line += verdict(row, cell)
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verdict(row: dict[str, Any], cell: dict[str, Any]) -> tuple[str, str]:
    """What an aero's cell was to reach, and what it has reached; empty texts where nothing was asked."""
    if "limit" not in cell:
        return "", ""
    sign = "≥" if row["more_is_better"] else "≤"
    asked = f"{sign} {cell['limit']:.3g} {'× ' + cell['of'] if cell['of'] else row['unit']}"
    if "ratio" not in cell:
        return asked, "–"
    figure = f"{cell['ratio']:.2f} " if cell["of"] else ""
    return asked, figure + ("met" if cell["met"] else "**missed**")


def facts(arguments: argparse.Namespace, tunnels: Sequence[peers.Peer]) -> list[tuple[str, str]]:
    """The machine, the versions and the settings that the figures belong to."""
    found = host.machine()
    aero = next((peer for peer in tunnels if isinstance(peer, peers.Aero)), None)
    if aero:
        found.append(("aero", f"{aero.version()}, started as `{arguments.aero}`"))
        found.append(("Python", peers.python_versions(arguments.python)))
    if any(isinstance(peer, peers.Ssh) for peer in tunnels):
        found.append(("OpenSSH", f"{host.version_of('ssh', '-V')}; {peers.SSH_CIPHER}, no compression"))
    for peer in tunnels:
        if isinstance(peer, others.Tool):
            found += [(name, host.version_of(name, "--version")) for name in [*peer.packages][:1]]
    found.append(("nginx", host.version_of("nginx", "-v")))
    found.append(("iperf3", host.version_of("iperf3", "--version")))
    found.append(("wrk", host.version_of("wrk", "-v")))
    found.append(
        ("Runs", f"medians of {arguments.rounds} rounds, {arguments.seconds} s each, peers taking turns")
    )
    return found


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    names = [group.name for group in measures.GROUPS]
    parser = argparse.ArgumentParser(
        description="Compare aero with other tunnels on this machine; the table goes to stdout, progress to stderr.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_aero_arguments(parser)
    parser.add_argument(
        "--peers",
        type=list_of(PEERS),
        default=",".join(PEERS),
        help="columns; what is not installed is left out",
    )
    parser.add_argument("--only", type=list_of(names), default=",".join(names), help="groups of rows")
    parser.add_argument("--rounds", type=_positive, default=5, metavar="N", help="samples per figure")
    parser.add_argument("--seconds", type=_positive, default=3, metavar="S", help="length of one timed run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there as well")
    return parser.parse_args(argv)


def add_aero_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that say how aero is started; `make_tunnels` reads them."""
    parser.add_argument(
        "--aero", default="python aero.py", metavar="CMD", help="how to start aero, from its folder"
    )
    parser.add_argument(
        "--python", default=sys.executable, metavar="PATH", help="what `python` in CMD stands for"
    )
    parser.add_argument(
        "--aead",
        action="append",
        choices=AEADS,
        help="force this backend; repeat for one column each; else aero's own choice",
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def list_of(allowed: Sequence[str]) -> Any:
    """For argparse: a comma-separated list of these words."""

    def split(text: str) -> list[str]:
        chosen = text.split(",")
        for name in chosen:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(allowed)}")
        return chosen

    return split


def make_tunnels(
    arguments: argparse.Namespace, lab: host.Lab, targets: dict[str, int], mux: bool
) -> list[peers.Peer]:
    tunnels: list[peers.Peer] = []
    for name in arguments.peers:
        if name == "aero":
            command = peers.aero_command(arguments.aero, arguments.python)
            tunnels += [peers.Aero(lab, targets, command, aead, mux=mux) for aead in arguments.aead or [None]]
        elif name in LIMITS:
            tunnels.append(LIMITS[name](lab, targets))
        elif name in others.TOOLS:
            tunnels.append(others.TOOLS[name](lab, targets, mux=mux))
        else:
            tunnels.append(peers.Ssh(lab, targets, nodelay=name == "ssh"))
    return tunnels


def installed(names: Sequence[str]) -> list[str]:
    """Those whose programs are on PATH; says a line about each of the others."""
    found = []
    for name in names:
        needed = others.TOOLS[name].packages if name in others.TOOLS else {}
        if name.startswith("ssh"):
            needed = peers.Ssh.packages
        missing = host.missing(needed)
        if missing:
            say(f"{name} is left out: {', '.join(missing)} not on PATH; README.md says how to install it")
        else:
            found.append(name)
    return found


def main() -> int:
    arguments = parse()
    groups = [group for group in measures.GROUPS if group.name in arguments.only]
    host.require(measures.PACKAGES)
    arguments.peers = installed(arguments.peers)
    with host.Lab() as lab:
        targets = backends.Backends(lab).ports
        tunnels = make_tunnels(arguments, lab, targets, mux=False)
        about = facts(arguments, tunnels)
        bench = Bench(measures.Settings(arguments.seconds, arguments.rounds))
        bench.run([group for group in groups if not group.mux], tunnels)
        for peer in tunnels:
            peer.stop()
        bench.run([group for group in groups if group.mux], make_tunnels(arguments, lab, targets, mux=True))
        rows = results(bench, groups, tunnels)
        print("\n".join(f"- {label}: {value}" for label, value in about))
        print()
        print(table(rows, tunnels))
        if bench.faults:
            print("\nFailed runs, left out of the medians:\n")
            print("\n".join(f"- {fault_text(fault)}" for fault in bench.faults))
        if arguments.json:
            report = {"about": dict(about), "faults": bench.faults, "rows": rows}
            arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return 1 if bench.faults else 0


if __name__ == "__main__":
    host.script(main, "bench")
