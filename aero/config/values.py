"""Single values: text in, a checked value out, ConfigError with what to write instead when it cannot be.

This module turns the text of one option into one value. It must not know which option asks or where the text
came from, and it must not open sockets or import anything that a worker would have to carry.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Callable

from aero.address import (
    CID,
    HOST_CHARS,
    NAME,
    NAME_CHARS,
    SOCKET_PATH_CHARS,
    Address,
    UnixPath,
    check_name,
    host,
    is_ip,
    port_number,
)
from aero.config.filed import FILE_BYTES, auth_code, lines_of, path, reason
from aero.endpoint import Header
from aero.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network
    from typing import Union

    from aero.allow import Allow
    from aero.proxies import Proxy

    Networks = tuple[Union[IPv4Network, IPv6Network], ...]

# ----------------------------------------------------------------------------
# Limits of what can be configured
# ----------------------------------------------------------------------------

#: What is left of a host name when a tag, a target name and two dots stand before the domain.
DOMAIN_CHARS = HOST_CHARS - 2 * (NAME_CHARS + 1)
#: Every address of a well connected host; more is a mistake in a list.
IPS = 16
#: A link carries many streams; more links help only against loss on long paths, where gains end near a dozen.
POOL_LINKS = 16
#: Dead links are found within two intervals; an hour is beyond every NAT's patience, so more cannot be meant.
PING_S = (1, 3600)
PING_DEFAULT_S = 60
#: Proxies and CDNs cut what is silent for 60 s, some after 30.
PING_WEBSOCKET_S = 25
#: A day covers a laptop's night; what is kept for it is bounded in bytes, not by this.
RESUME_S = (0, 86400)
#: Service managers kill what takes longer than some minutes to stop.
DRAIN_S = (0, 3600)
#: Login names as useradd takes them, and numbers: 32 characters is Linux's own bound.
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
#: With a credential's name behind it, a user's goes into the 64 bytes that the handshake has.
TUNNEL_USER_CHARS = 40
#: The name of one of a user's credentials.
CREDENTIAL = r"[a-z0-9]{4,16}"
#: Of memory: what bulk transfers need at the least, and more than any machine has.
MEMORY_BYTES = (48 * 1024 * 1024, 1024**4)
#: A log file holds at least a few hundred lines before it is renamed, and at most what an editor still opens.
LOG_BYTES = (16 * 1024, 1024 * 1024 * 1024)
#: Fields of a request beyond a WebSocket's own: a gateway's token, a name for a CDN. A token has some KiB at most.
HEADERS, HEADER_CHARS = 32, 8192
_OURS = ("upgrade", "connection", "content-length", "transfer-encoding")
#: How a pin is written, as by net/pin.py.
PIN_PREFIX = "sha256//"

AEADS = ("cryptography", "openssl", "pycryptodome")
LOG_FORMATS = ("text", "json")


# ----------------------------------------------------------------------------
# Single values: text in, value out, ConfigError when it cannot be
# ----------------------------------------------------------------------------


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
        raise ConfigError(f"{text!r} is not a range of ports, write for example 20000-32767")
    return low, high


def port_range_text(ports: tuple[int, int]) -> str:
    """The text that `port_range` reads back."""
    return f"{ports[0]}-{ports[1]}"


def mux_hosts(text: str) -> tuple[str, ...]:
    """Host names without ports, in lower case; ``*`` alone for any."""
    hosts = tuple(part.strip().lower().rstrip(".") for part in text.split(","))
    for each in hosts:
        if hosts != ("*",) and not re.fullmatch(r"[a-z0-9_.-]{1,253}|\[[0-9a-f:.]+\]", each):
            raise ConfigError(f"{each!r} is not a host name, write names without ports, or * for any")
    return hosts


def domain_globs(text: str) -> tuple[str, ...]:
    """Globs of host names, in lower case."""
    from aero.domains import check_glob

    return tuple(check_glob(part.strip()) for part in text.split(","))


SAME = "same"  # the port that workers dial


def mux_places(text: str) -> tuple[Address | str, ...]:
    """Where the mux listens: addresses, and SAME for the workers' port; ``off`` gives none."""
    if text == "off":
        return ()
    found: list[Address | str] = []
    for word in text.split(","):
        item = SAME if word.strip() == SAME else Address.parse(word.strip(), listen=True)
        if item in found:
            raise ConfigError(f"{item} is named twice")
        found.append(item)
    return tuple(found)


def files(given: list[str]) -> tuple[str, ...]:
    """Paths of files."""
    return tuple(path(each) for each in given)


