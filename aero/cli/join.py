"""`aero join`: from an invitation's code to a configuration with a credential of its own, and what keeps a worker up.

The credential's code is made here and stays here: the server gets a verifier of it, and the file that is written is for
this user alone.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import Callable

from aero.cli import service
from aero.config import values
from aero.config.option import Options, Raw
from aero.config.roles import ClientConfig, JoinConfig
from aero.config.table import WayOptions
from aero.core.handshake import INVITED
from aero.core.joining import Welcome
from aero.core.spake2plus import Verifier
from aero.core.stretch import MARK, stretch
from aero.endpoint import Endpoints
from aero.errors import ConfigError, HostError

_CODE = re.compile(r"([0-9]{1,4})-([a-z]+(?:-[a-z]+){1,5})")
_CODE_BYTES = 24
_HEAD = "# Made by aero join. The code below is this worker's alone: keep it to yourself.\n[client]\n"
_ID_CHARS = 8  # 40 bits: no two of a user's 256 are alike
#: What a target is called by its port, where nobody says.
NAMES = {22: "ssh", 80: "web", 443: "https", 3306: "mysql", 3389: "rdp", 5432: "postgres", 5900: "vnc"}


def code(text: str) -> tuple[str, str]:
    """The name under which an invitation's code is proved, and its words. Raises ConfigError."""
    match = _CODE.fullmatch(re.sub(r"[\s_-]+", "-", text.strip().lower()))
    if match is None:
        raise ConfigError(
            "that is not the code of an invitation, write it as aero invite has printed it: 4-lantern-harbor"
        )
    return f"{INVITED}{int(match[1])}", match[2]


def joined(server: str, words: str, given: Options, gather: Callable[[list[str]], Options]) -> str:
    """Proves a code to a server, and writes what came of it; what to print.

    ``given``: the options of ``aero join``; ``gather``: those of ``aero client``, from a command line.

    Raises AeroError.
    """
    config = JoinConfig.parse(given)
    endpoints = Endpoints.parse(server)
    login, phrase = code(words)
    folder = os.path.dirname(config.file) if config.file else _folder()
    _check_folder(folder, config.file)
    chosen, credential = secrets.token_urlsafe(_CODE_BYTES), _credential_id()
    verifier = Verifier.of(*stretch(chosen, MARK + credential)).text
    ways = {each.field: getattr(config, each.field) for each in WayOptions.OPTIONS}
    from aero.worker.joiner import join

    asking = ClientConfig(server=endpoints, auth=phrase, user=login, host=values.machine_host(), **ways)
    welcome = join(asking, credential, verifier)
    targets = [str(each) for each in config.targets] or offered(welcome.allow)
    raw = {name: value for name, (value, _) in given.raw().items() if name in WayOptions.known()}
    path = _written(config.file, folder, welcome, text(server, welcome, chosen, targets, raw))
    lines = [
        f"joined as {welcome.login}, with the tag {welcome.tag}; its configuration, for this user alone: {path}"
    ]
    if not targets:
        lines.append('say there what to offer, in a line like: target = ["web@127.0.0.1:80"]')
    return "\n".join((*lines, *_keeping(path, gather))) + "\n"


def offered(allowed: str) -> list[str]:
    """A target for each single address and port of what an invitation allows."""
    found: list[str] = []
    names: set[str] = set()
    for item in values.allowed(allowed).items if allowed else ():
        if item.low != item.high or not item.low:
            continue
        host = item.where
        if not isinstance(host, str):
            if host.num_addresses != 1:
                continue
            host = f"[{host.network_address}]" if host.version == 6 else str(host.network_address)
        name = NAMES.get(item.low, f"port-{item.low}")
        while name in names:
            name += "-2"
        names.add(name)
        found.append(f"{name}@{host}:{item.low}")
    return found


def text(server: str, welcome: Welcome, chosen: str, targets: Iterable[str], ways: Mapping[str, Raw]) -> str:
    """The configuration file."""
    keys: dict[str, object] = {
        "server": server,
        "user": welcome.login,
        "auth": chosen,
        "tag": welcome.tag,
        **({"allow": welcome.allow} if welcome.allow else {}),
        **{name: value for name, value in ways.items() if value is not False},
        **({"target": list(targets)} if targets else {}),
    }
    # What JSON writes for texts, lists of texts and true is TOML, too.
    lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in keys.items())
    return _HEAD + "".join(lines)


def _keeping(path: str, gather: Callable[[list[str]], Options]) -> list[str]:
    """The command that runs the worker, and what keeps it running."""
    start = service.program(sys.argv[0])
    quoted = shlex.join([*start, "client", "--config", path])
    install = shlex.join([*start, "service", "install", "--write", "client", "--config", path])
    try:
        line = service.cron(service.role("client", gather(["--config", path])), start).text.rstrip()
    except (ConfigError, HostError) as error:
        return [f"to run it: {quoted}", f"but first: {error}"]
    unit = service.has_systemd()
    return [
        f"to run it: {quoted}",
        *([f"to keep it by systemd: {'' if os.geteuid() == 0 else 'sudo '}{install}"] if unit else []),
        f"to keep it by cron, a line for crontab -e: {line}",
    ]


def _credential_id() -> str:
    return "".join(secrets.choice("0123456789abcdefghjkmnpqrstvwxyz") for _ in range(_ID_CHARS))


def _folder() -> str:
    return "/etc/aero" if os.geteuid() == 0 else os.path.expanduser("~/.config/aero")


def _check_folder(folder: str, path: str) -> None:
    """The code is good once: what cannot be written had better be known before. Raises HostError."""
    if path and os.path.lexists(path):
        raise HostError(f"{path} is there already: name another file, or move that away")
    try:
        os.makedirs(folder or ".", 0o700, exist_ok=True)
    except OSError as error:
        raise HostError(f"cannot make {folder}: {error.strerror}") from None
    probe = os.path.join(folder, f".aero-join-{os.getpid()}")
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(probe)
    except OSError as error:
        text = f"cannot write into {folder or '.'}: {error.strerror}; name another file with --file"
        raise HostError(text) from None


def _written(path: str, folder: str, welcome: Welcome, content: str) -> str:
    """Writes the file, for this user alone; where it is. Raises HostError."""
    places = (
        [path]
        if path
        else [f"{folder}/{welcome.tag}{end}.toml" for end in ("", *(f"-{n}" for n in range(2, 100)))]
    )
    for place in places:
        try:
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(content)
        except FileExistsError:
            continue
        except OSError as error:
            raise HostError(
                f"joined as {welcome.login}, but cannot write {place}: {error.strerror}; ask for another invitation"
            ) from None
        return place
    raise HostError(f"{places[-1]} is there already; ask for another invitation")
