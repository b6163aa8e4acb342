"""Real services for the targets of end-to-end tests, each on a port and in a folder of its own.

Debian's packages bring the programs; whatever instance of them runs on this machine already is neither used
nor disturbed. Each function starts one, waits until it listens, and leaves its end to the lab.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import os
import pwd
import shutil
import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e.harness import LOOPBACK, Lab, Program, connect, free_port, free_ports, listening, poll


def find(program: str) -> str:
    """The full path of a program. A missing one fails the test: nothing here is silently left out."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", *map(str, reversed(versions))])
    found = shutil.which(program, path=path)
    assert found, f"{program} is missing here; ./tests/run installs what the end-to-end suite needs"
    return found


def started(program: Program, port: int) -> None:
    poll(f"{program.name} to listen", lambda: listening(port) or not program.running)
    assert program.running, f"{program.name} ended with {program.popen.returncode}"


# ----------------------------------------------------------------------------
# Services of our own, for what no packaged program does on purpose
# ----------------------------------------------------------------------------


def serve(lab: Lab, talk: Callable[[socket.socket], None], host: str = LOOPBACK) -> int:
    """A TCP service in this process that does ``talk`` with every connection; its port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                talk(self.request)

    class Service(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        allow_reuse_address = True
        request_queue_size = 1024  # a burst of visitors is the tunnel's to survive, not this service's
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    service = Service((host, free_port()), Handler)
    thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    lab.closing.callback(thread.join)
    lab.closing.callback(service.server_close)
    lab.closing.callback(service.shutdown)
    return service.server_address[1]


def abort(connection: socket.socket) -> None:
    """Close a connection with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def echo(lab: Lab, host: str = LOOPBACK) -> int:
    """A service that sends back what it gets."""
    return serve(lab, _echo, host)


class Relay:
    """Stands between a worker and its server, and can cut one of the connections between them.

    ``connections`` are the pairs of sockets that stand, in the order in which they came; ``carried`` counts the bytes
    of both directions.
    """

    def __init__(self, lab: Lab, port: int) -> None:
        self._to = port
        self.carried = 0
        self.connections: list[tuple[socket.socket, socket.socket]] = []
        self.port = serve(lab, self._carry)

    def _carry(self, near: socket.socket) -> None:
        with connect(self._to) as far:
            far.settimeout(None)
            pair = near, far
            self.connections.append(pair)
            back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
            back.start()
            self._pump(near, far)
            back.join()
            with contextlib.suppress(ValueError):  # it was cut
                self.connections.remove(pair)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        """Carry one direction; its end, however it comes, ends both."""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.carried += len(data)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self, index: int) -> None:
        """End one connection on both sides."""
        for end in self.connections.pop(index):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


# ----------------------------------------------------------------------------
# nginx
# ----------------------------------------------------------------------------

#: Around what stands in nginx's http block: in the foreground, with all of its files in one folder.
AROUND_NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{servers}
}}
"""
_SITE = """
    sendfile on;
    client_max_body_size 0;
    server {{
        listen {host}:{port};
        listen {host}:{port_tls} ssl http2;
        ssl_certificate {folder}/tls.pem;
        ssl_certificate_key {folder}/tls.pem;
        root {root};
        dav_methods PUT DELETE;
    }}
"""


class Nginx(NamedTuple):
    """``root`` is served and can be written to with PUT.

    ``port`` speaks HTTP/1, ``port_tls`` HTTP/2 as well, with a certificate that nobody trusts.
    """

    port: int
    port_tls: int
    root: Path


def self_signed() -> bytes:
    """A key and a certificate for it, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "lab")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return secret + certificate.public_bytes(pem)


def nginx(lab: Lab) -> Nginx:
    """An nginx with one folder to download from and upload to."""
    folder, root = lab.new_folder("nginx"), lab.new_folder("www")
    port, port_tls = free_ports(2)
    (folder / "tls.pem").write_bytes(self_signed())
    config = folder / "nginx.conf"
    site = _SITE.format(folder=folder, host=LOOPBACK, port=port, port_tls=port_tls, root=root)
    config.write_text(AROUND_NGINX.format(folder=folder, servers=site))
    started(lab.start([find("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(config)]), port_tls)
    return Nginx(port, port_tls, root)


# ----------------------------------------------------------------------------
# OpenSSH
# ----------------------------------------------------------------------------

_SSHD = """
ListenAddress {host}:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
Subsystem sftp internal-sftp
"""

_SSH = """
Host lab
    HostName {host}
    Port {port}
    User {user}
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    IdentityAgent none
    BatchMode yes
    GlobalKnownHostsFile none
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking yes
    HostKeyAlias lab
    LogLevel ERROR
"""


class Sshd(NamedTuple):
    """An sshd that lets this user in with a key of its own."""

    port: int
    folder: Path

    def client(self, port: int) -> str:
        """An ssh configuration in which `lab` is this sshd, reached at another port; its path."""
        config = self.folder / f"ssh_config_{port}"
        config.write_text(_SSH.format(host=LOOPBACK, port=port, user=getpass.getuser(), folder=self.folder))
        return str(config)


def sshd(lab: Lab) -> Sshd:
    """An sshd with throw-away keys."""
    folder = lab.new_folder("sshd")
    for key in ("host_key", "user_key"):
        lab.check([find("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / key)])
    (folder / "known_hosts").write_text("lab " + (folder / "host_key.pub").read_text())
    port = free_port()
    config = folder / "sshd_config"
    config.write_text(_SSHD.format(host=LOOPBACK, port=port, folder=folder))
    if os.geteuid() == 0:
        # Debian's start script makes it; on a machine where no sshd ever ran it is not there.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    started(lab.start([find("sshd"), "-D", "-e", "-f", str(config)]), port)
    return Sshd(port, folder)


# ----------------------------------------------------------------------------
# PostgreSQL and Redis
# ----------------------------------------------------------------------------


def _unprivileged() -> str | None:
    """Whom to run as a program that refuses root; None when we are not root ourselves."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def postgres(lab: Lab) -> int:
    """A database cluster with the superuser `lab`, who needs no password; its port."""
    folder, user, port = lab.new_folder("postgres"), _unprivileged(), free_port()
    if user:
        shutil.chown(folder, user)
    data = str(folder / "data")
    initdb = [find("initdb"), "-D", data, "-U", "lab", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    assert lab.start(initdb, user=user).wait() == 0, "initdb failed"
    settings = {"listen_addresses": LOOPBACK, "unix_socket_directories": str(folder), "fsync": "off"}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    database = lab.start([find("postgres"), "-D", data, "-p", str(port), *options], user=user)
    database.says("ready to accept connections")
    return port


def redis(lab: Lab) -> int:
    """A Redis that keeps nothing on disk; its port."""
    port = free_port()
    options = ["--bind", LOOPBACK, "--port", str(port), "--dir", str(lab.new_folder("redis")), "--save", ""]
    started(lab.start([find("redis-server"), *options]), port)
    return port
