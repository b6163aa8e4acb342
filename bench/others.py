"""More tunnels to compare with: frp, chisel, rathole, bore and wstunnel, each with its own defaults for encryption,
and two bare relays as the limit of aero's event loop. README.md says how each is installed.
"""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import host
from peers import SERVER, WORKER, Peer

RELAY = Path(__file__).resolve().with_name("relay.py")
BORE_PORT = 7835  # compiled into bore


class BareRelays(Peer):
    """Two processes of relay.py in a row, in the places of a server and a worker."""

    @property
    def label(self) -> str:
        return "two bare relays"

    def start_server(self) -> None:
        self.choose_ports()
        self._inner = dict(zip(self.targets, host.free_ports(len(self.targets))))
        pairs = [port for name in self.targets for port in (self.ports[name], self._inner[name])]
        self.spawn(SERVER, [sys.executable, RELAY, self.lab.site.far_address, *pairs])
        self.wait_listening(self.label, *self.ports.values())

    def start_worker(self, env: Mapping[str, str] | None = None) -> None:
        pairs = [port for name in self.targets for port in (self._inner[name], self.targets[name])]
        self.spawn(WORKER, [sys.executable, RELAY, host.LOOPBACK, *pairs], env)


class Tool(Peer):
    """A program that is started with a configuration of ours; `CODE` is what both ends know."""

    def __init__(self, lab: host.Lab, targets: Mapping[str, int], mux: bool = False) -> None:
        super().__init__(lab, targets)
        self.mux = mux
        self.code = secrets.token_hex(16)

    @property
    def label(self) -> str:
        return type(self).__name__.lower()

    def write(self, name: str, text: str) -> Path:
        path = self.lab.folder(self.label) / name
        path.write_text(text)
        return path

    def stop_worker(self) -> None:
        super().stop_worker()
        self.wait_given_back()


class Frp(Tool):
    """frps and frpc: TLS, one connection for all streams, as by default."""

    packages: ClassVar[Mapping[str, str]] = {"frps": "", "frpc": ""}

    def mux_url(self, target: str, path: str) -> str | None:
        return f"http://{host.LOOPBACK}:{self._http_port}{path}" if self.mux else None

    def start_server(self) -> None:
        self.choose_ports()
        self._http_port = host.free_ports(1)[0]
        text = f'bindAddr = "{self.lab.site.listen}"\nbindPort = {self.link_port}\n{self._common()}'
        if self.mux:
            text += f"vhostHTTPPort = {self._http_port}\n"
        self.spawn(SERVER, [host.tool("frps"), "-c", self.write("frps.toml", text)])
        self.wait_listening("frps", self.link_port)

    def start_worker(self, env: Mapping[str, str] | None = None) -> None:
        text = f'serverAddr = "{self.lab.site.address}"\nserverPort = {self.link_port}\n{self._common()}'
        for name, port in self.targets.items():
            text += f'[[proxies]]\nname = "{name}"\ntype = "tcp"\nlocalIP = "{host.LOOPBACK}"\n'
            text += f"localPort = {port}\nremotePort = {self.ports[name]}\n"
        if self.mux:
            text += f'[[proxies]]\nname = "mux"\ntype = "http"\nlocalIP = "{host.LOOPBACK}"\n'
            text += f'localPort = {self.targets["web"]}\ncustomDomains = ["{host.LOOPBACK}"]\n'
        self.spawn(WORKER, [host.tool("frpc"), "-c", self.write("frpc.toml", text)], env)

    def _common(self) -> str:
        return f'auth.token = "{self.code}"\nlog.level = "error"\n'


class Chisel(Tool):
    """chisel: SSH inside a WebSocket, remotes reversed."""

    packages: ClassVar[Mapping[str, str]] = {"chisel": ""}

    def start_server(self) -> None:
        self.choose_ports()
        where = ["--host", self.lab.site.listen, "--port", self.link_port]
        self.spawn(SERVER, [host.tool("chisel"), "server", *where, "--reverse", "--auth", f"u:{self.code}"])
        self.wait_listening("chisel", self.link_port)

    def start_worker(self, env: Mapping[str, str] | None = None) -> None:
        remotes = [
            f"R:{host.LOOPBACK}:{self.ports[name]}:{host.LOOPBACK}:{port}"
            for name, port in self.targets.items()
        ]
        server = f"http://{self.lab.site.address}:{self.link_port}"
        self.spawn(WORKER, [host.tool("chisel"), "client", "--auth", f"u:{self.code}", server, *remotes], env)


