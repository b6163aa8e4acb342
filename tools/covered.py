"""Holds rooms to their share of covered lines and branches: `python tools/covered.py`, by ./tests/run after pytest.

Each room has a floor of its own: one figure over all of them would let a well tested room hide an untested one.
Exit codes: 0 every room is at its floor or above; 1 one is below, or nothing was measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Lines and branches together, in percent. End-to-end tests run processes of their own, which are not measured.
FLOORS = {"aero/core": 95, "aero/net": 90, "aero/server/httpmux": 90}
COUNTED = ("covered_lines", "num_statements", "covered_branches", "num_branches")


def main() -> int:
    """Prints each room's share, and what its worst files lack."""
    command = [sys.executable, "-m", "coverage", "json", "-q", "--fail-under=0", "-o", "-"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        print(f"covered: nothing was measured: {(done.stdout + done.stderr).strip()}")
        return 1
    files = json.loads(done.stdout)["files"]
    low = [room for room, floor in FLOORS.items() if not _report(room, floor, files)]
    return 1 if low else 0


def _report(room: str, floor: int, files: dict[str, dict[str, dict[str, int]]]) -> bool:
    """Whether a room is at its floor; below it the files with the most that no test reached are named."""
    sums = {path: each["summary"] for path, each in files.items() if path.startswith(room + "/")}
    totals = {name: sum(each[name] for each in sums.values()) for name in COUNTED}
    all_of_it = totals["num_statements"] + totals["num_branches"]
    share = 100 * (totals["covered_lines"] + totals["covered_branches"]) / all_of_it if all_of_it else 0.0
    print(f"covered: {room} {share:.1f} %, at least {floor} %")
    if share >= floor:
        return True
    for path in sorted(sums, key=lambda path: -_missed(sums[path]))[:5]:
        print(f"covered:   {path} lacks {_missed(sums[path])} lines and branches")
    return False


def _missed(summary: dict[str, int]) -> int:
    return summary["missing_lines"] + summary["missing_branches"]


if __name__ == "__main__":
    sys.exit(main())
