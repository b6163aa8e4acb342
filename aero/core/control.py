"""Control messages: what the two ends of a session say in JSON, as types (PROTOCOL.md, same names).

Each type packs itself; `parse_control` reads a payload, checks every field, and raises RemoteProtocolError for one that
does not fit. Nothing outside this module knows a key's name. Keys that are not named here are ignored, so that later
versions can add some.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Callable, NamedTuple, TypeVar, Union

from aero.address import HOST_CHARS, Address, LocalPlace, check_name
from aero.core import fields, frames
from aero.core.codes import Close
from aero.errors import ConfigError, RemoteProtocolError

# --- fields ----------------------------------------------------------------------------------------

MAX_ID = 0xFFFF  # ids of targets have 16 bits in OPEN
MAX_PORT = 0xFFFF
MAX_RATE = (1 << 40) - 1  # bytes a second
#: Targets that one register message is read for; one more than any worker may have, so that it is told so.
MAX_TARGETS = 128
#: Addresses that one mapping listens on; a host with more has a list by mistake.
MAX_LISTEN = 64
MAX_LISTEN_CHARS = 80  # "[" + 45 characters of IPv6 + "%zone]:65535", and some
#: Options of one target: a key is a short word, a value a line of text, a number, yes or no, or a list of lines.
MAX_OPTIONS = 32
OPTION = re.compile(r"[a-z][a-z0-9-]{0,31}")
MAX_OPTION_CHARS = 1024
MAX_OPTION_ITEMS = 64
#: "host:port" of a target, the host at its longest. Names in other scripts stand there as DNS has them (xn--...): to
#: convert 128 of them takes a tenth of a second.
MAX_LOCAL_CHARS = HOST_CHARS + len("[]:65535-65535")
PROTOCOLS = ("tcp", "udp")
#: Why a target has no mapping.
INVALID, DUPLICATE, TOO_MANY, OUT_OF_RANGE, TAKEN, DENIED = (
    "invalid",
    "duplicate",
    "too many",
    "out of range",
    "taken",
    "denied",
)
MAX_ERROR_CHARS = 32
#: Why a target does not work, in a few words.
MAX_WHY_CHARS = 128
Option = Union[str, int, bool, "list[str]"]
Options = Mapping[str, Option]
NO_RATES: Mapping[int, int] = MappingProxyType({})
NO_OPTIONS: Options = MappingProxyType({})

# --- what is said -----------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """One target that a worker registers.

    ``local`` is where it is, as `LocalPlace` reads it, for people; ``remote`` the listening port that it asks for and
    ``had`` the one that it had before, both 0 for none; ``options`` what else it wants. ``row``: it has so many ports
    in a row: those numbers are the first ones, and so many ids from ``id`` on are its own.
    """

    id: int
    name: str
    local: str
    remote: int = 0
    had: int = 0
    proto: str = "tcp"
    options: Options = NO_OPTIONS
    row: int = 1


class Answer(NamedTuple):
    """What becomes of one target: a mapping (``port``, ``listen``, the options that are honoured), or an ``error``."""

    id: int
    name: str = ""
    port: int = 0
    listen: tuple[str, ...] = ()
    options: Options = NO_OPTIONS
    error: str = ""
    text: str = ""


R = TypeVar("R", "Register", "Registered")


class Register(NamedTuple):
    """A worker's targets. One that cannot be stands here as the answer that it gets."""

    targets: tuple[Wanted | Answer, ...]

    def pack(self) -> bytes:
        """The payload."""
        targets = []
        for each in self.targets:
            if isinstance(each, Answer):
                continue
            said: dict[str, Any] = {
                "id": each.id,
                "name": each.name,
                "proto": each.proto,
                "local": each.local,
                "remote": each.remote,
            }
            if each.had:
                said["had"] = each.had
            if each.options:
                said["options"] = dict(each.options)
            targets.append(said)
        return frames.pack_json({"do": "register", "targets": targets})


class Registered(NamedTuple):
    """The server's answers, in one message or in several."""

    targets: tuple[Answer, ...]

    def pack(self) -> bytes:
        """The payload."""
        targets = []
        for each in self.targets:
            said: dict[str, Any] = {"id": each.id, "name": each.name}
            if each.error:
                said |= {"error": each.error, "text": each.text[: frames.MAX_TEXT_BYTES]}
            else:
                said |= {"port": each.port, "listen": list(each.listen)}
                if each.options:
                    said["options"] = dict(each.options)
            targets.append(said)
        return frames.pack_json({"do": "registered", "targets": targets})


def fitting(message: R) -> list[R]:
    """The same in messages none of which is longer than the wire allows, as far as one target fits one at all."""
    if len(message.targets) == 1 or len(message.pack()) <= frames.MAX_JSON_BYTES:
        return [message]
    half = len(message.targets) // 2
    parts = message._replace(targets=message.targets[:half]), message._replace(targets=message.targets[half:])
    return [each for part in parts for each in fitting(part)]


class Unregister(NamedTuple):
    """Targets that are gone, by their ids; streams that are open go on."""

    ids: tuple[int, ...]

    def pack(self) -> bytes:
        """The payload."""
        return frames.pack_json({"do": "unregister", "ids": list(self.ids)})


