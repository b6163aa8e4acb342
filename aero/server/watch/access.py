"""The access log: one line a stream, a request or a flow of datagrams when it is over, and one for each stream or
request that was turned away.

Lines are gathered and written a few times a second with one call, to a file of limited size; the one before stays as
FILE.1.
What a peer wrote is escaped. A file that cannot be written costs lines, never a visitor.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii
from time import gmtime, localtime, monotonic, strftime, time
from typing import Callable, NamedTuple, TypeVar

from aero import logs
from aero.net.loop import Loop, Watcher, stopped

log = logs.get("access")

COMBINED, JSON_LINES = "combined", "json"
K = TypeVar("K")
STREAM, FLOW = "TCP", "UDP"
#: How long a line waits at the most, and how many of them: as many take half a millisecond.
FLUSH_S = 0.25
FLUSH_LINES = 250
#: A file that cannot be written is tried again this often; meanwhile lines are counted and lost.
RETRY_S = 10.0
PATH_CHARS = 500


_KINDS = {STREAM: "stream", FLOW: "flow"}


class Entry(NamedTuple):
    """One line. ``visitor``: ip:port; ``bytes_in`` from the visitor; ``end``: "ok", or how else it ended.

    ``method``: a request's, or STREAM or FLOW; ``target_path``: as the request has it, of which the query is left out,
    and ``status``: a request's, else nothing.
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
    target_path: bytes = b""
    status: int = 0


#: What is kept of a line until it is written: when it was over (Unix seconds), and the entry's values. A plain tuple of
#: plain values: the garbage collector does not look at it again and again.
Kept = tuple[float, str, str, str, str, str, int, int, float, str, str, bytes, int]


class _Known(dict[K, str]):
    """What was worked out already of the lines of one batch, most of which are alike."""

    def __init__(self, work_out: Callable[[K], str]) -> None:
        self._work_out = work_out

    def __missing__(self, key: K) -> str:
        text = self[key] = self._work_out(key)
        return text


def json_lines(entries: Iterable[Kept]) -> str:
    """A line for each as JSON; times in Unix seconds."""
    quoted: _Known[str] = _Known(encode_basestring_ascii)
    paths: _Known[bytes] = _Known(lambda raw: encode_basestring_ascii(logs.clean(_path(raw), PATH_CHARS)))
    seconds: _Known[int] = _Known(lambda second: strftime("%Y-%m-%dT%H:%M:%S", gmtime(second)))
    lines = []
    for at, user, tag, target, cid, visitor, into, out, lasted_s, end, method, path, status in entries:
        kind = _KINDS.get(method)
        if kind is None:
            asked = f', "method": {quoted[method]}, "path": {paths[path]}, "status": {status}'
        else:
            asked = ""
        lines.append(
            f'{{"time": "{seconds[int(at)]}.{int(at % 1 * 1000):03d}Z", "kind": "{kind or "request"}",'
            f' "user": {quoted[user]}, "tag": {quoted[tag]}, "target": {quoted[target]}, "cid": "{cid}",'
            f' "visitor": "{visitor}", "bytes_in": {into}, "bytes_out": {out}, "duration_s": {round(lasted_s, 3)},'
            f' "end": {quoted[end]}{asked}}}\n'
        )
    return "".join(lines)


def combined_lines(entries: Iterable[Kept]) -> str:
    """A line for each as web servers have it (NCSA combined, referrer and browser left out), ours behind it; a stream's
    request line is ``TCP TAG/TARGET``, a flow's ``UDP TAG/TARGET``.
    """
    ips: _Known[str] = _Known(lambda visitor: visitor.rpartition(":")[0].strip("[]") or "-")
    paths: _Known[bytes] = _Known(lambda raw: _quoted(_path(raw)))
    seconds: _Known[int] = _Known(lambda second: strftime("%d/%b/%Y:%H:%M:%S %z", localtime(second)))
    ends: _Known[str] = _Known(_quoted)
    lines = []
    for at, user, tag, target, cid, visitor, into, out, lasted_s, end, method, path, status in entries:
        asked = f"{tag}/{target}" if method in _KINDS else paths[path]
        lines.append(
            f'{ips[visitor]} - {user or "-"} [{seconds[int(at)]}] "{method} {asked}" {status or "-"} {out} "-" "-"'
            f' in={into} s={lasted_s:.3f} tag={tag} target={target} cid={cid} end="{ends[end]}"\n'
        )
    return "".join(lines)


def _path(raw: bytes) -> str:
    return raw.partition(b"?")[0].decode("latin-1")


def _quoted(text: str) -> str:
    """Text between quotation marks; nearly all is as it may be."""
    if len(text) <= PATH_CHARS and text.isprintable() and '"' not in text:
        return text
    return logs.clean(text, PATH_CHARS, also='"')


class AccessLog:
    """The file."""

    def __init__(self, loop: Loop, path: str, form: str, size: int) -> None:
        """``form``: COMBINED or JSON_LINES; ``size``: bytes after which a new file begins."""
        self._loop = loop
        self._path = path
        self._lines = json_lines if form == JSON_LINES else combined_lines
        self._size = size
        self._descriptor = -1
        self._written = 0
        self._limited = False
        self._waiting: list[Kept] = []
        self._lost = 0
        self._retry_at = 0.0
        self._timer: Watcher | None = None
        self.reopen()

    def add(self, entry: Entry) -> None:
        """Something is over, or was turned away. What its line says is written together with others' later."""
        self.keep((time(), *entry))

    def keep(self, kept: Kept) -> None:
        """The same, for whoever has it as it is kept."""
        waiting = self._waiting
        waiting.append(kept)
        if len(waiting) >= FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.timer(FLUSH_S)
            self._timer.start(self.flush)

    def flush(self) -> None:
        """Writes what waits."""
        stopped(self._timer)
        self._timer = None
        entries, self._waiting = self._waiting, []
        if not entries:
            return
        if self._descriptor < 0 and monotonic() >= self._retry_at:
            self.reopen()
        if self._descriptor < 0:
            self._lost += len(entries)
            return
        data = self._lines(entries).encode("utf-8", "replace")
        try:
            if self._limited and self._written and self._written + len(data) > self._size:
                os.replace(self._path, self._path + ".1")
                self._open()
            os.write(self._descriptor, data)
            self._written += len(data)
        except OSError as error:
            self._lost += len(entries)
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
        self._descriptor = logs.opened(self._path, self._descriptor)
        found = os.fstat(self._descriptor)
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
