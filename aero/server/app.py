"""The server's life: listen, say so, serve until told to stop, leave in good order."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Callable, TextIO

from gevent.event import Event

from aero import __version__, logs
from aero.address import TCP, UDP, Address, UnixPath
from aero.config.roles import ServerConfig, reloaded
from aero.config.values import SAME
from aero.core.aead.choose import choose, choose_lazily
from aero.core.codes import Close
from aero.core.memory import Memory
from aero.core.session import SessionLimits
from aero.errors import AeroError
from aero.host import privileges
from aero.host.facts import memory_share, outgoing_ports
from aero.host.run import on_signals, reload_done, reload_failed, set_up
from aero.limits import Limits
from aero.net import congestion
from aero.net.announced import Announcers
from aero.net.listen import Listener, listen_at, listen_or_explain, listen_unix
from aero.net.lookup import Names
from aero.net.loop import Loop, Watcher, event_loop, stopped
from aero.net.semaphore import Semaphore
from aero.net.threads import apart
from aero.server.ground import Ground
from aero.server.httpmux.urls import Face, target_url
from aero.server.links.certificates import Certificates, Pair
from aero.server.links.compression import Compression
from aero.server.links.entrance import Entrance
from aero.server.links.gate import Gate
from aero.server.links.invitations import Invitations
from aero.server.links.roll import Roll
from aero.server.links.roll import read as read_roll
from aero.server.links.sessions import Sessions
from aero.server.policy.proxies import Trust
from aero.server.present import Present
from aero.server.registry.domains import Domains, Reserved
from aero.server.registry.doors import tcp, udp
from aero.server.registry.ports.ports import Ports
from aero.server.registry.quotas import Quotas
from aero.server.registry.registry import Registry
from aero.server.registry.tenants import Tenants
from aero.server.store.credentials import CredentialTable
from aero.server.store.database import Database
from aero.server.store.leases import Leases
from aero.server.store.rhythms import LOOK_S, Rhythms
from aero.server.store.usage import SAMPLE_S, Calendar, Usage
from aero.server.watch.access import AccessLog
from aero.server.watch.counters import Birth, Counters
from aero.server.watch.dump import dump
from aero.server.watch.events import Events

if TYPE_CHECKING:
    from aero.server.api.app import Api
    from aero.server.httpmux.server import Mux
    from aero.server.watch.hooks import Hooks

log = logs.get("server")

_DAY_S = 24 * 3600
GOODBYE_S = 1.0  # what workers get to hear that the server is going down
_GOING_DOWN = "the server is going down"
_LOOK_S = 0.1  # how often a server that is to stop looks whether its last stream has ended


class Server:
    """Everything that one server process has."""

    def __init__(self, config: ServerConfig) -> None:
        """Listens at once, and becomes the user of ``--run-as`` before it opens any file.

        Raises ConfigError, ListenError, HostError.
        """
        if config.run_as:
            privileges.user(config.run_as)  # no such user: better said before any port is bound
        loop = event_loop()
        socks = listen_or_explain(config.ips, config.port, "--port")
        mux_socks = [sock for at in config.mux if isinstance(at, Address) for sock in listen_at(at, "--mux")]
        mux_tls_socks = listen_at(config.mux_tls, "--mux-tls") if config.mux_tls is not None else []
        api_socks = _listen_for_api(config.api)
        # All load libraries, which an archive keeps where only root may look: another user must have all of them now.
        backend = (choose if config.run_as else choose_lazily)(config.aead)
        memory = Memory(config.memory or memory_share())
        compression = Compression(memory)
        if config.run_as:
            compression.load()
        congestion.require(config.congestion)
        self._certificates = Certificates(_pairs(config), config.state)
        if config.tls_certs:
            self._certificates.load()  # what is wrong with them should be said now
        reading = read_roll(config)
        self.roll = Roll(reading)
        if config.run_as:
            from aero.server.stepdown import step_down

            step_down(config.run_as, config)
        self._database = Database(config.state)
        leases, counters, events = Leases(self._database), Counters(), Events()
        ports = {
            proto: Ports(proto, door.bind, config.ips, *config.ports, leases, config.lease_days * _DAY_S)
            for proto, door in ((TCP, tcp), (UDP, udp))
        }
        usage = self._keep_usage(loop, counters, config)
        rhythms = Rhythms(self._database, events.fault)
        events.listeners.add(lambda event: rhythms.hear(event.what, event.fields))
        self._late = loop.timer(LOOK_S, LOOK_S)
        self._late.start(rhythms.look)
        self._access: AccessLog | None = None
        if config.access_log:
            self._access = AccessLog(loop, config.access_log, config.access_log_format, config.log_size)
        announcers = Announcers.build(loop, Trust(config.proxy_protocol))
        self.ground = ground = Ground(
            loop=loop,
            present=Present(config),
            birth=Birth.now(),
            backend=backend,
            memory=memory,
            session_limits=SessionLimits(),
            counters=counters,
            events=events,
            leases=leases,
            rhythms=rhythms,
            usage=usage if not config.no_history else None,
            announcers=announcers,
            registry=Registry(
                loop, ports, events, counters, announcers, Tenants(reading.users), self._database
            ),
        )
        self.invitations = Invitations(self.roll, events)
        self._hooks: Hooks | None = None
        if config.hooks or config.hook_asks:
            self._start_hooks(config)
        self.registry.keep_access(self._access)
        self.registry.away.begin(leases)
        if mux_socks or mux_tls_socks or SAME in config.mux:
            self.registry.domains = Domains(
                config.target_domains,
                Reserved(config.mux_hosts, config.domain),
                self._certificates.covers if config.tls_certs else None,
                lambda: self.registry.tenants.users.rules.values(),
            )
        if config.listen_unix:
            from aero.server.registry.doors import sockets

            sockets.prepare(config.listen_unix)
            self.registry.sockets = sockets.Sockets(config.listen_unix)
        self.registry.lacks = compression.lacks
        self.registry.quotas = Quotas(loop, usage, events, self.registry.workers)
        self.sessions = Sessions(ground)
        self.roll.open(CredentialTable(self._database), self.sessions, self.registry)
        entrance = Entrance(counters, self._certificates, config.link_path, Trust(config.trust_proxy))
        self.gate = Gate(
            ground, self.sessions, self.roll.codes, entrance, self.invitations, compression.offered
        )
        self._listeners = [
            Listener(loop, sock, announcers.porch(self.gate.connected).entrance) for sock in socks
        ]
        self._mux = self._start_mux(mux_socks, socks if SAME in config.mux else [], mux_tls_socks)
        entrance.web = self._mux if SAME in config.mux else None
        entrance.secure_web = self._mux
        self._listeners += [
            Listener(loop, sock, announcers.porch(self.gate.visited).entrance) for sock in mux_tls_socks
        ]
        self._api = self._start_api(config.api, api_socks)

    def _keep_usage(self, loop: Loop, counters: Counters, config: ServerConfig) -> Usage:
        """With --no-history in memory only: quotas need it."""
        database = Database("") if config.no_history else self._database
        usage = Usage(database, counters.totals.items, Calendar(config.utc))
        self._sampling: Watcher | None = None
        if not config.no_history:
            self._sampling = loop.timer(SAMPLE_S, SAMPLE_S)
            self._sampling.start(usage.sample)
        return usage

    def _start_hooks(self, config: ServerConfig) -> None:
        from aero.server.registry.asking import AskedHook
        from aero.server.watch.hooks import Hooks
        from aero.server.watch.posting import Poster

        poster = Poster(Names(self.ground.loop, Limits.NAME_THREADS), config.hook_secret)
        self._hooks = Hooks(self.ground.loop, self.ground.events, config.hooks, poster, config.hook_lost_s)
        if config.hook_asks:
            self.registry.permits = AskedHook(config.hook_asks, poster, config.hook_fails == "open")

    def _start_mux(
        self, own: list[socket.socket], same: list[socket.socket], tls: list[socket.socket]
    ) -> Mux | None:
        if not own and not same and not tls:
            return None
        from aero.server.httpmux.server import Mux

        return Mux(self.ground, own, [*same, *tls])

    def _start_api(self, where: Address | UnixPath | None, socks: list[socket.socket]) -> Api | None:
        if where is None:
            return None
        from aero.server.api.app import Api

        return Api(self.ground, where, socks, self.port, self.mux_face, self.invitations)

    @property
    def registry(self) -> Registry:
        """Who is here."""
        return self.ground.registry

    @property
    def aead(self) -> str:
        """The library that seals and opens records, with its version."""
        return self.ground.backend.description

    @property
    def api_address(self) -> Address | UnixPath | None:
        """Where the API listens, None when it is off."""
        return self._api.address if self._api is not None else None

    @property
    def mux_address(self) -> Address | None:
        """Where the HTTP mux listens, None when it is off."""
        return self._mux.address if self._mux is not None else None

    @property
    def mux_face(self) -> Face | None:
        """How the mux is visited, None when it is off."""
        config, where = self.ground.present.config, self.mux_address
        plain = any(isinstance(each, Address) for each in config.mux)
        return where and Face(where, "http" if plain or not config.tls_certs else "https")

    @property
    def port(self) -> int:
        """The link port."""
        port: int = self._listeners[0].address[1]
        return port

    def announce(self) -> None:
        """The first lines of the log: what this is, where it listens, and what to type at the other end."""
        config = self.ground.present.config
        where = ", ".join(str(Address(ip, self.port)) for ip in config.ips)
        log.info(
            f"AeRO-proxy {__version__} server",
            links=where,
            mappings=f"{config.ports[0]}-{config.ports[1]}" if config.ports[0] else "any free port",
            aead=self.aead,
            auth="set" if config.auth else "none",
            **({"users": len(self.roll.reading.users.rules)} if config.users else {}),
        )
        for warning in self.roll.reading.warnings:
            log.warning(warning)
        if self.api_address is not None:
            at = f"http://{self.api_address}/" if isinstance(self.api_address, Address) else self.api_address
            log.info(
                f"management API and page: {at}",
                token="set" if config.api_token else "none",
            )
        if self.mux_face is not None:
            url = target_url(self.mux_face, config.domain, "TAG", "TARGET")
            log.info(f"targets by HTTP: {url}")
        low, high = outgoing_ports()
        if config.ports[0] and config.ports[0] <= high and config.ports[1] >= low:
            log.warning(
                "--ports overlaps the ports of outgoing connections: while the server restarts, one of these can take a"
                " worker's port; choose lower ones, or reserve them (sysctl net.ipv4.ip_local_reserved_ports)",
                ports=f"{config.ports[0]}-{config.ports[1]}",
                outgoing=f"{low}-{high}",
            )
        if not config.auth and self.roll.reading.users.default is not None:
            log.warning(
                "no auth code is set: links are encrypted, but anyone may register targets; see --auth"
            )
        auth = " --auth ****" if config.auth else ""
        log.info(
            "behind NAT, with this machine's name or address as HOST, run: "
            f"python3 aero.pyz client --server HOST:{self.port} --target web@127.0.0.1:80{auth}"
        )

    def invite(self, stream: TextIO | None) -> None:
        """Shows a person who looks on where the page is, and what it may change things by. Never goes to a log."""
        if self._api is not None and self._api.invitation and stream is not None and stream.isatty():
            print(f"the page, with the key to change things: {self._api.invitation}", file=stream, flush=True)

    def reload(self, read: Callable[[], ServerConfig]) -> tuple[list[str], list[str]]:
        """Takes over what can change while it runs; links stay, unless the code is another. SIGHUP asks for it.

        Which options changed, and which need a restart. Raises AeroError where nothing could be changed, once the log
        has it.
        """
        try:
            new = read()
            reading = apart(read_roll, new)  # 10,000 users take a second
            if self._api is not None:
                self._api.reload(new.auth, new.api_token)
            certificates = self._certificates.change(_pairs(new))
            other = self.roll.change(reading)
        except AeroError as error:
            reload_failed(error, self.ground.present.config.run_as)
            raise
        present = self.ground.present
        config, changed, fixed = reloaded(present.config, new)
        if other:
            self.gate.penalties.forget()
            if config.users and "users" not in changed:
                changed.append(f"users ({config.users})")
        present.config = config
        if self.registry.domains is not None and self.registry.domains.globs != config.target_domains:
            self.registry.domains.globs = config.target_domains
            self.registry.enforce()
        if self._access is not None:
            self._access.reopen()
        if certificates:
            log.info("certificates were read anew; connections that are open keep those they began with")
        reload_done(config.replace(warnings=(*config.warnings, *reading.warnings)), changed, fixed)
        return changed, fixed

    def reload_on_demand(self, read: Callable[[], ServerConfig]) -> Callable[[], None]:
        """What SIGHUP calls; from now on the API's POST /reload reads by the same function, and never beside it."""
        turn = Semaphore(1)

        def reload() -> tuple[list[str], list[str]]:
            with turn:
                return self.reload(read)

        def on_signal() -> None:
            with suppress(AeroError):  # the log has it
                reload()

        if self._api is not None:
            self._api.reload_all = reload
        return on_signal

    def drain(self, hurry: Event) -> None:
        """Takes no new workers and visitors, and lets streams end; until drain_s is over or ``hurry`` is set."""
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        self.registry.leaving = self.ground.rhythms.leaving = True
        for worker in self.registry.workers.values():
            for mapping in list(worker.mappings.values()):
                self.registry.mappings.drop(worker, mapping)
            worker.lobby.close()
            for each in worker.sessions:
                each.session.goaway(Close.RESTART, _GOING_DOWN)
        if self._mux is not None:
            self._mux.drain()
        until = monotonic() + self.ground.present.config.drain_s
        while self.registry.streams and monotonic() < until and not hurry.is_set():
            hurry.wait(_LOOK_S)

    def dump(self) -> None:
        """Writes the state to the log. SIGUSR1 asks for it."""
        parts = (self.registry, self.sessions, self.gate)
        state = {key: value for part in parts for key, value in part.state().items()}
        state["kept_kib"] = self.ground.memory.blocks.taken_bytes >> 10
        packer = self.ground.memory.packer
        if packer is not None and packer.summary:
            state["zstd"] = packer.summary
        dump(state, (worker.state() for worker in list(self.registry.workers.values())))

    def close(self, code: int = Close.RESTART) -> None:
        """Sends every worker away, closes everything, and gives them a moment to hear why."""
        self.ground.rhythms.leaving = True
        for listener in self._listeners:
            listener.close()
        if self._mux is not None:
            self._mux.close()
        if self._api is not None:
            self._api.close()
        self.registry.close(code, _GOING_DOWN)
        if self._access is not None:
            self._access.close()
        if self._hooks is not None:
            self._hooks.close()
        for timer in (self._sampling, self._late):
            stopped(timer)
        if self.ground.usage is not None:
            self.ground.usage.sample()  # the last bytes, now that every stream has ended
        self._database.close()
        self.sessions.close(GOODBYE_S)


def _pairs(config: ServerConfig) -> tuple[Pair, ...]:
    """The operator's certificates and keys."""
    return tuple(Pair(*each) for each in config.tls_pairs)


def _listen_for_api(where: Address | UnixPath | None) -> list[socket.socket]:
    """Sockets for --api, none when that is off. Raises ListenError."""
    if isinstance(where, UnixPath):
        return [listen_unix(where, "--api")]
    return listen_at(where, "--api") if where is not None else []


def run(config: ServerConfig, started: Callable[[], None], read: Callable[[], ServerConfig]) -> int:
    """Serves until SIGTERM or SIGINT; 0. Calls ``started`` when it listens; ``read`` gathers the options anew.

    Raises ConfigError, ListenError, HostError.
    """
    set_up(config, log_later=bool(config.run_as))
    server = Server(config)
    server.announce()
    server.invite(sys.stdout)
    stop, hurry = Event(), Event()

    def on_stop() -> None:
        (hurry if stop.is_set() else stop).set()

    on_signals(on_stop, server.reload_on_demand(read), server.dump)
    started()
    stop.wait()
    log.info("stopping", streams=server.registry.streams)
    server.drain(hurry)
    server.close()
    return 0
