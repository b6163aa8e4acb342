"""Logs: one line per event, as text or JSON, to stderr or to a file of limited size.

Everything about writing lines lives here. It must not know what is logged. The standard library's logging would be
half a megabyte and 3 ms of every start, for a tree of loggers that all have one level and one handler.
Nothing here raises into its callers, switches greenlets, or waits for anything but the one write, so libev
callbacks may log. What comes from a peer is escaped: it can forge neither a line nor a terminal sequence.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from _thread import RLock
from select import select
from typing import Callable, NamedTuple

#: Enough of any name, address or error to recognise it, and little enough to keep a line a line.
VALUE_CHARS = 300
#: The program's own words may be longer: a server's start shows a command line to copy.
MESSAGE_CHARS = 600
#: A line is one write of at most PIPE_BUF bytes (4096 on Linux): it stays whole between other writers' lines,
#: and cannot block on a pipe that has just been found writable.
LINE_BYTES = 4096
#: A full disk or a missing folder is tried again this often: soon for people, seldom enough to cost nothing.
RETRY_S = 10.0

#: Of warnings of one kind from one address, and of one kind from all addresses, so many are written in so many seconds;
#: the rest is counted, and told as one line. A person reads the first few, and 1,000 bad connections a second would
#: push everything else out of the file within a minute.
FLOOD_LINES = 10
FLOOD_LINES_OF_A_KIND = 100
FLOOD_S = 60.0
#: Kinds and addresses that are counted apart at once; those beyond them are counted together, by kind.
FLOOD_KINDS = 1000
#: Fields that say who caused a line, the first that is there.
CULPRITS = ("address", "visitor")

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
LEVELS = {DEBUG: "debug", INFO: "info", WARNING: "warn", ERROR: "error"}
RESERVED = ("ts", "level", "part", "event")


def clean(value: object, limit: int = VALUE_CHARS, also: str = "") -> str:
    """``value`` as printable text, cut after ``limit`` characters; escapes what is in ``also``, too."""
    try:
        text = str(value)
    except Exception as error:  # a peer's object must not be able to stop its own log line
        text = f"<{type(value).__name__} raises {type(error).__name__}>"
    if len(text) > limit:
        text = text[:limit] + "..."
    if text.isprintable() and not any(character in text for character in also):
        return text
    return "".join("\\" + c if c in also else c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Line:
    """One event: a message, which is the program's own words, and fields, which may be anyone's."""

    def __init__(self, part: str, level: int, message: str, fields: dict[str, object]) -> None:
        """``part``: of the program; ``level``: of `LEVELS`; ``message``: our own words; ``fields``: anyone's."""
        self.created = time.time()
        self.part = part
        self.level = level
        self.message = message
        self.fields = fields

    @property
    def text(self) -> str:
        """Message and fields, on one line."""
        words = [clean(self.message, MESSAGE_CHARS)]
        for key, value in self.fields.items():
            text = clean(value, also='"\\')
            plain = text and text.isprintable() and not any(character in text for character in ' ="\\')
            words.append(f"{key}={text}" if plain else f'{key}="{text}"')
        return " ".join(words)


class Log:
    """The log of one part of the program; make it with `get`."""

    #: Whether debug lines are written. Guard with it where gathering the fields would cost.
    debugging = False

    def __init__(self, part: str) -> None:
        """``part``: the name that its lines carry."""
        self._part = part

    def debug(self, message: str, /, **fields: object) -> None:
        """Something for whoever looks for a fault."""
        self._log(DEBUG, message, fields)

    def info(self, message: str, /, **fields: object) -> None:
        """Something that is as it should be."""
        self._log(INFO, message, fields)

    def warning(self, message: str, /, **fields: object) -> None:
        """Something that people should look at; everything goes on."""
        self._log(WARNING, message, fields)

    def error(self, message: str, /, **fields: object) -> None:
        """Something that failed."""
        self._log(ERROR, message, fields)

    def _log(self, level: int, message: str, fields: dict[str, object]) -> None:
        if level < INFO and not self.debugging:
            return
        line = Line(self._part, level, message, fields)
        with _turn:
            for hear in hearers or (_unprepared,):
                hear(line)


#: Who hears every line: what `setup` has made. One of them at a time, whichever thread speaks.
hearers: list[Callable[[Line], None]] = []
_turn = RLock()


def _unprepared(line: Line) -> None:
    """Before the first `setup`."""
    if line.level >= WARNING:
        Handler("", as_json=False, size=0).emit(line)


def _no_alarm(seconds: float, call: Callable[[], None]) -> None:
    """Without a loop the next line brings what is due."""


#: Calls ``call()`` in so many seconds, from the loop of whoever has one (host/run.py).
alarm: Callable[[float, Callable[[], None]], object] = _no_alarm


def get(part: str) -> Log:
    """The log of one part: "server", "link", and so on."""
    return Log(part)


