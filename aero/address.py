"""Addresses, targets and names: the words that every layer shares, each with the one way to read and write it.

Knows no option and no source of text; opens no socket.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from aero.errors import ConfigError

#: A DNS label has 63 characters at most (RFC 1035, 2.3.4), and `<tag>.<name>.<domain>` has one for the tag,
#: one for the target's name.
NAME_CHARS = 63
#: A host name has 253 characters at most (RFC 1035, 2.3.4, less the length bytes).
HOST_CHARS = 253
#: How the server writes a worker's id: `c` and 12 characters of base 32 without i, l, o, u (60 bits).
CID = re.compile(r"c[0-9abcdefghjkmnpqrstvwxyz]{12}")
#: Tags and target names are a DNS label each: a dot would split it and an underscore may not stand in a host
#: name, so neither fits `<tag>.<name>.<domain>`. Browsers lower-case host names, so names are folded too.
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
#: Host names to dial. Underscores are not DNS-clean, but container networks use them and resolvers answer.
HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
#: Letters and joiners that the standards of 2003 and 2008 turn into different names (RFC 5894, section 7.2).
_TWO_MEANINGS = "\u00df\u03c2\u200c\u200d"
#: What ``localhost`` means, in the order in which it is dialled.
LOOPBACK = ("127.0.0.1", "::1")
#: ::1, and how ::ffff:127.0.0.0/104 begins: the same network as IPv6 (RFC 4291, section 2.5.5.2).
_LOOPBACK_6, _LOOPBACK_MAPPED = bytes(15) + b"\1", bytes(10) + b"\xff\xff\x7f"
#: The protocols that a target may speak.
TCP, UDP = "tcp", "udp"
#: What listens everywhere, and what nobody elsewhere can dial.
EVERYWHERE = ("0.0.0.0", "::")


def check_name(text: str) -> str:
    """A tag or target name, folded to lower case."""
    folded = text.lower()
    # Some letters outside ASCII fold to ASCII ones, the Kelvin sign to k: they would be two spellings of one name.
    if not text.isascii() or not NAME.fullmatch(folded):
        raise ConfigError(
            f"{text!r} is not a name, write 1 to {NAME_CHARS} letters, digits and inner hyphens"
        )
    return folded


def check_tag(text: str) -> str:
    """A worker's tag: a name that cannot be mistaken for a worker's id."""
    folded = check_name(text)
    if CID.fullmatch(folded):
        raise ConfigError(f"{text!r} looks like a worker's id, choose another tag")
    return folded


def is_ip(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address; a zone (``fe80::1%eth0``) may follow the latter."""
    import socket

    bare, percent, zone = text.partition("%")
    if percent and (":" not in bare or not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", zone)):
        return False
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in bare else socket.AF_INET, bare)
    except (OSError, ValueError):
        return False
    return True


def host(text: str) -> str:
    """A host name or IP address to dial or listen on, without brackets; a name in another script as ``xn--...``."""
    name = text if text.isascii() else _ascii(text)
    last = name.rstrip(".").rpartition(".")[2]
    if ":" in name or last.isdigit():
        # A name whose last label is a number is an IPv4 address or a slip of the pen.
        good = is_ip(name)
    else:
        good = len(name) <= HOST_CHARS and ".." not in name and HOST.fullmatch(name) is not None
    if not good:
        raise ConfigError(f"{text!r} is not a host name or address")
    return name


def _ascii(text: str) -> str:
    """A host name as DNS has it (RFC 3490, ToASCII); "" where there is none."""
    if any(letter in _TWO_MEANINGS for letter in text):
        raise ConfigError(f"{text!r} is written in two ways in DNS, write the one you mean as xn--...")
    try:
        return text.encode("idna").decode() if len(text) <= HOST_CHARS else ""
    except UnicodeError:
        return ""


def is_localhost(host: str) -> bool:
    """Whether this is the name ``localhost`` or one under it: always `LOOPBACK`, with no resolver (RFC 6761, 6.3)."""
    return f".{host.lower().rstrip('.')}".endswith(".localhost")


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine and no other, without asking anybody."""
    import socket

    if is_localhost(host):
        return True
    bare = host.partition("%")[0]
    try:
        if ":" not in bare:
            return socket.inet_pton(socket.AF_INET, bare)[0] == 127
        packed = socket.inet_pton(socket.AF_INET6, bare)
    except (OSError, ValueError):
        return False
    return packed == _LOOPBACK_6 or packed.startswith(_LOOPBACK_MAPPED)


def port_number(text: str, lowest: int = 1) -> int:
    """A TCP port; ``lowest=0`` where 0 can mean any free one."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not lowest <= int(text) <= 65535:
        raise ConfigError(f"{text!r} is not a port, write a number from {lowest} to 65535")
    return int(text)


#: Ports of one target in a row, at the most: what media servers take for their calls by default (10,000) and more.
ROW_PORTS = 16_384


def port_row(text: str) -> tuple[int, int]:
    """The first port of ``PORT`` or ``LO-HI``, and how many they are."""
    low, dash, high = text.partition("-")
    first = port_number(low)
    row = port_number(high) - first + 1 if dash else 1
    if row < 1:
        raise ConfigError(f"{text!r} ends before it begins, write {high}-{low}")
    if row > ROW_PORTS:
        raise ConfigError(f"{text!r} are {row} ports, write {ROW_PORTS} at the most")
    return first, row