def one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    """A parser for one word out of ``choices``."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ConfigError(f"{text!r} is unknown, write {', '.join(choices[:-1])} or {choices[-1]}")
        return text

    return parse


def congestion(text: str) -> str:
    """A name as the kernel has them; whether there is one is known when it is needed."""
    if not re.fullmatch(r"[a-z0-9_-]{1,15}", text):
        raise ConfigError(f"{text!r} names no congestion control, write a name as cubic or bbr")
    return text


def user(text: str) -> str:
    """A name of a user of this host; whether there is one is known when it is needed."""
    if not USER.fullmatch(text):
        raise ConfigError(f"{text!r} is not a user's name")
    return text


def allowed(text: str) -> Allow:
    """Where a worker's targets may be."""
    from aero.allow import allow

    return allow(text)


def tunnel_user(text: str) -> str:
    """A name of a user of the tunnel, folded to lower case: a tag's form, so that he has the tag of his name."""
    name = check_name(text)
    if len(name) > TUNNEL_USER_CHARS:
        raise ConfigError(f"{text!r} is too long for a user's name, {TUNNEL_USER_CHARS} characters at most")
    return name


def login(text: str) -> str:
    """A user's name, or that of one of his credentials: NAME+ID, as ``aero join`` writes it."""
    name, mark, credential = text.partition("+")
    if mark and not re.fullmatch(CREDENTIAL, credential):
        raise ConfigError(f"{text!r} is neither a user's name nor what aero join has written")
    return tunnel_user(name) + mark + credential


def invited(text: str) -> str:
    """An invitation's number, or the name of one of a user's credentials."""
    if "+" in text:
        return login(text)
    if not re.fullmatch("[0-9]{1,4}", text):
        raise ConfigError(
            f"{text!r} is neither an invitation's number nor a credential, USER+ID; see aero invites"
        )
    return text


def domain(text: str) -> str:
    """The domain under which ``<tag>.<name>.<domain>`` is served, lower case, without dots around it."""
    name = text.strip(".")
    folded = (name if name.isascii() else host(name)).lower()
    if len(folded) > DOMAIN_CHARS or not all(NAME.fullmatch(label) for label in folded.split(".")):
        raise ConfigError(
            f"{text!r} is not a domain: letters, digits and hyphens between dots, {DOMAIN_CHARS} characters at most,"
            " for example aero.example.org"
        )
    return folded


def networks(text: str) -> Networks:
    """IP networks separated by commas, in CIDR notation; an address alone means itself."""
    import ipaddress

    found = []
    for part in text.split(","):
        network = part.strip()
        try:
            found.append(ipaddress.ip_network(network))
        except ValueError:
            try:
                meant = f"the network of that address is {ipaddress.ip_network(network, strict=False)}"
            except ValueError:
                meant = "write for example 127.0.0.1 or 10.0.0.0/8"
            raise ConfigError(f"{network!r} is not a network, {meant}") from None
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
        ip = _canonical(ip)
        if ip not in found:
            found.append(ip)
    if len(found) > IPS:
        raise ConfigError(f"{len(found)} addresses are too many, write at most {IPS}")
    return tuple(found)


def _canonical(ip: str) -> str:
    """The one way to write an address: ``::`` for ``0::0``."""
    import socket

    if ":" not in ip:
        return ip
    bare, percent, zone = ip.partition("%")
    return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, bare)) + percent + zone


def lock_file(text: str) -> str:
    """An absolute path, or "" as it is: the default lock."""
    return path(text) if text else ""


def proxy(text: str) -> tuple[Proxy | str, tuple[str, ...], tuple[str, ...]]:
    """A proxy's URL, or from ``@FILE``; ``none`` gives that word. What to say in the log follows, as for a code.

    Raises ConfigError, SourceError. Messages never show the URL.
    """
    from aero.proxies import NONE, Proxy

    code = auth_code(text, "the proxy's URL")
    found: Proxy | str = NONE if code.text == NONE else Proxy.parse(code.text)
    return found, code.warnings, code.notes


def ca_file(text: str) -> str:
    """The path of a file that holds certificates as PEM. Raises ConfigError, SourceError."""
    where = path(text)
    try:
        with open(where, "rb") as file:
            found = b"-----BEGIN" in file.read(FILE_BYTES)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {where!r}: {reason(error)}") from None
    if not found:
        raise ConfigError(f"{where!r} holds no certificate as PEM (-----BEGIN CERTIFICATE-----)")
    return where


def pins(text: str) -> tuple[str, ...]:
    """Hashes of public keys, 64 hexadecimal digits or curl's ``sha256//`` and base64, as net/pin.py writes them."""
    from base64 import b64decode, b64encode

    found = []
    for part in re.split("[,;]", text):
        word = part.strip()
        try:
            if re.fullmatch("[0-9A-Fa-f]{64}", word):
                digest = bytes.fromhex(word)
            elif word.startswith(PIN_PREFIX):
                digest = b64decode(word[len(PIN_PREFIX) :], validate=True)
            else:
                digest = b""
        except ValueError:
            digest = b""
        if len(digest) != 32:
            raise ConfigError(
                f"{word!r} is not a key's pin, write what aero pin prints at the server: {PIN_PREFIX}..."
            )
        found.append(PIN_PREFIX + b64encode(digest).decode())
    return tuple(found)


