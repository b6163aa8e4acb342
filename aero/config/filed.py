"""What stands in files: codes, which their owner alone may read, and lines of other kinds."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from aero.errors import ConfigError, SourceError

#: Far beyond any code that people or generators write, and little enough to hand to scrypt for nothing.
AUTH_BYTES = 1024
#: A file of an option's lines travels to the server in one message.
SECRETS_BYTES = 8 * 1024
#: What may stand behind a code in its file and does not count: a mark before it, a line's end, some blanks.
ENDING_BYTES = 64
_MARK = b"\xef\xbb\xbf"
#: A configuration file is written by hand; this is about twenty thousand lines.
FILE_BYTES = 1024 * 1024


def path(text: str) -> str:
    """An absolute path; ``~`` stands for the home directory."""
    try:
        return os.path.abspath(os.path.expanduser(text))
    except OSError as error:
        raise ConfigError(f"{text!r} is relative to a folder that is gone ({error.strerror})") from None


class Code(NamedTuple):
    """A code, and what to say in the log about where it came from."""

    text: str = ""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def auth_code(text: str, what: str = "the code") -> Code:
    """The code itself, or from ``@FILE``: the file's only line. Messages name the file, never the code.

    Raises ConfigError, SourceError.
    """
    if not text.startswith("@"):
        return Code(_checked_code(text, what))
    where = path(text[1:])
    warnings = readable_by_others(where)
    try:
        with open(where, "rb") as file:
            data = file.read(AUTH_BYTES + ENDING_BYTES)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {what} from {where!r}: {reason(error)}") from None
    plain, notes = visible(data, where)
    return Code(
        _checked_code(plain.decode("utf-8", "surrogateescape"), f"{what} in {where!r}"), warnings, notes
    )


def secret_lines(where: str) -> list[str]:
    """The lines of a file that may hold secrets, without blank ones. Messages name the file, never a line.

    Raises ConfigError, SourceError.
    """
    where = path(where)
    try:
        with open(where, "rb") as file:
            data = file.read(SECRETS_BYTES + 1)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {where!r}: {reason(error)}") from None
    if len(data) > SECRETS_BYTES:
        raise ConfigError(f"{where!r} has more than {SECRETS_BYTES} bytes")
    lines = visible(data, where)[0].decode("utf-8", "surrogateescape").split("\n")
    return [line.strip() for line in lines if line.strip()]


def visible(data: bytes, where: str) -> tuple[bytes, tuple[str, ...]]:
    """A file's content without what editors add and nobody sees; and a line for the log that says so.

    That is a byte order mark, the carriage returns of line ends, and white space at the end of lines and of the file.
    """
    plain = data[len(_MARK) :] if data.startswith(_MARK) else data
    lines = [line.rstrip() for line in plain.split(b"\n")]
    while len(lines) > 1 and not lines[-1]:
        lines.pop()
    plain = b"\n".join(lines)
    if plain in (data, data.removesuffix(b"\n")):  # the last line's end is no news
        return plain, ()
    return plain, (f"left out a byte order mark, or white space at the end of a line: {where}",)


def readable_by_others(where: str) -> tuple[str, ...]:
    """One warning if ``where`` is a file that holds a code and others on this host can read it, else none."""
    try:
        mode = os.stat(where).st_mode
    except (OSError, ValueError):
        return ()  # whoever opens it reports why it cannot be read
    if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
        return (f"{where} holds the code and can be read by others on this host: chmod 600 it",)
    return ()


def _checked_code(code: str, what: str) -> str:
    try:
        length = len(code.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"{what} is not UTF-8 text") from None
    if not length:
        raise ConfigError(f"{what} is empty")
    if length > AUTH_BYTES:
        raise ConfigError(f"{what} is longer than {AUTH_BYTES} bytes")
    if any(character in code for character in "\r\n\0"):
        raise ConfigError(f"{what} has more than one line")
    return code


def reason(error: Exception) -> str:
    """What an error says, in few words."""
    return getattr(error, "strerror", None) or str(error)


def lines_of(where: str) -> list[str]:
    """A file's lines, without empty ones. Raises SourceError."""
    try:
        with open(where, "rb") as file:
            data = file.read(FILE_BYTES)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {where!r}: {reason(error)}") from None
    return [line for line in visible(data, where)[0].decode("latin-1").split("\n") if line]
