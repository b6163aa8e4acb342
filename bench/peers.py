"""The tunnels that are compared, behind one interface: aero, OpenSSH's `ssh -R`, and no tunnel at all; more of
them are in others.py.

A peer leads one port of its own to each backend and says which processes do the work. It does not know
what is measured. A peer can be stopped and started again as often as a benchmark likes; every start is a
fresh one.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shlex
import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import backends
import host

PROJECT = Path(__file__).resolve().parent.parent
SERVER = "server"  # the end that visitors reach: aero server; sshd
WORKER = "worker"  # the end beside the backends: aero client; ssh
GIVE_BACK_TIMEOUT_S = 40.0  # chisel needs its keep-alive's 25 s to find out
FIRST_BYTE_TIMEOUT_S = 5.0  # one attempt; a tunnel that holds a visitor longer than this counts as not ready


class Peer(ABC):
    """One tunnel from `ports[name]` at this end to the backend of that name."""

    packages: ClassVar[Mapping[str, str]] = {}  # what it needs: program -> Debian package, "" for none
    roles: ClassVar[Sequence[str]] = (SERVER, WORKER)

    def __init__(self, lab: host.Lab, targets: Mapping[str, int]) -> None:
        self.lab = lab
        self.targets = dict(targets)
        self.ports: dict[str, int] = {}
        self.address = host.LOOPBACK  # where visitors find the ports
        self.link_port = 0
        self._processes: dict[str, list[host.Process]] = {}

    @property
    @abstractmethod
    def label(self) -> str:
        """What the column is called."""

    @property
    def aead(self) -> str | None:
        """The AES-GCM backend that aero runs on; None for everyone else."""
        return None

    def mux_url(self, target: str, path: str) -> str | None:
        """Where this path of a target is found over the HTTP port; None for a peer without one."""
        return None

    @abstractmethod
    def start_server(self) -> None:
        """Start the server end, wait until it listens, and choose `ports`."""

    @abstractmethod
    def start_worker(self, env: Mapping[str, str] | None = None) -> None:
        """Start the worker end and return at once; `env` adds to its environment."""

    def start(self) -> None:
        """Both ends, until every port is listened on and a byte has come back through the tunnel."""
        self.start_server()
        self.start_worker()
        self.wait_first_byte()
        if self.address == host.LOOPBACK:
            self.wait_listening(f"the ports of {self.label}", *self.ports.values())

    def wait_first_byte(self) -> None:
        """Until a visitor gets its first byte back from the echo."""
        where = (self.address, self.ports[backends.ECHO])
        host.wait_for(f"the first byte through {self.label}", lambda: first_byte(where), self._all())

    def wait_listening(self, what: str, *ports: int) -> None:
        host.wait_for(what, lambda: host.listening(ports), self._all())

    def stop_worker(self) -> None:
        self._stop(WORKER)

    def stop(self) -> None:
        self._stop(WORKER)
        self._stop(SERVER)

    def choose_ports(self) -> None:
        """Fill `link_port` and `ports` with free ones."""
        self.link_port, *mapped = host.free_ports(1 + len(self.targets))
        self.ports = dict(zip(self.targets, mapped))

    def spawn(
        self,
        role: str,
        argv: Sequence[object],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> host.Process:
        """Start one of the role's processes, at the role's end."""
        process = self.lab.spawn(
            f"{type(self).__name__.lower()}-{role}",
            [str(word) for word in argv],
            cwd=cwd,
            env={**self._environment(), **(env or {})},
            far=role == WORKER,
        )
        self._processes.setdefault(role, []).append(process)
        return process

    def wait_given_back(self) -> None:
        """Until the server listens on none of the ports; before that the next worker could not have them."""
        held = list(self.ports.values())
        host.wait_for(
            f"{self.label} to give the ports back",
            lambda: not any(host.listening([port]) for port in held),
            timeout_s=GIVE_BACK_TIMEOUT_S,
        )

    def _all(self) -> list[host.Process]:
        return [process for each in self._processes.values() for process in each]

    def _stop(self, role: str) -> None:
        for process in self._processes.pop(role, []):
            self.lab.stop(process)

    @property
    def running(self) -> bool:
        up = all(process.popen.poll() is None for process in self._all())
        return bool(self.ports) and up and all(role in self._processes for role in self.roles)

    def pids(self, role: str) -> list[int]:
        """Every process of one end, children included."""
        own = [process.pid for process in self._processes.get(role, [])]
        return [*own, *(child for pid in own for child in host.descendants(pid))]

    def all_pids(self) -> list[int]:
        return [pid for role in self.roles for pid in self.pids(role)]

    def output(self, role: str) -> str:
        """What that end has said so far."""
        return "".join(process.output() for process in self._processes[role])

    def _environment(self) -> dict[str, str]:
        """Ours without anything that would configure aero behind the command line's back."""
        return {name: value for name, value in os.environ.items() if not name.startswith("AERO_")}


