#!/usr/bin/env python3
"""Compares aero with `ssh -R` on this machine and prints a Markdown table. Only the command line, the
order of runs and the table live here; what is measured is in measures.py, who is measured in peers.py.
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
import peers
from rounds import Bench, fault_text, number_text, say

AEADS = ("cryptography", "openssl", "pycryptodome")
PEERS = ("aero", "ssh", "ssh-plain", "direct")


def judged(row: measures.Row, figure: float | None, aead: str | None) -> bool | None:
    """Whether the figure (the ratio, or the value itself where the target is absolute) reaches the row's
    target; None where nothing was asked or nothing is known."""
    if row.target is None or figure is None:
        return None
    limit = row.target.limit_for(row, aead)
    return figure >= limit if row.more_is_better else figure <= limit


def results(
    bench: Bench, groups: Sequence[measures.Group], tunnels: Sequence[peers.Peer]
) -> list[dict[str, Any]]:
    """One entry per row: key, title, unit, and per peer its median and samples. An aero has its limit as
    well, and for each ssh the ratio to it and whether the limit is met; with an absolute limit, `met`
    stands beside the median."""
    references = [index for index, peer in enumerate(tunnels) if isinstance(peer, peers.Ssh)]
    rows = []
    for row in (row for group in groups for row in group.rows):
        cells: list[dict[str, Any]] = []
        for index, peer in enumerate(tunnels):
            value = bench.median(index, row.key)
            cell: dict[str, Any] = {
                "peer": peer.label,
                "median": value,
                "samples": bench.values(index, row.key),
            }
            cells.append(cell)
            if not isinstance(peer, peers.Aero):
                continue
            absolute = row.target is not None and row.target.absolute
            cell["met"] = judged(row, value, peer.aead) if absolute else None
            cell["limit"] = row.target.limit_for(row, peer.aead) if row.target else None
            cell["ratios"] = []
            for reference in references:
                base = bench.median(reference, row.key)
                ratio = value / base if value is not None and base else None
                met = None if absolute else judged(row, ratio, peer.aead)
                cell["ratios"].append({"to": tunnels[reference].label, "ratio": ratio, "met": met})
        rows.append(
            {
                "key": row.key,
                "title": row.title,
                "unit": row.unit,
                "more_is_better": row.more_is_better,
                "absolute": row.target is not None and row.target.absolute,
                "peers": cells,
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: aero has its value, what it is to reach, and its ratio to each ssh; the others have their
    value."""
    verdicts = {None: "", True: " met", False: " **missed**"}
    head = ["", "unit"]
    for cell in rows[0]["peers"]:
        head.append(cell["peer"])
        if "ratios" in cell:
            head += ["to reach", *(f"× {ratio['to']}" for ratio in cell["ratios"])]
    lines = [head, ["---", "---", *("--:" for _ in head[2:])]]
    for row in rows:
        line = [row["title"], row["unit"]]
        for cell in row["peers"]:
            line.append(number_text(cell["median"]))
            if "ratios" not in cell:
                continue
            line[-1] += verdicts[cell["met"]]
            sign = "≥" if row["more_is_better"] else "≤"
            unit = row["unit"] if row["absolute"] else "×"
            line.append("" if cell["limit"] is None else f"{sign} {cell['limit']:.3g} {unit}")
            for ratio in cell["ratios"]:
                text = "–" if ratio["ratio"] is None else f"{ratio['ratio']:.2f}"
                line.append(text + verdicts[ratio["met"]])
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def facts(arguments: argparse.Namespace, tunnels: Sequence[peers.Peer]) -> list[tuple[str, str]]:
    """The machine, the versions and the settings that the figures belong to."""
    found = host.machine()
    aero = next((peer for peer in tunnels if isinstance(peer, peers.Aero)), None)
    if aero:
        found.append(("aero", f"{aero.version()}, started as `{arguments.aero}`"))
        found.append(("Python", peers.python_versions(arguments.python)))
    if any(isinstance(peer, peers.Ssh) for peer in tunnels):
        found.append(("OpenSSH", f"{host.version_of('ssh', '-V')}; {peers.SSH_CIPHER}, no compression"))
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
        description="Compare aero with ssh -R on this machine; the table goes to stdout, progress to stderr.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
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
    parser.add_argument(
        "--peers", type=_list_of(PEERS), default="aero,ssh,ssh-plain", help=f"columns, of {','.join(PEERS)}"
    )
    parser.add_argument("--only", type=_list_of(names), default=",".join(names), help="groups of rows")
    parser.add_argument("--rounds", type=_positive, default=5, metavar="N", help="samples per figure")
    parser.add_argument("--seconds", type=_positive, default=3, metavar="S", help="length of one timed run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there as well")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _list_of(allowed: Sequence[str]) -> Any:
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
        elif name == "direct":
            tunnels.append(peers.Direct(lab, targets))
        else:
            tunnels.append(peers.Ssh(lab, targets, nodelay=name == "ssh"))
    return tunnels


def main() -> int:
    arguments = parse()
    groups = [group for group in measures.GROUPS if group.name in arguments.only]
    host.require(
        {**measures.PACKAGES, **(peers.Ssh.packages if {"ssh", "ssh-plain"} & set(arguments.peers) else {})}
    )
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
        print(table(rows))
        if bench.faults:
            print("\nFailed runs, left out of the medians:\n")
            print("\n".join(f"- {fault_text(fault)}" for fault in bench.faults))
        if arguments.json:
            report = {"about": dict(about), "faults": bench.faults, "rows": rows}
            arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return 1 if bench.faults else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except host.BenchError as error:
        say(f"bench: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
