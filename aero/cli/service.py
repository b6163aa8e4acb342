"""`aero service install`: a systemd unit or a cron line that keeps a server or worker running on this host.

Text in, text out, and with --write onto the host. It knows how systemd and cron want things written and what each
gives a service to keep its files in; what the role's options mean stays with aero.config.roles.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from aero.address import Address
from aero.config import filed
from aero.config.option import Options, Raw
from aero.config.roles import ClientConfig, ServerConfig, ServiceConfig
from aero.errors import AeroError, ConfigError, HostError

ROLES = ("server", "client")
#: Codes go to a file that only the service can read, never onto a command line, which everyone can.
SECRETS = {each.name for role in (ServerConfig, ClientConfig) for each in role.OPTIONS if each.secret}
#: systemd keeps the log, gives the folder for state, stays in the foreground's place and chooses a user.
SYSTEMD_OWN = ("log", "log-size", "state", "lock", "detach", "run-as")
#: ProtectProc= and what else the unit asks for came with 247; an older one leaves out what it does not know.
SYSTEMD_MIN = 247
UNITS = "/etc/systemd/system"
PRIVILEGED = 1024  # ports below this need a capability

UNIT = """\
# {path}
[Unit]
Description=AeRO-proxy {what}
After=network-online.target
Wants=network-online.target
# However long the server or the network is away: go on.
StartLimitIntervalSec=0

[Service]
Type=exec
{copies}ExecStart={command}
{reload}ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=5
# A wrong option, or a host that cannot run it: trying again does not help.
RestartPreventExitStatus=2 78

# A user that exists only while this runs, and folders of its own.
DynamicUser=yes
StateDirectory={name}
StateDirectoryMode=0700
CacheDirectory={name}
CacheDirectoryMode=0700
Environment=AERO_STATE=%S/{name} AERO_CACHE=%C/{name}/parts
UMask=0077

# It speaks TCP and UDP, reads and writes its own files, and nothing else.
{capabilities}
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""

COPIES = """\
# Files that only root can read: copies for the service's user, made anew at a reload, so that what changed counts.
"""


#: Files that options of targets name.
_FILES = re.compile(r"(?<==@)[^&,]+")


class Secret(NamedTuple):
    """A code of the service: the file that is to hold it, and the code itself where that file is yet to be made."""

    option: str
    file: str
    code: str = ""


class Plan(NamedTuple):
    """What is to be installed: ``text`` for a person to read, who may do the rest by hand with ``secrets``."""

    name: str
    text: str
    secrets: list[Secret]


class Role(NamedTuple):
    """A server or worker as it was asked for: ``given`` without its codes, which are in ``secrets``."""

    word: str
    name: str
    config: ServerConfig | ClientConfig
    given: dict[str, Raw]
    secrets: list[Secret]


def role(word: str, wanted: Options) -> Role:
    """Puts together what the service will run with. What stands in a configuration file stays there.

    Raises ConfigError.
    """
    config = ClientConfig.parse(wanted) if word == "client" else ServerConfig.parse(wanted)
    name = f"aero-client-{config.tag}" if isinstance(config, ClientConfig) else "aero-server"
    paths = {"log": config.log, "lock": config.lock or "", "state": config.state}
    raw = wanted.raw()
    file = filed.path(str(raw["config"][0])) if "config" in raw else ""
    given: dict[str, Raw] = {}
    secrets = []
    for option, (value, place) in raw.items():
        in_file = bool(file) and place.startswith(f"{file} [")
        if option in SECRETS and str(value).startswith("@"):
            secrets.append(Secret(option, filed.path(str(value)[1:])))
        elif option in SECRETS and not in_file:
            secrets.append(Secret(option, f"{_code_folder()}/{name}.{option}", str(value)))
        elif not in_file:
            given[option] = _absolute(value) if option == "target" else paths.get(option, value)
    if file:
        given["config"] = file
    return Role(word, name, config, given, secrets)


def _absolute(targets: Raw) -> Raw:
    """Targets whose files (``auth=@FILE``) are found from wherever the service is started."""
    if not isinstance(targets, list):
        return targets
    return [_FILES.sub(lambda match: filed.path(match[0]), str(each)) for each in targets]


