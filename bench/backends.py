"""The services that stand behind every tunnel: nginx, iperf3 and an echo. They know nothing of tunnels.

One instance of each serves all peers, so that no peer gets a better backend than another. Run as a
program, this file is the echo itself.
"""

from __future__ import annotations

import os
import pwd
import selectors
import socket
import sys
from pathlib import Path

import host

WEB = "web"  # nginx: GET /small, GET /large
BULK = "bulk"  # iperf3 -s
ECHO = "echo"  # sends back whatever comes
PACKAGES = {"nginx": "nginx-light", "iperf3": "iperf3"}

SMALL_FILE_BYTES = 1024  # an RPC answer; the cost per request shows, not the cost per byte
LARGE_FILE_BYTES = 100 * 1024  # a page, a picture: some of both

NGINX_CONFIG = """\
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile 8192;
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections 4096; multi_accept on; }}
http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    tcp_nodelay on;
    open_file_cache max=16;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen {address}:{port} backlog=4096; root {folder}/files; }}
}}
"""


class Backends:
    """Starts the three; `ports` maps WEB, BULK and ECHO to their ports at the worker's end."""

    def __init__(self, lab: host.Lab) -> None:
        web, bulk, echo = host.free_ports(3)
        listen = lab.site.listen
        self.ports = {WEB: web, BULK: bulk, ECHO: echo}
        processes = [
            lab.spawn(
                "nginx",
                [
                    host.tool("nginx"),
                    "-e",
                    "stderr",
                    "-c",
                    str(_nginx_files(lab.folder("nginx"), listen, web)),
                ],
                far=True,
            ),
            lab.spawn("iperf3", [host.tool("iperf3"), "-s", "-B", listen, "-p", str(bulk)], far=True),
            lab.spawn("echo", [sys.executable, str(Path(__file__).resolve()), listen, str(echo)], far=True),
        ]
        host.wait_for("the backends", lambda: lab.listening([web, bulk, echo]), processes)


def _nginx_files(folder: Path, listen: str, port: int) -> Path:
    files = folder / "files"
    files.mkdir()
    (files / "small").write_bytes(b"x" * (SMALL_FILE_BYTES - 1) + b"\n")
    (files / "large").write_bytes(b"x" * LARGE_FILE_BYTES)
    config = folder / "nginx.conf"
    # A root master would give its workers to another user, who cannot read this private folder.
    user = f"user {pwd.getpwuid(0).pw_name} root;" if os.geteuid() == 0 else ""
    config.write_text(NGINX_CONFIG.format(user=user, folder=folder, address=listen, port=port))
    return config


def serve_echo(address: str, port: int) -> None:
    """Send back what comes, on any number of connections, until killed. Meant for messages that fit the
    socket buffer: a peer that never reads would stop it."""
    listener = socket.create_server((address, port), backlog=1024)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ, listener)
    while True:
        for key, _ in selector.select():
            connection: socket.socket = key.data
            if connection is listener:
                visitor = listener.accept()[0]
                visitor.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(visitor, selectors.EVENT_READ, visitor)
                continue
            try:
                data = connection.recv(65536)
                connection.sendall(data)
            except ConnectionError:
                data = b""
            if not data:
                selector.unregister(connection)
                connection.close()


if __name__ == "__main__":
    serve_echo(sys.argv[1], int(sys.argv[2]))
