"""What aero.pyz runs before it can import anything native: from an archive to an importable aero.

Only here is it known that there is an archive; the rest of aero finds its modules as in a checkout. Nothing here
imports the rest of aero but `aero.cli.main`, at the end, nor a module that the answer to --version does not need.
docs/PYZ.md describes the archive's layout and the rules of the cache.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the module signal takes 3 ms more to import
import gc
import sys

from aero import __version__

EX_CONFIG = 78  # sysexits.h: this host, as it is set up, cannot run us


def settle_signals() -> None:
    """Let no signal break a start, before the first import that takes time.

    Who asks for a reload or a dump before there is something to reload or to show asks for nothing, and Ctrl-C ends
    the process without a traceback. A role takes the signals over once it is set up (aero/host/run.py).
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):  # not where a shell's "&" has it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def hold_collector() -> None:
    """Let no garbage collection look through what a start imports: nearly all of it stays, and it takes 7 ms.

    Whoever is not in a hurry, or goes on after its start, has it back (aero/cli/main.py).
    """
    gc.disable()


def start(archive: str) -> int:
    """Run the archive at path ``archive`` with the process's arguments; return the exit code."""
    settle_signals()
    hold_collector()
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