def row_text(first: int, row: int) -> str:
    """Ports as ``port_row`` reads them."""
    return str(first) if row == 1 else f"{first}-{first + row - 1}"


class UnixPath(NamedTuple):
    """A socket in the file system: where to listen, or what to ask, on this machine."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


#: What Linux takes for the path of a socket (unix(7): 108 bytes with the zero at its end).
SOCKET_PATH_CHARS = 107


def socket_path(text: str) -> UnixPath | None:
    """The socket in ``unix:/PATH``, where a service listens on its machine; None for what is none.

    Raises ConfigError for a path that cannot be one, or that the wire cannot say.
    """
    kind, colon, path = text.partition(":")
    if kind != "unix" or not colon:
        return None
    if not path.startswith("/"):
        raise ConfigError(f"{path!r} is not an absolute path, write unix:/PATH, as in unix:/run/app.sock")
    if not path.isascii() or not path.isprintable():
        raise ConfigError(f"{path!r} has characters other than printable ASCII ones, choose another path")
    if len(path) > SOCKET_PATH_CHARS:
        raise ConfigError(
            f"{path} is longer than the {SOCKET_PATH_CHARS} bytes that a socket's path may have"
        )
    return UnixPath(path)


class Address(NamedTuple):
    """A host name or IP address (without brackets) and a TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, default_port: int | None = None, *, listen: bool = False) -> Address:
        """Reads ``host:port``, ``[::1]:80`` or ``:8080`` (every IPv4 address).

        A default port allows ``host`` alone; ``listen`` allows port 0, any free one.
        """
        if "://" in text:
            raise ConfigError(f"{text!r} is a URL, write HOST:PORT alone")
        match = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^\[\]:]*))(?::([^:]*))?", text)
        if match is None:
            raise ConfigError(f"{text!r} is not an address, write HOST:PORT, or [::1]:PORT for IPv6")
        bracketed, plain, port = match[1], match[2], match[3]
        if bracketed is not None and (":" not in bracketed or not is_ip(bracketed)):
            raise ConfigError(f"{bracketed!r} is not an IPv6 address, write for example [::1]:8080")
        if port is None:
            if default_port is None or not text or (plain and plain.isdigit()):
                example = f":{text} or localhost:{text}" if text.isdigit() else f"{host(text or 'HOST')}:PORT"
                raise ConfigError(f"{text!r} is not an address with a port, write {example}")
            port = str(default_port)
        number = port_number(port, lowest=0 if listen else 1)
        return cls(bracketed if bracketed is not None else host(plain or "0.0.0.0"), number)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class LocalPlace(NamedTuple):
    """Where a target is on its worker's side: an address, with ``row`` ports in a row from its port on; or a socket."""

    at: Address | UnixPath
    row: int = 1

    @classmethod
    def parse(cls, text: str) -> LocalPlace:
        """Reads ``HOST:PORT``, ``HOST:LO-HI`` or ``unix:/PATH``."""
        sock = socket_path(text)
        if sock is not None:
            return cls(sock)
        host, colon, ports = text.rpartition(":")
        if not colon or not re.fullmatch(r"[0-9]+-[0-9]*", ports):
            return cls(Address.parse(text))
        first, row = port_row(ports)
        return cls(Address.parse(f"{host}:{first}"), row)

    def __str__(self) -> str:
        if isinstance(self.at, UnixPath) or self.row == 1:
            return str(self.at)
        return f"{self.at}-{self.at.port + self.row - 1}"

    @property
    def authority(self) -> str:
        """What stands in a request's Host for it: ``host:port``, ``localhost`` for a socket."""
        return str(self.at) if isinstance(self.at, Address) else "localhost"


class Setting(NamedTuple):
    """An option of a target: its name, its value as the wire has it, and the text that it was written as."""

    key: str
    value: str | int | bool | tuple[str, ...]
    text: str


class Target(NamedTuple):
    """One named local service of a worker.

    It is at ``host`` and ``port``, and has ``row`` ports in a row from there on; or at the socket ``path``: then those
    are "" and 0. ``remote`` is the (first) listening port that it asks for, 0 for any; ``proto`` is TCP or UDP;
    ``settings`` are its other options, sorted by name.
    """

    name: str
    host: str
    port: int
    remote: int = 0
    proto: str = TCP
    settings: tuple[Setting, ...] = ()
    path: str = ""
    row: int = 1

    @property
    def place(self) -> LocalPlace:
        """Where the worker finds it."""
        return LocalPlace(UnixPath(self.path) if self.path else Address(self.host, self.port), self.row)

    @property
    def where(self) -> str:
        """Where it is, as people write it: that, and the protocol where it is not TCP."""
        return f"{self.place}/{self.proto}" if self.proto != TCP else str(self.place)

    def setting(self, key: str) -> str | int | bool | tuple[str, ...] | None:
        """The value of an option; None where it was not given."""
        return next((each.value for each in self.settings if each.key == key), None)

    def __str__(self) -> str:
        options = [f"remote={row_text(self.remote, self.row)}"] if self.remote else []
        options += [f"{each.key}={each.text}" for each in self.settings]
        return f"{self.name}@{self.where}" + ("?" + "&".join(options) if options else "")
