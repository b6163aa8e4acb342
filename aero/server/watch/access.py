"""The access log: one line a stream, a request or a flow of datagrams when it is over, and one for each stream or
request that was turned away.

Lines are gathered and written a few times a second with one call, to a file of limited size; the one before stays as
FILE.1.
What a peer wrote is escaped. A file that cannot be written costs lines, never a visitor.
"""

from __future__ import annotations

import json
import os
import stat
from functools import lru_cache
from time import gmtime, localtime, monotonic, strftime, time
from typing import NamedTuple

from aero import logs
from aero.net.loop import Loop, Watcher, stopped

log = logs.get("access")

COMBINED, JSON_LINES = "combined", "json"
STREAM, FLOW = "TCP", "UDP"
#: How long a line waits at the most, and how many bytes of lines: 200 bytes each.
FLUSH_S = 0.25
FLUSH_BYTES = 64 * 1024
#: A file that cannot be written is tried again this often; meanwhile lines are counted and lost.
RETRY_S = 10.0
PATH_CHARS = 500


_KINDS = {STREAM: "stream", FLOW: "flow"}


class Entry(NamedTuple):
    """One line. ``visitor``: ip:port; ``bytes_in`` from the visitor; ``end``: "ok", or how else it ended.

    ``method``: a request's, or STREAM or FLOW; ``path`` (without query) and ``status``: a request's, else "" and 0.
    """

    user: str
    tag: str
    target: str
    cid: str
    visitor: str
    bytes_in: int
    bytes_out: int
    duration_s: float
    end: str
    method: str = STREAM
    path: str = ""
    status: int = 0


def json_line(entry: Entry, at: float) -> str:
    """The line as JSON; ``at``: Unix seconds."""
    kind = _KINDS.get(entry.method, "request")
    said = {"time": _rfc3339(at), "kind": kind, **entry._asdict(), "duration_s": round(entry.duration_s, 3)}
    if entry.method in _KINDS:
        del said["method"], said["path"], said["status"]
    else:
        said["path"] = logs.clean(entry.path, PATH_CHARS)
    return json.dumps(said, ensure_ascii=True) + "\n"


def combined_line(entry: Entry, at: float) -> str:
    """The line as web servers have it (NCSA combined, referrer and browser left out), ours behind it; a stream's
    request line is ``TCP TAG/TARGET``, a flow's ``UDP TAG/TARGET``.
    """
    ip = entry.visitor.rpartition(":")[0].strip("[]") or "-"
    if entry.method in _KINDS:
        asked = f"{entry.method} {entry.tag}/{entry.target}"
    else:
        asked = f"{entry.method} {_quoted(entry.path)}"
    when = _when(int(at))
    user = entry.user or "-"
    return (
        f'{ip} - {user} [{when}] "{asked}" {entry.status or "-"} {entry.bytes_out} "-" "-"'
        f" in={entry.bytes_in} s={entry.duration_s:.3f} tag={entry.tag} target={entry.target} cid={entry.cid}"
        f' end="{_quoted(entry.end)}"\n'
    )


def _quoted(text: str) -> str:
    """Text between quotation marks; nearly all is as it may be."""
    if len(text) <= PATH_CHARS and text.isprintable() and '"' not in text:
        return text
    return logs.clean(text, PATH_CHARS, also='"')


@lru_cache(2)
def _when(second: int) -> str:
    return strftime("%d/%b/%Y:%H:%M:%S %z", localtime(second))


def _rfc3339(at: float) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"


class AccessLog:
    """The file."""

    def __init__(self, loop: Loop, path: str, form: str, size: int) -> None:
        """``form``: COMBINED or JSON_LINES; ``size``: bytes after which a new file begins."""
        self._loop = loop
        self._path = path
        self._line = json_line if form == JSON_LINES else combined_line
        self._size = size
        self._descriptor = -1
        self._written = 0
        self._limited = False
        self._waiting: list[str] = []
        self._waiting_bytes = 0
        self._lost = 0
        self._retry_at = 0.0
        self._timer: Watcher | None = None
        self.reopen()

    def add(self, entry: Entry) -> None:
        """Something is over, or was turned away."""
        line = self._line(entry, time())
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        if self._waiting_bytes >= FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.timer(FLUSH_S)
            self._timer.start(self.flush)

    def flush(self) -> None:
        """Writes what waits."""
        stopped(self._timer)
        self._timer = None
        lines, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if not lines:
            return
        if self._descriptor < 0 and monotonic() >= self._retry_at:
            self.reopen()
        if self._descriptor < 0:
            self._lost += len(lines)
            return
        data = "".join(lines).encode("utf-8", "replace")
        try:
            if self._limited and self._written and self._written + len(data) > self._size:
                os.replace(self._path, self._path + ".1")
                self._open()
            os.write(self._descriptor, data)
            self._written += len(data)
        except OSError as error:
            self._lost += len(lines)
            self._cannot(error)
            return
        if self._lost:
            log.warning("lines of the access log were lost", count=self._lost, path=self._path)
            self._lost = 0

    def faulted(self, error: Exception) -> None:
        """A fault of this program's in our timer: the lines are lost, the next ones have it called anew."""
        self._timer = None

    def reopen(self) -> None:
        """Opens the file by its name: somebody may have renamed it. SIGHUP asks for it."""
        self._retry_at = 0.0
        try:
            self._open()
        except OSError as error:
            self._cannot(error)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, 0o640)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        found = os.fstat(descriptor)
        self._limited = stat.S_ISREG(found.st_mode)
        self._written = found.st_size

    def _cannot(self, error: OSError) -> None:
        if not self._retry_at:
            log.warning("cannot write the access log, its lines are lost until that works", error=error)
        self._retry_at = monotonic() + RETRY_S
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def close(self) -> None:
        """Writes what waits, and lets go of the file."""
        self.flush()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
