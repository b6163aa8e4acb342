"""What can be configured: every option of both roles with its default, frozen.

This module puts checked values (aero.values) together into ServerConfig and ClientConfig. It must not know
where the text came from (a command line, the environment, a file: aero.cli.main), nor open sockets, nor log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable, NamedTuple, TypeVar, Union

from aero import values
from aero.errors import ConfigError
from aero.values import CID, NAME, Address, Target, check_name, check_tag

__all__ = [
    "CID",
    "NAME",
    "Address",
    "ClientConfig",
    "ConsoleConfig",
    "Limits",
    "Options",
    "ServerConfig",
    "Target",
]
__all__ += ["check_name", "check_tag"]

T = TypeVar("T")
V = TypeVar("V")
Raw = Union[str, bool, list[str], None]


class Options:
    """Raw option values by name (``log-size``), and how messages call each (``--log-size``)."""

    def __init__(self, given: Mapping[str, Raw], places: Mapping[str, str] | None = None) -> None:
        self._given = given
        self._places = places or {}
        self.warnings: list[str] = []
        self.gather: Callable[[], Options] | None = None

    def raw(self) -> dict[str, tuple[Raw, str]]:
        """Every option that some source gives, with its raw value and how messages call it."""
        return {option: (self._given.get(option), place) for option, place in self._places.items()}

    def flag(self, option: str) -> bool:
        """Whether a flag is set."""
        return bool(self._given.get(option))

    def take(self, option: str, parse: Callable[[str], T], default: T) -> T:
        """The checked value of an option, or ``default`` where it is not given."""
        value = self._given.get(option)
        if not isinstance(value, str):
            return default
        return self._placed(option, parse, value)

    def take_list(self, option: str, parse: Callable[[list[str]], T]) -> T:
        """The checked value of an option that may repeat; no value gives an empty list to ``parse``."""
        value = self._given.get(option)
        if isinstance(value, str):
            value = [value]
        return self._placed(option, parse, value if isinstance(value, list) else [])

    def idle(self, part: str, names: tuple[str, ...]) -> list[str]:
        """Warnings for options that are given while what they are for is switched off by ``--part off``."""
        off = self._given.get(part) == "off"
        return [
            f"{self._place(name)} does nothing while {self._place(part)} is off"
            for name in names
            if off and self._given.get(name)
        ]

    def again(self) -> Options:
        """The same options, gathered anew from where they came from. Raises ConfigError."""
        if self.gather is None:
            raise ConfigError("these options have no source to be read from again")
        return self.gather()

    def detach(self) -> bool:
        """The flag ``--detach``, which needs a log, since nobody sees a background process' stderr."""
        if self.flag("detach") and not self._given.get("log"):
            raise ConfigError(f"{self._place('detach')} needs a log file, write --log FILE too")
        return self.flag("detach")

    def take_auth(self, option: str = "auth") -> str:
        """The code of ``--auth``, or of another option, "" where none is given.

        Extends ``warnings``, which ``--strict`` makes errors.
        """
        no_code: tuple[str, tuple[str, ...]] = ("", ())
        code, warnings = self.take(option, values.auth_code, no_code)
        self.warnings += warnings
        if self.flag("strict") and self.warnings:
            raise ConfigError(self.warnings[0])
        return code

    def _placed(self, option: str, parse: Callable[[V], T], value: V) -> T:
        try:
            return parse(value)
        except ConfigError as error:
            raise ConfigError(f"{self._place(option)}: {error}") from None

    def _place(self, option: str) -> str:
        return self._places.get(option, "--" + option)


# ----------------------------------------------------------------------------
# The two configurations
# ----------------------------------------------------------------------------


