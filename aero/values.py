"""Single values: text in, a checked value out, ConfigError with what to write instead when it cannot be.

This module turns the text of one option into one value. It must not know which option asks or where the text
came from, and it must not open sockets or import anything that a worker would have to carry.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Callable, NamedTuple

from aero.errors import ConfigError

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network
    from typing import Union

    Networks = tuple[Union[IPv4Network, IPv6Network], ...]

# ----------------------------------------------------------------------------
# Limits of what can be configured
# ----------------------------------------------------------------------------

#: A DNS label has 63 characters at most (RFC 1035, 2.3.4), and `<tag>.<name>.<domain>` has one for the tag,
#: one for the target's name.
NAME_CHARS = 63
#: A host name has 253 characters at most (RFC 1035, 2.3.4, less the length bytes).
HOST_CHARS = 253
#: What is left of a host name when a tag, a target name and two dots stand before the domain.
DOMAIN_CHARS = HOST_CHARS - 2 * (NAME_CHARS + 1)
#: A registration (63 + 253 characters and about 80 of JSON per target) has to fit 64 KiB of control message.
TARGETS = 128
#: Far beyond any code that people or generators write, and little enough to hand to scrypt for nothing.
AUTH_BYTES = 1024
#: Every address of a well connected host; more is a mistake in a list.
IPS = 16
#: A link carries many streams; more links help only against loss on long paths, where gains end near a dozen.
POOL_LINKS = 16
#: Dead links are found within two intervals; an hour is beyond every NAT's patience, so more cannot be meant.
PING_S = (1, 3600)
#: A day covers a laptop's night; what is kept for it is bounded in bytes, not by this.
RESUME_S = (0, 86400)
#: Service managers kill what takes longer than some minutes to stop.
DRAIN_S = (0, 3600)
#: Login names as useradd takes them, and numbers: 32 characters is Linux's own bound.
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
#: A log file holds at least a few hundred lines before it is renamed, and at most what an editor still opens.
LOG_BYTES = (16 * 1024, 1024 * 1024 * 1024)
#: A configuration file is written by hand; this is about twenty thousand lines.
FILE_BYTES = 1024 * 1024

#: How the server writes a worker's id: `c` and 12 characters of base 32 without i, l, o, u (60 bits).
CID = re.compile(r"c[0-9abcdefghjkmnpqrstvwxyz]{12}")
#: Tags and target names are a DNS label each: a dot would split it and an underscore may not stand in a host
#: name, so neither fits `<tag>.<name>.<domain>`. Browsers lower-case host names, so names are folded too.
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
#: Host names to dial. Underscores are not DNS-clean, but container networks use them and resolvers answer.
HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")

AEADS = ("cryptography", "openssl", "pycryptodome")
LOG_FORMATS = ("text", "json")


# ----------------------------------------------------------------------------
# Single values: text in, value out, ConfigError when it cannot be
# ----------------------------------------------------------------------------


def integer(lowest: int, highest: int, unit: str = "") -> Callable[[str], int]:
    """A parser for whole numbers from ``lowest`` to ``highest``."""

    def parse(text: str) -> int:
        # int() alone would take "1_000", " 7 " and other scripts' digits; 12 digits stop huge numbers early.
        if not re.fullmatch(r"[0-9]{1,12}", text) or not lowest <= int(text) <= highest:
            raise ConfigError(f"{text!r} is not a number from {lowest} to {highest}{unit and ' ' + unit}")
        return int(text)

    return parse


def port_number(text: str, lowest: int = 1) -> int:
    """A TCP port; ``lowest=0`` where 0 can mean any free one."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not lowest <= int(text) <= 65535:
        raise ConfigError(f"{text!r} is not a port, write a number from {lowest} to 65535")
    return int(text)


def listening_port(text: str) -> int:
    """A TCP port to listen on; 0 means any free one."""
    return port_number(text, lowest=0)


def port_range(text: str) -> tuple[int, int]:
    """``LO-HI``, both included; ``0`` gives (0, 0): the system chooses."""
    if text == "0":
        return 0, 0
    match = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", text)
    low, high = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= low <= high <= 65535:
        raise ConfigError(f"{text!r} is not a range of ports, write for example 20000-39999")
    return low, high


def size(text: str) -> int:
    """A number of bytes: ``65536``, ``512K``, ``10M``, ``1G`` (powers of 1024)."""
    match = re.fullmatch(r"([0-9]{1,12})([KMG]?)", text.upper())
    if not match:
        raise ConfigError(f"{text!r} is not a size, write for example 512K or 10M")
    return int(match[1]) << 10 * " KMG".index(match[2] or " ")