def headers(lines: list[str]) -> tuple[Header, ...]:
    """Fields of a request, ``Name: value`` each, or ``@FILE`` with some lines of these. Messages show no value.

    Raises ConfigError, SourceError.
    """
    found: list[Header] = []
    for line in lines:
        if line.startswith("@"):
            found += map(_header, lines_of(path(line[1:])))
        else:
            found.append(_header(line))
    if len(found) > HEADERS:
        raise ConfigError(f"{len(found)} fields are too many, write at most {HEADERS}")
    return tuple(found)


def _header(line: str) -> Header:
    """RFC 9110, section 5: a name of token characters, a value without controls."""
    name, colon, value = line.partition(":")
    value = value.strip(" \t")
    if not colon or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", name):
        raise ConfigError("this is no field of a request, write for example 'Authorization: Bearer TOKEN'")
    if len(value) > HEADER_CHARS or not value.isascii() or not value.isprintable():
        raise ConfigError(f"the value of {name} is not ASCII text of up to {HEADER_CHARS} characters")
    if name.lower() in _OURS or name.lower().startswith("sec-websocket-"):
        raise ConfigError(f"{name} is said by the WebSocket itself, leave it out")
    return Header(name, value)


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
# Addresses and names
# ----------------------------------------------------------------------------


#: What every system takes (unix(7) has 108 with the zero at its end, others 104).
UNIX_PATH_BYTES = 103


def socket_folder(text: str) -> str:
    """A folder for sockets whose names are ``TAG.NAME``."""
    found = path(text)
    longest = SOCKET_PATH_CHARS - len("/t.n")
    if len(os.fsencode(found)) > longest:
        raise ConfigError(f"{found} is longer than {longest} bytes, which leaves no room for a socket's name")
    return found


def api_listening(text: str) -> Address | UnixPath | None:
    """Where the API is to listen; ``off`` gives None."""
    return _unix_path(text) or listening_address(text)


def api_address(text: str) -> Address | UnixPath:
    """Where an API listens, to ask it."""
    if text == "off":
        raise ConfigError("the API is off; write where another one listens, for example localhost:3000")
    return _unix_path(text) or Address.parse(text, 3000)


def _unix_path(text: str) -> UnixPath | None:
    """The path in ``unix:PATH``; None for what is none."""
    kind, colon, rest = text.partition(":")
    if kind != "unix" or not colon:
        return None
    found = path(rest)
    if len(os.fsencode(found)) > UNIX_PATH_BYTES:
        raise ConfigError(f"{found} is longer than the {UNIX_PATH_BYTES} bytes that a socket's path may have")
    return UnixPath(found)


def tag_list(text: str) -> tuple[str, ...]:
    """Tags separated by commas."""
    return tuple(check_name(part.strip()) for part in text.split(","))


def moment(text: str) -> str:
    """A month, a day, or a time in UTC, as GET /traffic/history reads them."""
    if not re.fullmatch(r"20\d\d-\d\d(-\d\d(T\d\d:\d\d:\d\dZ)?)?", text, re.ASCII):
        raise ConfigError(f"{text!r} is no time, write 2026-11, 2026-11-30 or 2026-11-30T23:00:00Z")
    return text


def target_name(text: str) -> str:
    """TAG/NAME, or CID@/NAME."""
    who, slash, name = text.partition("/")
    if not slash:
        raise ConfigError(f"{text!r} does not say whose target, write TAG/NAME, as in nas/ssh")
    return f"{check_name(who.rstrip('@'))}{'@' if who.endswith('@') else ''}/{check_name(name)}"


def whence(text: str) -> str:
    """An address or network that visitors come from, or ``me``."""
    return text if text == "me" else str(networks(text)[0])


def hook_url(url: str) -> str:
    """A URL to tell events to, or to ask: http or https with a host."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not url.isprintable() or " " in url or not url.isascii():
        raise ConfigError(f"{url!r} is not a URL, write for example https://example.org/hook")
    return url


def hook_urls(given: Iterable[str]) -> tuple[str, ...]:
    """Several of them."""
    urls = tuple(map(hook_url, given))
    if len(urls) > HOOKS:
        raise ConfigError(f"{len(urls)} hooks are too many, write at most {HOOKS}")
    return urls


#: Hooks at the most: each has a greenlet and a queue.
HOOKS = 8


def cid(text: str) -> str:
    """A worker's id."""
    folded = text.lower() if text.isascii() else ""
    if not CID.fullmatch(folded):
        raise ConfigError(f"{text!r} is not a worker's id; aero list shows them")
    return folded


def listening_address(text: str) -> Address | None:
    """An address to listen on; ``off`` gives None."""
    return None if text == "off" else Address.parse(text, listen=True)