def setup(path: str = "", format: str = "text", size: int = 10 * 1024 * 1024, debug: bool = False) -> None:
    """Says where lines go: to ``path`` or stderr (""), as "text" or "json"; ``size`` bytes fill a file.

    May be called again; the latest call counts. The same path is opened anew, as somebody may have moved the file away;
    where that fails, lines go on into the old one. Before the first call, warnings and errors go to stderr.
    """
    global _handler
    with _turn:
        if _handler is not None and _handler.path == path:
            _handler.change(format == "json", size)
        else:
            close()
            _handler = Handler(path, format == "json", size)
            hearers.append(_handler.emit)
    Log.debugging = debug


def close() -> None:
    """Undoes `setup`: writes what is still counted, and lets go of the file."""
    global _handler
    if _handler is not None:
        hearers.remove(_handler.emit)
        _handler.close()
        _handler = None


class Kind(NamedTuple):
    """What makes two lines alike: who says it, what it says, and whom it is about ("": everybody)."""

    part: str
    level: int
    message: str
    culprit: str = ""


class Floods:
    """Counts lines that are alike, says which are too many, and afterwards how many those were. Knows no clock."""

    def __init__(self) -> None:
        """Begins with nothing counted."""
        self._rows: dict[Kind, list[float]] = {}  # kind → when its time began, lines; the oldest first

    def passes(self, kind: Kind, now: float) -> bool:
        """Whether a line of this kind is to be written. Call `over` first, with the same ``now`` in seconds."""
        all_alike = kind._replace(culprit="")
        if kind not in self._rows and len(self._rows) >= FLOOD_KINDS:
            kind = all_alike
        few = self._count(kind, now) <= FLOOD_LINES if kind != all_alike else True
        return few and self._count(all_alike, now) <= FLOOD_LINES_OF_A_KIND

    def _count(self, kind: Kind, now: float) -> float:
        row = self._rows.setdefault(kind, [now, 0])
        row[1] += 1
        return row[1]

    def over(self, now: float, all_of_them: bool = False) -> list[tuple[Kind, int, float]]:
        """The kinds whose time is over, how many of their lines were not written, and in how many seconds those came;
        none of those without. ``all_of_them``: whether their time is over or not.
        """
        found: list[tuple[Kind, int, float]] = []
        while self._rows:
            kind = next(iter(self._rows))
            began, lines = self._rows[kind]
            if began + FLOOD_S > now and not all_of_them:
                break
            del self._rows[kind]
            hidden = int(lines) - _most(kind)
            if hidden > 0:
                found.append((kind, hidden, min(now - began, FLOOD_S)))
        return found

    def next_s(self, now: float) -> float:
        """In how many seconds `over` will have something to tell; infinity where there is nothing."""
        hiding = (began for kind, (began, lines) in self._rows.items() if lines > _most(kind))
        return max(next(hiding, float("inf")) + FLOOD_S - now, 0.0)


def _most(kind: Kind) -> int:
    return FLOOD_LINES if kind.culprit else FLOOD_LINES_OF_A_KIND


def _kind(event: Line) -> Kind:
    culprit = next((clean(event.fields[name]) for name in CULPRITS if name in event.fields), "")
    host, colon, port = culprit.rpartition(":")
    if colon and port.isdigit() and (host.endswith("]") or ":" not in host):
        culprit = host  # every connection has a port of its own
    return Kind(event.part, event.level, event.message, culprit)


