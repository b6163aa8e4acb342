"""Asks pip-audit whether any of the pinned packages has a known fault: `python tools/audit.py`, by ./tests/run.

Says plainly when nothing could be asked: a host without network, or a package index that does not know of faults.
Exit codes: 0 nothing known, or nothing asked; 1 a package has a known fault.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "requirements" / "dev.txt"
#: In an environment of its own: it brings two dozen packages that nothing else here needs.
HOME = ROOT / ".venv" / "audit"
PIP_AUDIT = "pip-audit==2.10.1" if sys.version_info >= (3, 10) else "pip-audit==2.9.0"
PATIENCE_S = 180


def main() -> int:
    """Prints what was found; the exit code."""
    try:
        report = _ask()
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        print(f"audit: not checked, {_last_line(error)}")
        return 0
    asked = [each for each in report["dependencies"] if "vulns" in each]
    faults = [(each, fault) for each in asked for fault in each["vulns"]]
    for package, fault in faults:
        fixed = ", ".join(fault["fix_versions"]) or "no version yet"
        print(f"audit: {package['name']} {package['version']}: {fault['id']}, mended in {fixed}")
    if not asked:
        print("audit: not checked, the package index within reach has no data on faults")
    elif not faults:
        print(f"audit: {len(asked)} of {len(report['dependencies'])} packages checked, no known fault")
    return 1 if faults else 0


def _ask() -> dict[str, list[dict[str, object]]]:
    """pip-audit's report. Raises OSError, SubprocessError or ValueError when there is none."""
    program = HOME / "bin" / "pip-audit"
    if not program.exists():
        venv.create(HOME, with_pip=True, clear=True)
        _run(HOME / "bin" / "pip", "install", "-q", PIP_AUDIT)
    arguments = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json", "-r", PINS)
    report: dict[str, list[dict[str, object]]] = json.loads(_run(program, *arguments, may_fail=True))
    return report


def _run(*command: object, may_fail: bool = False) -> str:
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, timeout=PATIENCE_S)
    if done.returncode and not (may_fail and done.stdout):  # it fails when it has found something, too
        raise OSError(done.stderr.strip() or f"{command[0]} ended with {done.returncode}")
    return done.stdout


def _last_line(error: Exception) -> str:
    return str(error).strip().rsplit("\n", 1)[-1]


if __name__ == "__main__":
    sys.exit(main())