def first_byte(where: tuple[str, int]) -> bool:
    """One visitor's attempt: whether something sent to the echo comes back."""
    try:
        with socket.create_connection(where, timeout=FIRST_BYTE_TIMEOUT_S) as visitor:
            visitor.sendall(b"?" * 64)
            return bool(visitor.recv(64))
    except OSError:
        return False


class Direct(Peer):
    """No tunnel: what the backends and this machine can do at most."""

    roles = ()

    @property
    def label(self) -> str:
        return "direct"

    @property
    def running(self) -> bool:
        return bool(self.ports)

    def start_server(self) -> None:
        self.address = self.lab.site.far_address
        self.ports = dict(self.targets)

    def start_worker(self, env: Mapping[str, str] | None = None) -> None:
        pass


class Aero(Peer):
    """`aero server` and `aero client`, one link.

    `command` is how aero is started, seen from `checkout`. `mux` opens the HTTP mux as well, on a port of
    `mux_port`. `server_options` and `worker_options` go at the end of the command lines, for benchmarks of
    one option.
    """

    def __init__(
        self,
        lab: host.Lab,
        targets: Mapping[str, int],
        command: Sequence[str],
        aead: str | None = None,
        server_options: Sequence[str] = (),
        worker_options: Sequence[str] = (),
        checkout: Path = PROJECT,
        mux: bool = False,
    ) -> None:
        super().__init__(lab, targets)
        self.command = list(command)
        self.checkout = checkout
        self.wanted_aead = aead
        self.server_options = list(server_options)
        self.worker_options = list(worker_options)
        self.mux_port = host.free_ports(1)[0] if mux else None
        self._found_aead: str | None = None
        self._auth = secrets.token_hex(16)
        self._worker_state = lab.folder("aero-worker-state")  # kept: a restarted worker is the same worker

    @property
    def label(self) -> str:
        return f"aero, {self.aead}" if self.aead else "aero"

    @property
    def aead(self) -> str | None:
        return self.wanted_aead or self._found_aead

    def mux_url(self, target: str, path: str) -> str | None:
        return f"http://{host.LOOPBACK}:{self.mux_port}/bench/{target}{path}" if self.mux_port else None

    def version(self) -> str:
        """What `--version` says. Raises `BenchError` if aero cannot even do that."""
        done = host.run([*self.command, "--version"], 30, cwd=self.checkout)
        if done.returncode:
            raise host.BenchError(
                f"{shlex.join(self.command)} --version: {(done.stderr or done.stdout).strip()}"
            )
        return done.stdout.strip()

    def start_server(self) -> None:
        self.choose_ports()
        mapped = self.ports.values()
        self._spawn(
            SERVER,
            *("server", "--ip", self.lab.site.listen, "--port", self.link_port, "--auth", self._auth),
            *("--ports", f"{min(mapped)}-{max(mapped)}"),
            *("--state", self.lab.folder("aero-server-state")),
            *("--api", "off", "--mux", f"{host.LOOPBACK}:{self.mux_port}" if self.mux_port else "off"),
            *self.server_options,
        )
        self.wait_listening("aero server", self.link_port)
        said = re.search(r"\b(cryptography|openssl|pycryptodome)\b", self.output(SERVER))
        self._found_aead = said.group(1) if said else None

    def way_to_server(self) -> str:
        """What --server says."""
        return f"{self.lab.site.address}:{self.link_port}"

    def start_worker(self, env: Mapping[str, str] | None = None) -> None:
        targets = ",".join(
            f"{name}@{host.LOOPBACK}:{port}?remote={self.ports[name]}" for name, port in self.targets.items()
        )
        self._spawn(
            WORKER,
            *("client", "--tag", "bench", "--server", self.way_to_server()),
            *("--target", targets, "--auth", self._auth, "--state", self._worker_state),
            *self.worker_options,
            env=env,
        )

    def _spawn(self, role: str, *arguments: object, env: Mapping[str, str] | None = None) -> None:
        aead = ["--aead", self.wanted_aead] if self.wanted_aead else []
        self.spawn(role, [*self.command, *arguments, *aead], env, cwd=self.checkout)


def aero_command(text: str, python_path: str) -> list[str]:
    """The words of a command line, with a leading `python` or `python3` replaced by `python_path`."""
    words = shlex.split(text)
    if words and words[0] in ("python", "python3"):
        words[0] = python_path
    return words