def install(wanted: ServiceConfig, role: Role) -> str:
    """Prints or writes, as ``wanted``; what to tell. Raises AeroError."""
    if wanted.systemd and wanted.cron:
        raise ConfigError("--systemd and --cron exclude each other")
    start = program(sys.argv[0])
    unit = wanted.systemd or (not wanted.cron and os.geteuid() == 0 and has_systemd())
    plan = systemd(role, start) if unit else cron(role, start)
    if not wanted.write:
        return advice(plan.secrets) + plan.text
    return write_systemd(plan) if unit else write_cron(plan)


def _code_folder() -> str:
    return "/etc/aero" if os.geteuid() == 0 else os.path.expanduser("~/.config/aero")


def program(file: str) -> list[str]:
    """The words that start this program again, from whatever place it was started: ``file`` is its sys.argv[0]."""
    path = os.path.abspath(file)
    if os.path.basename(path) == "__main__.py":  # python -m aero
        checkout = os.path.join(os.path.dirname(os.path.dirname(path)), "aero.py")
        return [sys.executable, checkout] if os.path.exists(checkout) else [sys.executable, "-m", "aero"]
    return [sys.executable, path]


# ----------------------------------------------------------------------------
# cron
# ----------------------------------------------------------------------------


def cron(role: Role, start: Sequence[str]) -> Plan:
    """A line for crontab that starts what does not run, every minute. Raises HostError."""
    given = dict(role.given)
    if "lock" not in given:
        given["lock"] = ""
    given["detach"] = True  # else cron keeps a process and a shell waiting, and all output until the end
    if not role.config.log:
        if not role.config.state:
            raise HostError("this user has no home for a log, write --log FILE too")
        given["log"] = f"{role.config.state}/{role.name}.log"
    words = [*start, role.word, *_argv(given, {secret.option: secret.file for secret in role.secrets})]
    # cron takes a percent sign for the end of a line; the shell takes the name at the end for a comment
    line = shlex.join(words).replace("%", r"\%")
    return Plan(role.name, f"* * * * * {line} # {role.name}\n", role.secrets)


def write_cron(plan: Plan) -> str:
    """Puts the line into this user's crontab, in place of an earlier one; what to tell. Raises AeroError."""
    if not shutil.which("crontab"):
        raise HostError("there is no crontab program here, put the line where your cron reads it")
    listed = subprocess.run(["crontab", "-l"], capture_output=True, text=True)  # fails when there is none yet
    lines = listed.stdout.splitlines(keepends=True) if listed.returncode == 0 else []
    write_secrets(plan.secrets)
    kept = [line for line in lines if not line.rstrip().endswith(f"# {plan.name}")]
    _run(["crontab", "-"], "".join(kept) + plan.text)
    return f"crontab now starts {plan.name} every minute; stop it with: crontab -e, and kill\n"


# ----------------------------------------------------------------------------
# systemd
# ----------------------------------------------------------------------------


def has_systemd() -> bool:
    """Whether systemd runs this host, new enough for our unit."""
    if not os.path.isdir("/run/systemd/system") or not shutil.which("systemctl"):
        return False
    told = subprocess.run(["systemctl", "--version"], capture_output=True, text=True).stdout
    version = re.match(r"systemd (\d+)", told)
    return version is not None and int(version[1]) >= SYSTEMD_MIN


def systemd(role: Role, start: Sequence[str]) -> Plan:
    """A hardened unit. Raises HostError where its user could not read the program."""
    for path in start:
        if os.path.isabs(path):
            _check_readable(path)
    given = {option: value for option, value in role.given.items() if option not in SYSTEMD_OWN}
    loaded = {secret.option: secret.file for secret in role.secrets}
    loaded.update({name: filed.path(str(given.pop(name))) for name in ("config", "users") if name in given})
    folder = f"/run/{role.name}.d"
    words = [*start, role.word, *_argv(given, {})]
    words += [f"--{name}={'@' if name in SECRETS else ''}{folder}/{name}" for name in loaded]
    words = [_quoted(word) for word in words]
    copy = f"+/bin/sh -c {_quoted(copying(role.name, folder, loaded))}\n"
    unit = UNIT.format(
        path=f"{UNITS}/{role.name}.service",
        name=role.name,
        what="server" if isinstance(role.config, ServerConfig) else f"worker {role.config.tag}",
        command=" \\\n    ".join([" ".join(words[:3]), *words[3:]]),
        copies=f"{COPIES}ExecStartPre={copy}ExecStopPost=+/bin/rm -rf {folder}\n" if loaded else "",
        reload=f"ExecReload={copy}" if loaded else "",
        capabilities=_capabilities(role.config),
        home="read-only" if any(_in_a_home(path) for path in start) else "yes",
    )
    return Plan(role.name, unit, role.secrets)