class ServerConfig(NamedTuple):
    """What a server runs with.

    ``api`` and ``mux`` are None when off; ``ports`` are the first and last port for mappings ((0, 0): the
    system chooses); ``log`` is "" for stderr, ``log_size`` is in bytes; ``state`` is "" when nothing can be
    kept; ``aead`` is "" for the fastest backend; ``lock`` is None for no lock, "" for the default one
    (`lock_name`); ``detach`` comes with a ``log`` only; ``warnings`` are lines for the log.
    """

    ips: tuple[str, ...] = ("0.0.0.0",)
    port: int = 8080
    auth: str = ""
    api: Address | None = Address("localhost", 3000)
    mux: Address | None = Address("localhost", 4000)
    domain: str = ""
    trust_proxy: values.Networks = ()
    # Above nearly every registered service, and room for ten thousand leases and more to come back to.
    ports: tuple[int, int] = (20000, 39999)
    debug: bool = False
    log: str = ""
    log_format: str = "text"
    log_size: int = 10 * 1024 * 1024
    state: str = ""
    aead: str = ""
    lock: str | None = None
    detach: bool = False
    # A laptop's lid, a router's restart, a change of network.
    resume_s: int = 60
    # Requests end within it; downloads and shells would take longer than anybody waits for a restart.
    drain_s: int = 5
    user: str = ""
    warnings: tuple[str, ...] = ()
    api_token: str = ""

    @classmethod
    def parse(cls, options: Options) -> ServerConfig:
        """Check everything that was asked for. Raises ConfigError."""
        base = cls()
        auth, api_token = options.take_auth(), options.take_auth("api-token")
        api = options.take("api", values.listening_address, base.api)
        if api is not None and not api_token and not values.is_loopback(api.host):
            raise ConfigError(
                f"--api: {api} can be reached from elsewhere: set --api-token too, or write localhost:{api.port}"
            )
        for part, needed in (("mux", ("domain", "trust-proxy")), ("api", ("api-token",))):
            options.warnings += options.idle(part, needed)
        return cls(
            ips=options.take("ip", values.addresses, base.ips),
            port=options.take("port", values.listening_port, base.port),
            auth=auth,
            api=api,
            api_token=api_token,
            mux=options.take("mux", values.listening_address, base.mux),
            domain=options.take("domain", values.domain, base.domain),
            trust_proxy=options.take("trust-proxy", values.networks, base.trust_proxy),
            resume_s=options.take("resume", values.integer(*values.RESUME_S, "seconds"), base.resume_s),
            drain_s=options.take("drain", values.integer(*values.DRAIN_S, "seconds"), base.drain_s),
            user=options.take("user", values.user, base.user),
            ports=options.take("ports", values.port_range, base.ports),
            debug=options.flag("debug"),
            log=options.take("log", values.path, base.log),
            log_format=options.take("log-format", values.one_of(values.LOG_FORMATS), base.log_format),
            log_size=options.take("log-size", values.log_size, base.log_size),
            state=options.take("state", values.path, "") or values.default_state(),
            aead=options.take("aead", values.one_of(values.AEADS), base.aead),
            lock=options.take("lock", values.lock_file, base.lock),
            detach=options.detach(),
            warnings=tuple(options.warnings),
        )

    def lock_name(self) -> str:
        """What tells this server from others on this host: where workers dial it."""
        return f"server-{self.port}-{_digest(*self.ips)}"

    def __repr__(self) -> str:
        return _masked(self)


class ConsoleConfig(NamedTuple):
    """What asks a server's API: ``tags`` and ``as_json`` are for lists, ``cid`` names one worker, "" none."""

    api: Address = Address("localhost", 3000)
    api_token: str = ""
    tags: tuple[str, ...] = ()
    as_json: bool = False
    cid: str = ""

    @classmethod
    def parse(cls, options: Options) -> ConsoleConfig:
        """Check everything that was asked for. Raises ConfigError."""
        base = cls()
        return cls(
            api=options.take("api", values.api_address, base.api),
            api_token=options.take_auth("api-token"),
            tags=options.take("tags", values.tag_list, base.tags),
            as_json=options.flag("json"),
            cid=options.take("cid", values.cid, base.cid),
        )

    def __repr__(self) -> str:
        return _masked(self)


