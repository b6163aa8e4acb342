"""What aero.pyz runs before it can import anything native: from an archive to an importable aero.

Only here is it known that there is an archive; the rest of aero finds its modules as in a checkout. Nothing here
imports the rest of aero but `aero.cli.main`, at the end, nor a module that the answer to --version does not need.
docs/PYZ.md describes the archive's layout and the rules of the cache.
"""

from __future__ import annotations

import sys

from aero import __version__

EX_CONFIG = 78  # sysexits.h: this host, as it is set up, cannot run us


def start(archive: str) -> int:
    """Run the archive at path ``archive`` with the process's arguments; return the exit code."""
    asked = sys.argv[1:2]
    if asked == ["--version"]:
        print("AeRO-proxy", __version__)
        return 0
    __path__.append(f"{archive}/aero/boot")  # what is seldom needed has no byte code
    if asked == ["--verify"]:
        from aero.boot.verify import verify

        return verify(archive)
    from aero.boot.launch import NoWay, launch

    try:
        launch(archive)
    except NoWay as error:
        print(f"aero: {error}", file=sys.stderr)
        return EX_CONFIG
    from aero.cli.main import main

    return main()