def copying(name: str, folder: str, files: Mapping[str, str]) -> str:
    """What the shell runs, as root, to give the service's user copies of files in a folder that stays root's.

    ``files``: name of the copy → the file.
    """
    owner = f'"$(stat -Lc %u /var/lib/{name})"'  # of the state's folder, which systemd has made by then
    copies = [
        f"install -m 0400 -o {owner} {shlex.quote(file)} {folder}/{copy}" for copy, file in files.items()
    ]
    return " && ".join([f"install -d -m 0711 {folder}", *copies])


def write_systemd(plan: Plan) -> str:
    """Installs and starts the unit; what to tell. Raises AeroError."""
    if os.geteuid() != 0:
        raise ConfigError(
            "writing a systemd unit needs root: use sudo, or --cron for a line in your own crontab"
        )
    write_secrets(plan.secrets)
    path = f"{UNITS}/{plan.name}.service"
    _write(path, plan.text, 0o644)
    _run(["systemctl", "daemon-reload"])
    _run(["systemctl", "enable", plan.name])
    _run(["systemctl", "restart", plan.name])
    return f"{path} is installed and started; see: systemctl status {plan.name}, journalctl -u {plan.name}\n"


def _capabilities(config: ServerConfig | ClientConfig) -> str:
    ports = []
    if isinstance(config, ServerConfig):
        faces = (each for each in (config.api, *config.mux, config.mux_tls) if isinstance(each, Address))
        ports = [config.port, config.ports[0], *(each.port for each in faces)]
    if any(0 < port < PRIVILEGED for port in ports):
        return "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE"
    return "CapabilityBoundingSet="


def _in_a_home(path: str) -> bool:
    return path.startswith(("/home/", "/root/", "/run/user/"))


def _check_readable(path: str) -> None:
    """Raises HostError where a user of no group cannot get to a file of the program."""
    real = os.path.realpath(path)
    above = os.path.dirname(real)
    good = os.path.isfile(real) and os.stat(real).st_mode & 0o004
    while good and above != os.path.dirname(above):
        good = os.stat(above).st_mode & 0o001
        above = os.path.dirname(above)
    if not good:
        raise HostError(
            f"the service's user could not read {real}: install it where everyone can, for example below /usr/local,"
            " and run this from there"
        )


def _quoted(word: str) -> str:
    """A word as ExecStart= wants it (systemd.service(5), "Command lines"; systemd.unit(5), "Specifiers")."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[^\s\"'\\;]+", escaped) else f'"{escaped}"'


# ----------------------------------------------------------------------------
# Both
# ----------------------------------------------------------------------------


def write_secrets(secrets: Iterable[Secret]) -> None:
    """Makes the files of codes that were given as text, readable for this user alone. Raises HostError."""
    for secret in secrets:
        if secret.code:
            _write(secret.file, secret.code + "\n", 0o600)


def advice(secrets: Iterable[Secret]) -> str:
    """What a person has to do about codes that were given as text; it does not say them."""
    return "".join(
        f"# First put the code into {secret.file}: (umask 077; mkdir -p {os.path.dirname(secret.file)};"
        f" cat > {secret.file})\n"
        for secret in secrets
        if secret.code
    )


def _argv(given: Mapping[str, Raw], files: Mapping[str, str]) -> list[str]:
    """Options as words; ``files``: option → the file that holds its value."""
    argv: list[str] = []
    for name, value in given.items():
        if value is True or value == "":
            argv.append(f"--{name}")
        elif value is not False:
            argv += [f"--{name}={each}" for each in (value if isinstance(value, list) else [value])]
    return argv + [f"--{name}=@{file}" for name, file in files.items()]


def _write(path: str, text: str, mode: int) -> None:
    fresh = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "w") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
        os.replace(fresh, path)
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}") from None


def _run(command: list[str], stdin: str = "") -> None:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise AeroError(f"{shlex.join(command)} failed: {said[-1] if said else done.returncode}")