def size_text(count: int) -> str:
    """The shortest text that `size` reads back as ``count``."""
    for power, unit in ((3, "G"), (2, "M"), (1, "K")):
        if count and count % 1024**power == 0:
            return f"{count // 1024**power}{unit}"
    return str(count)


def log_size(text: str) -> int:
    """A size that a log file may have, in bytes."""
    count = size(text)
    if not LOG_BYTES[0] <= count <= LOG_BYTES[1]:
        raise ConfigError(f"{text!r} is too {'small' if count < LOG_BYTES[0] else 'large'}, write 16K to 1G")
    return count


def one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    """A parser for one word out of ``choices``."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ConfigError(f"{text!r} is unknown, write {' or '.join(choices)}")
        return text

    return parse


def user(text: str) -> str:
    """A name of a user of this host; whether there is one is known when it is needed."""
    if not USER.fullmatch(text):
        raise ConfigError(f"{text!r} is not a user's name")
    return text


def check_name(text: str) -> str:
    """A tag or target name, folded to lower case."""
    folded = text.lower()
    if not NAME.fullmatch(folded):
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
    """A host name or IP address to dial or listen on (without brackets), as written."""
    last = text.rstrip(".").rpartition(".")[2]
    if ":" in text or last.isdigit():
        # A name whose last label is a number is an IPv4 address or a slip of the pen.
        good = is_ip(text)
    else:
        good = len(text) <= HOST_CHARS and ".." not in text and HOST.fullmatch(text) is not None
    if not good:
        raise ConfigError(f"{text!r} is not a host name or address")
    return text


def domain(text: str) -> str:
    """The domain under which ``<tag>.<name>.<domain>`` is served, lower case, without dots around it."""
    folded = text.strip(".").lower()
    if len(folded) > DOMAIN_CHARS or not all(NAME.fullmatch(label) for label in folded.split(".")):
        raise ConfigError(
            f"{text!r} is not a domain of up to {DOMAIN_CHARS} characters, write for example aero.example.org"
        )
    return folded


def networks(text: str) -> Networks:
    """IP networks separated by commas, in CIDR notation; an address alone means itself."""
    import ipaddress

    found = []
    for part in text.split(","):
        try:
            found.append(ipaddress.ip_network(part.strip()))
        except ValueError:
            raise ConfigError(
                f"{part.strip()!r} is not a network, write for example 127.0.0.1 or 10.0.0.0/8"
            ) from None
    if len(found) > IPS:
        raise ConfigError(f"{len(found)} networks are too many, write at most {IPS}")
    return tuple(found)


def addresses(text: str) -> tuple[str, ...]:
    """IP addresses separated by commas, each once, in the order given."""
    found: list[str] = []
    for part in text.split(","):
        ip = part.strip()
        if ip.startswith("[") and ip.endswith("]"):
            ip = ip[1:-1]
        if not is_ip(ip):
            raise ConfigError(
                f"{part.strip()!r} is not an IP address, write for example 0.0.0.0 or 0.0.0.0,::"
            )
        if ip not in found:
            found.append(ip)
    if len(found) > IPS:
        raise ConfigError(f"{len(found)} addresses are too many, write at most {IPS}")
    return tuple(found)


def path(text: str) -> str:
    """An absolute path; ``~`` stands for the home directory."""
    try:
        return os.path.abspath(os.path.expanduser(text))
    except OSError as error:
        raise ConfigError(f"{text!r} is relative to a folder that is gone ({error.strerror})") from None


def lock_file(text: str) -> str:
    """An absolute path, or "" as it is: the default lock."""
    return path(text) if text else ""


def auth_code(text: str) -> tuple[str, tuple[str, ...]]:
    """The code itself, or from ``@FILE``: the file's only line. Returns the code and warnings for the log.

    Messages name the file, never the code.
    """
    if not text.startswith("@"):
        return _checked_code(text, "the code"), ()
    where = path(text[1:])
    warnings = readable_by_others(where)
    try:
        with open(where, "rb") as file:
            data = file.read(AUTH_BYTES + 3)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the code from {where!r}: {_reason(error)}") from None
    for ending in (b"\r\n", b"\n"):
        if data.endswith(ending):
            data = data[: -len(ending)]
            break
    return _checked_code(data.decode("utf-8", "surrogateescape"), f"the code in {where!r}"), warnings


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


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def machine_host() -> str:
    """This machine's name as a worker shows it by default."""
    import socket

    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()[:HOST_CHARS]).strip(".-_") or "localhost"