def python_versions(python_path: str) -> str:
    """The interpreter's version and those of the libraries that decide aero's speed, as far as it has
    them."""
    script = (
        "import importlib.metadata as m, platform\n"
        "names = ('gevent', 'greenlet', 'pycryptodome', 'cryptography')\n"
        "have = {d.metadata['Name']: d.version for d in m.distributions()}\n"
        "print(', '.join([platform.python_version()] + [f'{n} {have[n]}' for n in names if n in have]))"
    )
    done = host.run([python_path, "-c", script], 30)
    return done.stdout.strip() or done.stderr.strip()


SSHD_CONFIG = """\
ListenAddress {address}:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
# The folder is private, but its parent, the system's temporary folder, is open to all.
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding yes
Ciphers {cipher}
Compression no
MaxSessions 4096
MaxStartups 4096
# The one kind of session that runs no shell, and with it nobody's profile.
Subsystem sftp internal-sftp
LogLevel ERROR
"""
SSH_CIPHER = "aes128-gcm@openssh.com"  # its fastest where the CPU has AES, and the cipher that aero uses
PRIVSEP_FOLDER = Path("/run/sshd")  # compiled into Debian's sshd; as root it refuses to start without


class Ssh(Peer):
    """`ssh -N -R` to an sshd of our own, with throw-away keys, one connection.

    sshd sets TCP_NODELAY on a connection only when a session is opened on it, which -N never does; what it
    forwards in small pieces then waits for acknowledgements (Nagle's algorithm). `nodelay` opens one session
    for a moment, so that ssh is measured at its best; without it, ssh is measured as people run it.
    """

    packages: ClassVar[Mapping[str, str]] = {
        "sshd": "openssh-server",
        "ssh": "openssh-client",
        "ssh-keygen": "openssh-client",
    }

    def __init__(self, lab: host.Lab, targets: Mapping[str, int], nodelay: bool = True) -> None:
        super().__init__(lab, targets)
        self.nodelay = nodelay
        self._folder = lab.folder("ssh")
        for key in ("host_key", "user_key"):
            _must(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", str(self._folder / key)])

    @property
    def label(self) -> str:
        return "ssh -R, no delay" if self.nodelay else "ssh -N -R"

    def start(self) -> None:
        super().start()
        if self.nodelay:
            _must([*self._client(), "-T", "-s", "sets-nodelay", "sftp"])  # ends at once: its input is empty

    def start_server(self) -> None:
        if os.geteuid() == 0:
            PRIVSEP_FOLDER.mkdir(mode=0o755, exist_ok=True)
        self.choose_ports()
        address = {"address": self.lab.site.listen, "port": self.link_port}
        config = self._folder / "sshd_config"
        config.write_text(SSHD_CONFIG.format(**address, folder=self._folder, cipher=SSH_CIPHER))
        kind, key = (self._folder / "host_key.pub").read_text().split()[:2]
        (self._folder / "known_hosts").write_text(
            f"[{self.lab.site.address}]:{self.link_port} {kind} {key}\n"
        )
        self.spawn(SERVER, [host.tool("sshd"), "-D", "-e", "-f", config])
        self.wait_listening("sshd", self.link_port)

    def start_worker(self, env: Mapping[str, str] | None = None) -> None:
        options = {
            "IdentityFile": self._folder / "user_key",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self._folder / "known_hosts",
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ExitOnForwardFailure": "yes",
            "Ciphers": SSH_CIPHER,
            "Compression": "no",
            "LogLevel": "ERROR",
        }
        program = [*self._client(), "-M"] if self.nodelay else ["ssh", "-F", "/dev/null"]
        argv = [*program, "-N", "-T", "-p", self.link_port]
        for name, value in options.items():
            argv += ["-o", f"{name}={value}"]
        for name, port in self.targets.items():
            argv += ["-R", f"{host.LOOPBACK}:{self.ports[name]}:{host.LOOPBACK}:{port}"]
        argv.append(f"{pwd.getpwuid(os.geteuid()).pw_name}@{self.lab.site.address}")
        self.spawn(WORKER, argv, env)

    def _client(self) -> list[str]:
        return ["ssh", "-F", "/dev/null", "-S", str(self._folder / "control")]

    def stop_worker(self) -> None:
        super().stop_worker()
        self.wait_given_back()  # sshd notices a moment later


def _must(argv: Sequence[str]) -> None:
    """Run a helper program that has no reason to fail. Raises `BenchError` with what it says when it does."""
    done = host.run(argv, 10)
    if done.returncode:
        raise host.BenchError(f"{shlex.join(argv)}: {done.stderr.strip()}")