def opened(path: str, instead: int = -1) -> int:
    """A descriptor that adds to a file of lines, in place of another one, which is closed. Raises OSError.

    Never waits: neither for a reader of a FIFO, nor for a terminal that someone has stopped.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o640)
    if instead >= 0:
        os.close(instead)
    return descriptor


class Handler:
    """Writes lines to a file, or to stderr where ``path`` is "". What it cannot write it counts and loses."""

    def __init__(self, path: str, as_json: bool, size: int) -> None:
        """``size``: bytes after which a new file begins, 0 for never; ``as_json``: lines for machines."""
        self.path = path
        self._descriptor = -1 if path else 2
        self._identity = (0, 0)
        self._limited = False
        self._written = 0
        self._lost = 0
        self._torn = False
        self._complained = False
        self._retry_at = 0.0
        self._floods = Floods()
        self._waking = False  # somebody will call ``_wake``
        self.change(as_json, size)

    def emit(self, event: Line) -> None:
        """Writes one event, or loses it."""
        now = time.monotonic()
        self._tell_floods(now)
        if event.level < WARNING or self._floods.passes(_kind(event), now):
            self._write_or_lose(event, now)
        elif not self._waking:
            self._wake_later(now)

    def _wake_later(self, now: float) -> None:
        """Has the sum told at its time: the next line may come hours later."""
        in_s = self._floods.next_s(now)
        self._waking = in_s != float("inf")
        if self._waking:
            alarm(in_s, self._wake)

    def _wake(self) -> None:
        now = time.monotonic()
        self._tell_floods(now)
        self._wake_later(now)

    def _tell_floods(self, now: float, all_of_them: bool = False) -> None:
        for kind, count, seconds in self._floods.over(now, all_of_them):
            about = {"address": kind.culprit} if kind.culprit else {}
            fields = {**about, "count": count, "seconds": max(round(seconds), 1)}
            self._write_or_lose(Line(kind.part, kind.level, f"{kind.message}: more of these", fields), now)

    def _write_or_lose(self, event: Line, now: float) -> None:
        if self._retry_at and now < self._retry_at:
            self._lost += 1
            return
        try:
            if self._lost:
                self._write(self._format(Line("log", WARNING, "lines were lost", {"count": self._lost})))
                self._lost = 0
            self._write(self._format(event))
        except OSError as error:
            self._lost += 1
            self._fault(error)
        else:
            self._complained = False
            self._retry_at = 0.0

    def change(self, as_json: bool, size: int) -> None:
        """Opens the file by its name, perhaps again; keeps the old one where that fails."""
        self._format = json_line if as_json else text_line
        self._size = size
        if not self.path:
            return
        try:
            self._open()
        except OSError as error:
            if self._descriptor < 0:
                self._fault(error)
            else:
                self._complain(
                    f"cannot open the log {self.path} anew ({error.strerror}), the old file goes on"
                )

    def close(self) -> None:
        """Tells what is still counted, and lets go of the file."""
        self._tell_floods(time.monotonic(), all_of_them=True)
        if self.path and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, line: bytes) -> None:
        if self._torn:  # end the piece of a line that stands there
            line = b"\n" + line
        if not self.path:
            if not select((), (2,), (), 0)[1]:
                raise BlockingIOError(errno.EAGAIN, "its reader is stuck")
        elif self._descriptor < 0:
            self._open()
        elif self._written and self._written + len(line) > self._size:
            self._rotate()
        count = os.write(self._descriptor, line)
        self._written += count if self._limited else 0
        self._torn = count < len(line)
        if self._torn:
            raise OSError(errno.ENOSPC, "there is room for a part of a line only")

    def _open(self) -> None:
        self._descriptor = opened(self.path, self._descriptor)
        status = os.fstat(self._descriptor)
        self._identity = (status.st_dev, status.st_ino)
        self._limited = stat.S_ISREG(status.st_mode)  # /dev/null is not to be renamed
        self._written = status.st_size if self._limited else 0

    def _rotate(self) -> None:
        """Makes FILE the one old file, FILE.1, unless someone else has moved it already; begins a new FILE."""
        try:
            status = os.stat(self.path)
            if (status.st_dev, status.st_ino) == self._identity:
                real = os.path.realpath(self.path)
                os.replace(real, real + ".1")
        except FileNotFoundError:
            pass  # moved away, and nothing there yet
        except OSError as error:
            # The folder is not ours to write: somebody else has to bound the file, and has to be told so.
            self._limited = False
            self._written = 0
            text = "the log is full and cannot be renamed, so it grows; have logrotate rename it, then send SIGHUP"
            self._write(self._format(Line("log", WARNING, text, {"path": self.path, "error": error})))
            return
        self._open()

    def _fault(self, error: OSError) -> None:
        if self.path:
            self._retry_at = time.monotonic() + RETRY_S
            self._complain(
                f"cannot write the log {self.path} ({error.strerror}), its lines are lost until that works"
            )

    def _complain(self, text: str) -> None:
        if self._complained:
            return
        self._complained = True
        try:
            if select((), (2,), (), 0)[1]:
                os.write(2, clean(f"aero: {text}", MESSAGE_CHARS).encode("utf-8", "replace") + b"\n")
        except OSError:
            pass  # nobody is left to tell


_handler: Handler | None = None  #: the one that `setup` has made


def text_line(event: Line) -> bytes:
    """``2026-11-22T14:15:00.123Z info  server: worker up tag=nas``, and a line feed."""
    level = LEVELS[event.level]
    line = f"{timestamp(event.created)} {level:5} {event.part}: {event.text}".encode("utf-8", "replace")
    if len(line) >= LINE_BYTES:
        line = line[: LINE_BYTES - 4].decode("utf-8", "ignore").encode() + b"..."
    return line + b"\n"


def json_line(event: Line) -> bytes:
    """``{"ts": ..., "level": ..., "part": ..., "event": ...}`` with the fields, and a line feed; ASCII."""
    import json

    line: dict[str, object] = {
        "ts": timestamp(event.created),
        "level": LEVELS[event.level],
        "part": event.part,
        "event": clean(event.message, MESSAGE_CHARS),
    }
    own = len(line)
    for key, value in event.fields.items():
        line[f"{key}_" if key in RESERVED else key] = _json_value(value)
    while len(text := json.dumps(line)) >= LINE_BYTES and len(line) > own:
        line.popitem()  # the last fields first: a line is whole or it is no JSON
    return text.encode() + b"\n"


def _json_value(value: object) -> object:
    finite = isinstance(value, float) and abs(value) < float("inf")  # JSON has no word for the others
    return value if finite or value is None or isinstance(value, (bool, int)) else clean(value)


def timestamp(created: float) -> str:
    """A time in seconds since 1970 as RFC 3339 in UTC with milliseconds."""
    whole = int(created)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int((created - whole) * 1000):03}Z"