class RateLimits(NamedTuple):
    """The server's: how fast the worker may send, in bytes a second, 0 for as fast as it can.

    ``all`` together, to each ``visitor``'s address, and from each of ``targets``, by id: what is not there as it likes.
    """

    all: int = 0
    visitor: int = 0
    targets: Mapping[int, int] = NO_RATES

    def pack(self) -> bytes:
        """The payload."""
        said: dict[str, Any] = {"do": "limits"}
        if self.all:
            said["all"] = self.all
        if self.visitor:
            said["visitor"] = self.visitor
        if self.targets:
            said["targets"] = [list(each) for each in self.targets.items()]
        return frames.pack_json(said)


class Look(NamedTuple):
    """What a worker saw when it looked at one of its targets: ``why`` it does not work, "" where it does."""

    id: int
    why: str = ""


class Seen(NamedTuple):
    """What a worker has seen of its targets since it last said so; at most once a second."""

    looks: tuple[Look, ...]

    def pack(self) -> bytes:
        """The payload."""
        looks = [{"id": each.id, **({"why": each.why} if each.why else {})} for each in self.looks]
        return frames.pack_json({"do": "health", "targets": looks})


class Added(NamedTuple):
    """A target that the server asks a worker to offer: ``local`` is its ``host:port``, ``remote`` as in Wanted."""

    name: str
    local: str
    proto: str = "tcp"
    remote: int = 0


class AddedTargets(NamedTuple):
    """All targets that the server asks a worker to offer, besides its own; those of before that are not here go."""

    targets: tuple[Added, ...]

    def pack(self) -> bytes:
        """The payload."""
        targets = [
            {"name": each.name, "proto": each.proto, "local": each.local}
            | ({"remote": each.remote} if each.remote else {})
            for each in self.targets
        ]
        return frames.pack_json({"do": "add", "targets": targets})


class Decline(NamedTuple):
    """Why a worker does not offer a target that the server has asked for."""

    name: str
    proto: str
    why: str


class Declined(NamedTuple):
    """What a worker does not offer of the last AddedTargets; it registers the others, as its own."""

    targets: tuple[Decline, ...]

    def pack(self) -> bytes:
        """The payload."""
        targets = [
            {"name": each.name, "proto": each.proto, "why": each.why[:MAX_WHY_CHARS]} for each in self.targets
        ]
        return frames.pack_json({"do": "declined", "targets": targets})


class Unknown(NamedTuple):
    """A message of another version, which is ignored; ``do`` is its name."""

    do: str

    def pack(self) -> bytes:
        """The payload."""
        return frames.pack_json({"do": self.do})


# --- how it is read ---------------------------------------------------------------------------------

Control = Union[Register, Registered, Unregister, Seen, RateLimits, AddedTargets, Declined, Unknown]


def parse_control(payload: memoryview) -> Control:
    """The control message in a frame's payload. Raises RemoteProtocolError for one that is known and does not fit."""
    data = frames.unpack_json(payload, frames.CONTROL)
    do = data.get("do")
    parse = _PARSERS.get(do) if isinstance(do, str) else None
    return parse(data) if parse is not None else Unknown(str(do))


def _parse_register(data: dict[str, Any]) -> Register:
    return Register(
        tuple(_wanted(each) for each in fields.array("register", data, "targets")[: MAX_TARGETS + 1])
    )


def _wanted(data: Any) -> Wanted | Answer:
    """One target of a register message: a slip in one spoils no other, so it is answered and ends nothing."""
    number = data.get("id") if isinstance(data, dict) else None
    if type(number) is not int or not 0 < number <= MAX_ID:
        return Answer(0, error=INVALID, text=f"a target needs an id from 1 to {MAX_ID}")
    name = data.get("name")
    try:
        return _checked(number, data)
    except ConfigError as error:
        # A name that is none goes back as far as one could have been read.
        called = name[:MAX_ERROR_CHARS] if isinstance(name, str) else ""
        return Answer(number, called, error=INVALID, text=str(error)[: frames.MAX_TEXT_BYTES])


def _checked(number: int, data: dict[str, Any]) -> Wanted:
    name, local, proto = data.get("name"), data.get("local"), data.get("proto", "tcp")
    if not isinstance(name, str) or not isinstance(local, str) or proto not in PROTOCOLS:
        raise ConfigError("a target needs a name, a local address and the protocol tcp or udp")
    if not local.isascii() or len(local) > MAX_LOCAL_CHARS:
        raise ConfigError(f"a local address has at most {MAX_LOCAL_CHARS} characters, all of them ASCII")
    remote, had = data.get("remote", 0), data.get("had", 0)
    if not all(type(port) is int and 0 <= port <= MAX_PORT for port in (remote, had)):
        raise ConfigError(f"a remote port is a number from 0 to {MAX_PORT}")
    place = LocalPlace.parse(local)
    if proto != "tcp" and not isinstance(place.at, Address):
        raise ConfigError("a socket in the file system is for TCP targets only")
    row = place.row
    if number + row - 1 > MAX_ID or max(remote, had) + row - 1 > MAX_PORT:
        raise ConfigError(f"{row} ports in a row have ids and ports of at most {MAX_ID}")
    return Wanted(number, check_name(name), str(place), remote, had, proto, _options(data), row)