class ClientConfig(NamedTuple):
    """What a worker runs with.

    ``server`` is what it dials; ``ping_s`` is in seconds; ``pool`` counts parallel links; ``once`` means: do
    not retry; the rest is as in ServerConfig.
    """

    tag: str = "aero"
    host: str = "localhost"
    server: Address = Address("0.0.0.0", 8080)
    targets: tuple[Target, ...] = ()
    auth: str = ""
    debug: bool = False
    log: str = ""
    log_format: str = "text"
    log_size: int = 10 * 1024 * 1024
    ping_s: int = 60
    pool: int = 1
    once: bool = False
    state: str = ""
    aead: str = ""
    lock: str | None = None
    detach: bool = False
    warnings: tuple[str, ...] = ()

    @classmethod
    def parse(cls, options: Options) -> ClientConfig:
        """Check everything that was asked for. Raises ConfigError."""
        base = cls()
        return cls(
            tag=options.take("tag", check_tag, base.tag),
            host=options.take("host", values.host, "") or values.machine_host(),
            server=options.take("server", lambda text: Address.parse(text, base.server.port), base.server),
            targets=options.take_list("target", values.target_list),
            auth=options.take_auth(),
            debug=options.flag("debug"),
            log=options.take("log", values.path, base.log),
            log_format=options.take("log-format", values.one_of(values.LOG_FORMATS), base.log_format),
            log_size=options.take("log-size", values.log_size, base.log_size),
            ping_s=options.take("ping", values.integer(*values.PING_S, "seconds"), base.ping_s),
            pool=options.take("pool", values.integer(1, values.POOL_LINKS, "links"), base.pool),
            once=options.flag("once"),
            state=options.take("state", values.path, "") or values.default_state(),
            aead=options.take("aead", values.one_of(values.AEADS), base.aead),
            lock=options.take("lock", values.lock_file, base.lock),
            detach=options.detach(),
            warnings=tuple(options.warnings),
        )

    def lock_name(self) -> str:
        """What tells this worker from others: server, tag and targets; and the host, as homes can be shared."""
        return f"client-{self.tag}-{_digest(self.host, str(self.server), *sorted(map(str, self.targets)))}"

    def __repr__(self) -> str:
        return _masked(self)


C = TypeVar("C", ServerConfig, ClientConfig)


def reloaded(old: C, new: C, live: tuple[str, ...]) -> tuple[C, list[str]]:
    """``old`` with what is ``new`` in those fields that can change while it runs; and which others would change."""
    fixed = [
        name
        for name in old._fields
        if name not in live and name != "warnings" and getattr(old, name) != getattr(new, name)
    ]
    config = old._replace(**{name: getattr(new, name) for name in (*live, "warnings")})
    return config, fixed


def _digest(*texts: str) -> str:
    import hashlib

    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _masked(config: ServerConfig | ClientConfig | ConsoleConfig) -> str:
    shown = config._asdict()
    for secret in ("auth", "api_token"):
        if shown.get(secret):
            shown[secret] = "***"
    return f"{type(config).__name__}({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


# ----------------------------------------------------------------------------
# Limits of the running program
# ----------------------------------------------------------------------------


