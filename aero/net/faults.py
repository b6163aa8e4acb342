"""What becomes of an exception that nobody has caught: one line in the log, and the end of what it belongs to.

A callback of the loop must not raise. When one does all the same, because of an error of this program, libev takes an
I/O watcher away and goes on: the connection would hang for ever, and nobody would hear of it. So the loop's last resort
(`uncaught`, put in place by `loop.event_loop`) looks for the object whose method the loop has called and tells it, by
its method ``faulted(error)``, to end; a connection ends, and nothing else does. The data path pays nothing for it.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Callable

from aero import logs

log = logs.get("fault")

_FRAMES = 6  # of the traceback that are shown: those closest to the error


def report(error: BaseException) -> None:
    """One line about an error of this program: what it is, and the way that led there."""
    log.error("an error of this program; please report it", error=repr(error), at=_way(error.__traceback__))


def uncaught(
    show: Callable[..., None],
    context: object,
    kind: type[BaseException],
    error: BaseException,
    traceback: TracebackType | None,
) -> None:
    """Takes the place of a hub's ``print_exception``, which is ``show``. Never raises."""
    if not isinstance(error, Exception):
        show(context, kind, error, traceback)
        return
    try:
        report(error.with_traceback(traceback))
        owner = _owner(traceback)
        if owner is not None:
            owner.faulted(error)
    except Exception as second:
        report(second)


def _owner(traceback: TracebackType | None) -> Any:
    """The object whose method was called from outside of this program, if it can be told that this failed."""
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_globals.get("__name__", "").startswith("aero."):
            owner = frame.f_locals.get("self")
            return owner if hasattr(owner, "faulted") else None
        traceback = traceback.tb_next
    return None


def _way(traceback: TracebackType | None) -> str:
    """``module:line`` of the frames that an error came through, the innermost last."""
    steps = []
    while traceback is not None:
        steps.append(f"{traceback.tb_frame.f_globals.get('__name__', '?')}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    return " ".join(steps[-_FRAMES:])