class Rathole(Tool):
    """rathole over Noise: a connection for every stream, kept in a pool."""

    packages: ClassVar[Mapping[str, str]] = {"rathole": ""}

    def start_server(self) -> None:
        self.choose_ports()
        said = host.run([host.tool("rathole"), "--genkey"], 10).stdout
        private, self._public = re.findall(r"^(\S+=)$", said, re.MULTILINE)[:2]
        text = f'[server]\nbind_addr = "{self.lab.site.listen}:{self.link_port}"\n{self._token()}'
        text += (
            f'[server.transport]\ntype = "noise"\n[server.transport.noise]\nlocal_private_key = "{private}"\n'
        )
        for name in self.targets:
            text += f'[server.services.{name}]\nbind_addr = "{host.LOOPBACK}:{self.ports[name]}"\n'
        path = self.write("server.toml", text)
        self.spawn(SERVER, [host.tool("rathole"), "--server", path], {"RUST_LOG": "error"})
        self.wait_listening("rathole", self.link_port)

    def start_worker(self, env: Mapping[str, str] | None = None) -> None:
        text = f'[client]\nremote_addr = "{self.lab.site.address}:{self.link_port}"\n{self._token()}'
        text += f'[client.transport]\ntype = "noise"\n[client.transport.noise]\nremote_public_key = "{self._public}"\n'
        for name, port in self.targets.items():
            text += f'[client.services.{name}]\nlocal_addr = "{host.LOOPBACK}:{port}"\n'
        path = self.write("client.toml", text)
        self.spawn(WORKER, [host.tool("rathole"), "--client", path], {"RUST_LOG": "error", **(env or {})})

    def _token(self) -> str:
        return f'default_token = "{self.code}"\n'

    def wait_given_back(self) -> None:
        """Nothing to wait for: its server listens by its own configuration."""


class Bore(Tool):
    """bore: no encryption, a connection for every stream, one worker process for every target."""

    packages: ClassVar[Mapping[str, str]] = {"bore": ""}

    def start_server(self) -> None:
        self.choose_ports()
        self.link_port = BORE_PORT
        self.spawn(
            SERVER, [host.tool("bore"), "server", "--bind-addr", self.lab.site.listen, "-s", self.code]
        )
        self.wait_listening("bore", self.link_port)

    def start_worker(self, env: Mapping[str, str] | None = None) -> None:
        for name, port in self.targets.items():
            where = ["--to", self.lab.site.address, "--port", self.ports[name], "--local-host", host.LOOPBACK]
            self.spawn(WORKER, [host.tool("bore"), "local", *where, "-s", self.code, port], env)


class Wstunnel(Tool):
    """wstunnel: a WebSocket in TLS for every stream."""

    packages: ClassVar[Mapping[str, str]] = {"wstunnel": ""}

    def start_server(self) -> None:
        self.choose_ports()
        url = f"wss://{self.lab.site.listen}:{self.link_port}"
        self.spawn(SERVER, [host.tool("wstunnel"), "--log-lvl", "ERROR", "server", url])
        self.wait_listening("wstunnel", self.link_port)

    def start_worker(self, env: Mapping[str, str] | None = None) -> None:
        remotes: list[str] = []
        for name, port in self.targets.items():
            remotes += ["-R", f"tcp://{host.LOOPBACK}:{self.ports[name]}:{host.LOOPBACK}:{port}"]
        url = f"wss://{self.lab.site.address}:{self.link_port}"
        self.spawn(WORKER, [host.tool("wstunnel"), "--log-lvl", "ERROR", "client", *remotes, url], env)

    def stop_worker(self) -> None:
        """Its server keeps the ports open for minutes: another one takes its place."""
        self.stop()
        self.start_server()


TOOLS: Mapping[str, type[Tool]] = {
    "frp": Frp,
    "chisel": Chisel,
    "rathole": Rathole,
    "bore": Bore,
    "wstunnel": Wstunnel,
}
