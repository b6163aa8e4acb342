"""Fields of what two ends say in JSON: each is checked for its type, length and characters.

What does not fit raises RemoteProtocolError, which names the message and the key. `joining.py` and `control.py` say
which fields there are.
"""

from __future__ import annotations

import re
from typing import Any, Callable

from aero.core.codes import Close
from aero.errors import ConfigError, RemoteProtocolError

#: Identities, ids and secrets are printable ASCII without blanks; ours have 32 hexadecimal digits at most.
TOKEN = re.compile(r"[!-~]{1,64}")
MAX_POSITION = (1 << 64) - 1  # positions have 64 bits in ACK


def wrong(message: str, key: str, what: str) -> RemoteProtocolError:
    """The error for a field that is not ``what``; it names the message and the key."""
    return RemoteProtocolError(Close.FRAME, f"{message}: {key} is not {what}")


def token(message: str, data: dict[str, Any], key: str) -> str:
    """An identity, an id or a secret."""
    value = data.get(key)
    if not isinstance(value, str) or not TOKEN.fullmatch(value):
        raise wrong(message, key, "1 to 64 printable ASCII characters")
    return value


def text(message: str, data: dict[str, Any], key: str, maximum: int) -> str:
    """A text for people; "" where there is none."""
    value = data.get(key, "")
    if not isinstance(value, str) or len(value) > maximum:
        raise wrong(message, key, f"a text of at most {maximum} characters")
    return value


def count(message: str, data: dict[str, Any], key: str, minimum: int, maximum: int) -> int:
    """A whole number, both bounds included."""
    value = data.get(key)
    if type(value) is not int or not minimum <= value <= maximum:
        raise wrong(message, key, f"a number from {minimum} to {maximum}")
    return value


def seconds(
    message: str, data: dict[str, Any], key: str, default: float, minimum: float, maximum: float
) -> float:
    """Seconds, both bounds included; ``default`` where there is none."""
    value: float = data.get(key, default)
    if type(value) not in (int, float) or not minimum <= value <= maximum:
        raise wrong(message, key, f"a number of seconds from {minimum} to {maximum}")
    return value


def word(message: str, data: dict[str, Any], key: str, check: Callable[[str], str]) -> str:
    """A word that people choose at the other end: what is wrong with it is said as they would read it there."""
    value = data.get(key)
    if not isinstance(value, str):
        raise wrong(message, key, "a text")
    try:
        return check(value)
    except ConfigError as error:
        raise RemoteProtocolError(Close.DENIED, f"{message}: {key}: {error}") from None


def array(message: str, data: dict[str, Any], key: str) -> list[Any]:
    """A list of whatever."""
    value = data.get(key)
    if not isinstance(value, list):
        raise wrong(message, key, "a list")
    return value