def _options(data: dict[str, Any]) -> Options:
    """The options of a target. Raises ConfigError."""
    options = data.get("options", {})
    if not isinstance(options, dict) or len(options) > MAX_OPTIONS:
        raise ConfigError(f"options are an object of at most {MAX_OPTIONS} keys")
    for key, value in options.items():
        items = value if isinstance(value, list) else [value]
        good = all(isinstance(item, str) and len(item) <= MAX_OPTION_CHARS for item in items)
        number = isinstance(value, int) and abs(value) <= fields.MAX_POSITION
        if not OPTION.fullmatch(key) or not (good or number) or len(items) > MAX_OPTION_ITEMS:
            raise ConfigError(
                f"option {key[:MAX_ERROR_CHARS]!r} is not a short text, number, or list of texts"
            )
    return options


def _parse_registered(data: dict[str, Any]) -> Registered:
    return Registered(tuple(_answer(each) for each in fields.array("registered", data, "targets")))


def _answer(data: Any) -> Answer:
    what = "registered"
    if not isinstance(data, dict):
        raise fields.wrong(what, "targets", "a list of objects")
    number, name = (
        fields.count(what, data, "id", 0, MAX_ID),
        fields.text(what, data, "name", frames.MAX_TEXT_BYTES),
    )
    if "error" in data:
        error = fields.text(what, data, "error", MAX_ERROR_CHARS)
        text = fields.text(what, data, "text", frames.MAX_TEXT_BYTES)
        return Answer(number, name, error=error or INVALID, text=text)
    port, listen = fields.count(what, data, "port", 1, MAX_PORT), data.get("listen", [])
    good = isinstance(listen, list) and len(listen) <= MAX_LISTEN
    if not good or not all(isinstance(each, str) and len(each) <= MAX_LISTEN_CHARS for each in listen):
        raise fields.wrong(what, "listen", "a list of addresses")
    try:
        return Answer(number, name, port, tuple(listen), _options(data))
    except ConfigError as error:
        raise RemoteProtocolError(Close.FRAME, f"{what}: {error}") from None


def _parse_limits(data: dict[str, Any]) -> RateLimits:
    what = "limits"
    targets = fields.array(what, data, "targets") if "targets" in data else []
    for each in targets:
        good = isinstance(each, list) and len(each) == 2 and all(type(number) is int for number in each)
        if not good or not 0 < each[0] <= MAX_ID or not 0 <= each[1] <= MAX_RATE:
            raise fields.wrong(what, "targets", "a list of ids with rates")
    every, visitor = (fields.count(what, {key: 0, **data}, key, 0, MAX_RATE) for key in ("all", "visitor"))
    return RateLimits(every, visitor, dict(targets[:MAX_TARGETS]))


def _objects(message: str, data: dict[str, Any]) -> list[dict[str, Any]]:
    targets = fields.array(message, data, "targets")
    if len(targets) > MAX_TARGETS or not all(isinstance(each, dict) for each in targets):
        raise fields.wrong(message, "targets", f"a list of at most {MAX_TARGETS} objects")
    return targets


def _parse_added(data: dict[str, Any]) -> AddedTargets:
    try:
        wanted = [_checked(1, each) for each in _objects("add", data)]
    except ConfigError as error:
        raise RemoteProtocolError(Close.FRAME, f"add: {error}") from None
    return AddedTargets(tuple(Added(each.name, each.local, each.proto, each.remote) for each in wanted))


def _parse_declined(data: dict[str, Any]) -> Declined:
    what = "declined"
    return Declined(
        tuple(
            Decline(
                fields.word(what, each, "name", check_name),
                fields.word(what, each, "proto", _protocol),
                fields.text(what, each, "why", MAX_WHY_CHARS),
            )
            for each in _objects(what, data)
        )
    )


def _protocol(text: str) -> str:
    if text not in PROTOCOLS:
        raise ConfigError("it is tcp or udp")
    return text


def _parse_unregister(data: dict[str, Any]) -> Unregister:
    ids = fields.array("unregister", data, "ids")
    if not all(type(each) is int and 0 < each <= MAX_ID for each in ids):
        raise fields.wrong("unregister", "ids", f"a list of numbers from 1 to {MAX_ID}")
    return Unregister(tuple(ids))


def _parse_seen(data: dict[str, Any]) -> Seen:
    return Seen(
        tuple(
            Look(
                fields.count("health", each, "id", 1, MAX_ID),
                fields.text("health", each, "why", MAX_WHY_CHARS),
            )
            for each in _objects("health", data)
        )
    )


_PARSERS: dict[str, Callable[[dict[str, Any]], Control]] = {
    "register": _parse_register,
    "registered": _parse_registered,
    "unregister": _parse_unregister,
    "limits": _parse_limits,
    "health": _parse_seen,
    "add": _parse_added,
    "declined": _parse_declined,
}