def default_state(environ: Mapping[str, str] | None = None, uid: int | None = None) -> str:
    """The folder for what outlives a process; "" when this user has none (then nothing is kept).

    $XDG_STATE_HOME/aero where that is set; /var/lib/aero for root, whose home may be missing under cron; else
    ~/.local/state/aero, with the home from HOME or the user database.
    """
    environ = os.environ if environ is None else environ
    uid = os.geteuid() if uid is None else uid
    base = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(base):  # relative ones are to be ignored (XDG Base Directory Specification)
        return os.path.join(base, "aero")
    if uid == 0:
        return "/var/lib/aero"
    home = environ.get("HOME", "")
    if not os.path.isabs(home):
        import pwd

        try:
            home = pwd.getpwuid(uid).pw_dir
        except KeyError:
            return ""
    return os.path.join(home, ".local", "state", "aero") if os.path.isabs(home) else ""


# ----------------------------------------------------------------------------
# Addresses and targets
# ----------------------------------------------------------------------------


#: What listens everywhere, and what nobody elsewhere can dial.
EVERYWHERE = ("0.0.0.0", "::")


class Address(NamedTuple):
    """A host name or IP address (without brackets) and a TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, default_port: int | None = None, *, listen: bool = False) -> Address:
        """Read ``host:port``, ``[::1]:80`` or ``:8080`` (every IPv4 address).

        A default port allows ``host`` alone; ``listen`` allows port 0, any free one.
        """
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


class Target(NamedTuple):
    """One named local service of a worker; ``remote`` is the listening port that it asks for, 0 for any."""

    name: str
    host: str
    port: int
    remote: int = 0

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``name@host:port`` or ``name:host:port``, with options after ``?`` (``?remote=15432``)."""
        main, _, query = text.partition("?")
        if "://" in main:
            raise ConfigError(f"{text!r} is a URL, write a name and where it is, as in web@127.0.0.1:80")
        match = re.fullmatch(r"([^@:\[\]]*)[@:](.+:.+)", main)
        if match is None:
            raise ConfigError(f"{text!r} is not a target, write name@host:port, for example web@127.0.0.1:80")
        try:
            called = check_name(match[1])
            where = Address.parse(match[2])
            options = cls._options(query) if "?" in text else {}
        except ConfigError as error:
            raise ConfigError(f"target {text!r}: {error}") from None
        return cls(called, where.host, where.port, options.get("remote", 0))

    @staticmethod
    def _options(query: str) -> dict[str, int]:
        known: dict[str, Callable[[str], int]] = {"remote": port_number}
        found: dict[str, int] = {}
        for part in query.split("&"):
            key, _, value = part.partition("=")
            if key not in known:
                raise ConfigError(
                    f"unknown option {key!r}, known are: {', '.join(known)} (as in ?remote=15432)"
                )
            if key in found:
                raise ConfigError(f"option {key!r} is given twice")
            found[key] = known[key](value)
        return found

    @property
    def address(self) -> Address:
        """Where the worker dials."""
        return Address(self.host, self.port)

    def __str__(self) -> str:
        return f"{self.name}@{self.address}" + (f"?remote={self.remote}" if self.remote else "")


def target_list(texts: list[str]) -> tuple[Target, ...]:
    """Targets from comma-separated lists; each name, and each port asked for, once."""
    targets = tuple(Target.parse(part.strip()) for text in texts for part in text.split(",") if part.strip())
    if not targets:
        raise ConfigError("no target is given, write name@host:port, for example web@127.0.0.1:80")
    if len(targets) > TARGETS:
        raise ConfigError(f"{len(targets)} targets are too many, write at most {TARGETS}")
    names: dict[str, Target] = {}
    remotes: dict[int, Target] = {}
    for target in targets:
        if target.name in names:
            raise ConfigError(
                f"the name {target.name!r} stands for both {names[target.name]} and {target}, choose another"
            )
        if target.remote and target.remote in remotes:
            raise ConfigError(f"{remotes[target.remote]} and {target} ask for the same port")
        names[target.name] = remotes[target.remote] = target
    return targets


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine and no other, without asking anybody."""
    import ipaddress

    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def api_address(text: str) -> Address:
    """Where an API listens, to ask it."""
    if text == "off":
        raise ConfigError("the API is off; write where another one listens, for example localhost:3000")
    return Address.parse(text, 3000)


def tag_list(text: str) -> tuple[str, ...]:
    """Tags separated by commas."""
    return tuple(check_name(part.strip()) for part in text.split(","))


def cid(text: str) -> str:
    """A worker's id."""
    if not CID.fullmatch(text.lower()):
        raise ConfigError(f"{text!r} is not a worker's id; aero list shows them")
    return text.lower()


def listening_address(text: str) -> Address | None:
    """An address to listen on; ``off`` gives None."""
    return None if text == "off" else Address.parse(text, listen=True)
