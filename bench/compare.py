#!/usr/bin/env python3
"""Compares two checkouts of aero on this machine: `compare.py OLD NEW` prints NEW's figures over OLD's, with their
spread. Both take turns in every run, so a figure is a ratio of two runs that met the same machine.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import backends
import host
import measures
import peers
from rounds import Bench, fault_text, number_text

#: In the order in which they are run. The rows beside saturating bulk spread too much to guard anything.
GROUPS = ("bulk", "rps", "mux", "rtt", "memory", "startup")
ROWS_LEFT_OUT = ("rtt_p99", "idle_server_pss", "idle_worker_pss", "imports")
NOTABLE = 0.03  # a change below this is not spoken of: two runs of the same checkout differ by as much
PAIRS_MIN = 4  # with fewer, one slow moment of the machine is half of all evidence
OLD, NEW = 0, 1


class Checkout(peers.Aero):
    """One of the two, under the name that it has in the table."""

    def __init__(
        self,
        name: str,
        folder: Path,
        python: str,
        lab: host.Lab,
        targets: dict[str, int],
        mux: bool,
        server_options: Sequence[str] = (),
    ):
        super().__init__(
            lab, targets, [python, "aero.py"], checkout=folder, mux=mux, server_options=server_options
        )
        self.name = name

    @property
    def label(self) -> str:
        return self.name


class Change(NamedTuple):
    """One line of the result. `ratios`: NEW over OLD, one for each pair of runs, in order of size."""

    row: measures.Row
    old: float
    new: float
    ratios: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def verdict(self) -> str:
        """Names the change when its median is notable and the middle half of the ratios lies on that side."""
        if len(self.ratios) < PAIRS_MIN or abs(self.median - 1) < NOTABLE:
            return ""
        low, _, high = statistics.quantiles(self.ratios, n=4, method="inclusive")
        if low <= 1 <= high:
            return ""
        return "better" if (self.median > 1) == self.row.more_is_better else "**worse**"


def changes(bench: Bench, groups: Sequence[measures.Group]) -> list[Change]:
    """One entry for every row that both checkouts have figures for."""
    found = []
    for row in (row for group in groups for row in group.rows if row.key not in ROWS_LEFT_OUT):
        old, new = bench.median(OLD, row.key), bench.median(NEW, row.key)
        ratios = sorted(bench.ratios(NEW, OLD, row.key))
        if old is not None and new is not None and ratios:
            found.append(Change(row, old, new, ratios))
    return found


def table(found: Sequence[Change]) -> str:
    lines = [
        ["", "unit", "old", "new", "new / old", "lowest – highest", "pairs", ""],
        ["---"] * 2 + ["--:"] * 5 + ["---"],
    ]
    for change in found:
        spread = f"{change.ratios[0]:.2f} – {change.ratios[-1]:.2f}"
        figures = [number_text(change.old), number_text(change.new), f"{change.median:.3f}", spread]
        lines.append([change.row.title, change.row.unit, *figures, str(len(change.ratios)), change.verdict])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Compare two checkouts of aero; the table goes to stdout, progress to stderr.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("old", type=_checkout, help="the folder of a checkout")
    parser.add_argument("new", type=_checkout, help="the folder of another one")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="the interpreter for both")
    parser.add_argument(
        "--only", default=",".join(GROUPS), help=f"groups of rows, of {','.join(GROUPS)},loaded"
    )
    for which in ("old", "new"):
        parser.add_argument(
            f"--{which}-server",
            default="",
            metavar="OPTIONS",
            help=f"more options for {which}'s server; the same checkout twice shows what an option costs",
        )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="pairs of runs for each figure")
    parser.add_argument("--seconds", type=int, default=2, metavar="S", help="length of one timed run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every ratio there as well")
    return parser.parse_args(argv)


def _checkout(text: str) -> Path:
    folder = Path(text).resolve()
    if not (folder / "aero.py").is_file():
        raise argparse.ArgumentTypeError(f"no aero.py in {folder}")
    return folder


def main() -> int:
    """Measure what the command line asks for; 1 when a run failed. A slower checkout is no failure: people judge."""
    arguments = parse()
    groups = [group for group in measures.GROUPS if group.name in arguments.only.split(",")]
    host.require(measures.PACKAGES)
    with host.Lab() as lab:
        targets = backends.Backends(lab).ports

        def pair(mux: bool) -> list[peers.Peer]:
            both = (
                ("old", arguments.old, arguments.old_server),
                ("new", arguments.new, arguments.new_server),
            )
            return [
                Checkout(name, folder, arguments.python, lab, targets, mux, shlex.split(options))
                for name, folder, options in both
            ]

        bench = Bench(measures.Settings(arguments.seconds, arguments.rounds))
        for mux in (False, True):
            tunnels = pair(mux)
            bench.run([group for group in groups if group.mux is mux], tunnels)
            for peer in tunnels:
                peer.stop()
        found = changes(bench, groups)
    about = [*host.machine(), ("Python", peers.python_versions(arguments.python))]
    about += [("Runs", f"{arguments.rounds} pairs of {arguments.seconds} s, taking turns")]
    print("\n".join(f"- {label}: {value}" for label, value in about), table(found), sep="\n\n")
    if bench.faults:
        print("\nFailed runs, left out:\n", *(f"- {fault_text(fault)}" for fault in bench.faults), sep="\n")
    if arguments.json:
        rows = {
            change.row.key: {"old": change.old, "new": change.new, "ratios": change.ratios}
            for change in found
        }
        report = {"about": dict(about), "faults": bench.faults, "rows": rows}
        arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return 1 if bench.faults else 0


if __name__ == "__main__":
    host.script(main, "bench")