class Limits:
    """Bounds of queues, buffers, tables and waits, each with its reason."""

    # Workers on one server: each costs a descriptor, a port a target, and some 40 KiB before its first byte.
    WORKERS = 4096
    TARGETS_PER_WORKER = values.TARGETS
    NAME_CHARS = values.NAME_CHARS

    # The API's connections: a few people's browsers (six each), a scraper, scripts.
    API_CONNECTIONS = 128
    # Of these, how many from one address (IPv6: one /64), this machine's own apart: a scraper, and four browsers.
    API_CONNECTIONS_PER_ADDRESS = 32
    # Of these, how many may listen to events, each with so many waiting (some 300 bytes) before it is cut off.
    API_LISTENERS = 32
    API_EVENTS = 1000
    # Proxies cut what is silent for a minute; the page says that the server is lost after two of these.
    API_HEARTBEAT_S = 10.0
    # A head with a long token and every header that browsers send has 2 KiB; a body says nothing at all.
    API_HEAD_BYTES = 16 * 1024
    API_BODY_BYTES = 4 * 1024
    # A whole request, also the wait for the next one; and how long its reader may leave an answer in our buffers.
    API_REQUEST_S = 15.0
    API_SEND_S = 20.0
    # How long a ping through the API waits: links that need longer are as good as dead for requests.
    API_PING_S = 5.0
    # Lines of throughput that are kept for the page, 2.5 KiB each, and 30 ms of the loop to tell all to a new page;
    # beyond them only the line of all goes on.
    TRAFFIC_SERIES = 512

    # Visitors of the HTTP mux: with 10 KiB each while idle, and their streams, below the memory of a small host.
    MUX_VISITORS = 8192
    # Of these, how many from one address (IPv6: one /64): an office behind one NAT, six connections a browser.
    MUX_VISITORS_PER_ADDRESS = 256
    # Heads, each way: browsers and common servers stop at 8 KiB a field and 100 fields or a little more.
    MUX_HEAD_BYTES = 32 * 1024
    MUX_HEAD_FIELDS = 128
    # Interim responses before the final one, together no larger than a head: 100, 103 and 102 now and then; without
    # end they would be an attack.
    MUX_INTERIM_HEADS = 16
    # A head is one packet or few; the next request may be a person's next click.
    MUX_HEAD_S = 15.0
    MUX_IDLE_S = 60.0
    # Silence in the middle of a request's body, or of a response that its reader does not take: a train's tunnel.
    MUX_BODY_S = 60.0
    MUX_SEND_S = 60.0
    # The target's time to answer: a slow RPC is what people have; beyond five minutes nobody holds a request open.
    MUX_ANSWER_S = 300.0
    # What a visitor who is told no may still send, and how long, before the connection is closed under it.
    MUX_LINGER_S = 2.0
    MUX_LINGER_BYTES = 1024 * 1024
    # Mappings that one request is tried at, and how much of its body is kept to send it again: an RPC's arguments.
    MUX_TRIES = 4
    MUX_REPLAY_BYTES = 16 * 1024
    # Connections to targets kept for the next request: as many as a browser or a busy client has at once, and in all
    # no more than a worker's session carries easily.
    MUX_POOLED_PER_TARGET = 64
    MUX_POOLED = 1024
    # For how long: most targets hang up first (after 5 s, often). What may not be sent twice takes only one that was
    # used so recently that no server in wide use has given it up (the shortest patience is 2 s).
    MUX_POOLED_S = 15.0
    MUX_POOLED_FRESH_S = 1.0
    # How long a target has to close a connection that we have ended.
    MUX_RETIRE_S = 5.0

    # Pairs of tag and target whose bytes are counted apart (peers choose both): some 400 bytes and four lines each.
    COUNTED_TARGETS = 4096
    # How long the streams of a worker that is sent away may go on: requests end, downloads are cut.
    KICK_S = 10.0

    # Handshakes that are under way at once. Each may last 10 s, so 256 let 25 workers a second in even while all
    # other places are held by peers that say nothing: a newcomer takes the place of one of those who have come least
    # far, by lot.
    HANDSHAKES = 256
    # Of these, how many may come from one address (IPv6: one /64): a rack of workers behind one NAT after a power cut.
    HANDSHAKES_PER_ADDRESS = 64

    # Visitors that come while no link of their worker is up wait for one: longer than a redial takes, shorter than
    # people's patience. So many for each worker: a second of a busy service.
    VISITOR_WAIT_S = 5.0
    WAITING_VISITORS = 1024
    # What a worker may ask in control messages: all its targets in one message, some reloads in a row, then a few a
    # minute as people edit files; each can cost a bind, a row and a line of log for every target.
    CONTROL_BURST = 32
    CONTROL_PER_S = 1.0
    # What is answered costs more than asking: pings of a worker (one at once and one an interval, which is a second at
    # least; a few more after a stop), and streams that it opens at the server, where there is nothing to reach.
    PINGS_BURST = 16
    PINGS_PER_S = 4.0
    OPENS_BURST = 16
    OPENS_PER_S = 1.0
    # After the handshake a worker says what it wants with the same packet; the rest is for slow paths.
    JOIN_S = 10.0
    # How long an old link that seems alive has to answer when the same worker dials anew (docs/architecture.md, "The
    # same worker").
    PROOF_OF_LIFE_S = 2.0

    # Memory that all sessions of a process keep until acknowledged, in blocks of 256 KiB: 256 MiB in all, beside
    # the first of each. Free blocks kept for reuse: what a fast bulk transfer has under way, 8 MiB; they are given back
    # while nothing moves.
    KEPT_BLOCKS = 1024
    FREE_BLOCKS = 32

    # Dialling the server: the first try after a loss is immediate, then twice as long each time, up to half a minute,
    # each with jitter, so that a thousand workers do not come back in one second.
    RETRY_FIRST_S = 0.5
    RETRY_MOST_S = 30.0
    # A link that was up this long, or carried this much, was good: it is dialled again at once when it is lost. After
    # any other each try waits longer, or a server that drops every link would be dialled a thousand times a second.
    RETRY_GOOD_S = 3.0
    RETRY_GOOD_BYTES = 256 * 1024
    # After a wrong code, or when another with our identity took our place: slow enough to be no nuisance, quick enough
    # to come back by itself when the code is mended.
    RETRY_REFUSED_S = 30.0
    # After an operator's kick: long enough to see that it is gone and to change what was wrong, e.g. its code.
    RETRY_KICKED_S = 30.0
    # A target whose port could not be had asks again: whoever holds the port may be gone.
    REGISTER_RETRY_S = 30.0
    # Connecting to a target, which is near the worker.
    TARGET_CONNECT_S = 10.0
    # How long the addresses behind a target's name are kept: shorter than any TTL that somebody waits for.
    NAME_CACHE_S = 5.0
